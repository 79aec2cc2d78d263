"""Options of ``dropdrift bench kernels``. Needs no torch, so that the help is quick."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from dropdrift.benchmarks.kernels.record import Direction, Dtype, Op
from dropdrift.benchmarks.kernels.sizes import parse_sizes

Activation = Literal["relu", "silu", "gelu"]
ProviderName = Literal[
    "eager",
    "eager-split",
    "compile",
    "compile-max",
    "dropdrift-torch",
    "dropdrift-torch-save",
    "dropdrift-triton",
    "dropdrift-triton-save",
]
PROVIDERS: tuple[ProviderName, ...] = get_args(ProviderName)
OpChoice = Literal[Op, "all"]
OPS: tuple[Op, ...] = get_args(Op)


@dataclass(frozen=True)
class KernelOptions:
    """The kernels next to what they replace: every result is checked first, then timed.

    Attributes:
        op: Operators to measure; the denoiser brings the mask words along, which are part of its
            time.
        providers: Who computes them; none: all that can on the device. eager: torch.rand, compare,
            concatenation and two linear layers; eager-split: W1 in two, no concatenation; compile:
            torch.compile of eager; compile-max: of eager-split, with max-autotune; dropdrift-torch
            and -triton: the backends, which recompute the hidden layer in the backward; -save: they
            keep it.
        direction: What is timed; both: a forward and its backward in one call.
        sizes: Named lists (cpu, serving, training, report) or ROWSxFIELDSxWIDTHxHIDDEN; none: cpu
            on a CPU, training on a GPU.
        dtype: Types of the tensors; none: float32 and bfloat16 on a CPU, bfloat16 on a GPU.
        device: Where; auto: a GPU if there is one.
        activation: Of the denoiser's hidden layer.
        seconds: How long each provider is timed, twice; slow ones take longer.
        seed: Seed of tensors and masks.
        out: JSON lines file to append the measurements to.
    """

    op: tuple[OpChoice, ...] = ("all",)
    providers: tuple[ProviderName, ...] = ()
    direction: tuple[Direction, ...] = ("forward", "both")
    sizes: tuple[str, ...] = ()
    dtype: tuple[Dtype, ...] = ()
    device: Literal["auto", "cpu", "cuda"] = "auto"
    activation: Activation = "relu"
    seconds: float = 0.5
    seed: int = 0
    out: Path = Path("runs/bench/kernels.jsonl")

    def __post_init__(self) -> None:
        for name in ("op", "direction"):
            if not getattr(self, name):
                raise ValueError(f"{name} is empty: give at least one")
        for name in ("op", "providers", "direction", "sizes", "dtype"):
            values = getattr(self, name)
            for value in values:
                if values.count(value) > 1:
                    raise ValueError(f"{name} lists {value} {values.count(value)} times")
        parse_sizes(self.sizes)
        if self.seconds <= 0:
            raise ValueError(f"seconds is {self.seconds}, must be positive")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}, must be at least 0")
        if self.device == "cpu":
            for name in self.providers:
                if is_triton(name):
                    raise ValueError(f"providers has {name}, which runs on a GPU alone")

    def ops(self) -> tuple[Op, ...]:
        """The operators that are measured, in their order."""
        chosen = set(OPS if "all" in self.op else self.op)
        if "denoiser" in chosen:
            chosen.add("mask-words")
        return tuple(op for op in OPS if op in chosen)


def is_triton(provider: str) -> bool:
    """Whether it launches the Triton kernels, for whose time a CPU has no meaning."""
    return provider.startswith("dropdrift-triton")
