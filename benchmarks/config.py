"""Options of the benchmarks. Needs no torch, so that the help is quick."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dropdrift.models.methods.config import MethodKind
from dropdrift.models.t2diff.config import EstimatorKind

# A window must hold a session, and be halved by the U-Net's levels.
LEAST_WINDOW = 10


@dataclass(frozen=True)
class TrainingStepOptions:
    """What a training step costs with and without a method, and the speed of the loader.

    Attributes:
        data: Prepared data; none: a synthetic set, made next to the result if it is not there.
        recipe: Recipe of the model.
        method: What is compared with the recipe's base model.
        steps: Steps timed together.
        repetitions: How often each measurement is repeated.
        out: JSON file to write.
    """

    data: Path | None = None
    recipe: str = "asymdiffrec-demo"
    method: MethodKind = "asymdiffrec"
    steps: int = 40
    repetitions: int = 5
    out: Path = Path("runs/bench/training-step.json")

    def __post_init__(self) -> None:
        for name in ("steps", "repetitions"):
            _at_least(name, getattr(self, name), 1)


@dataclass(frozen=True)
class T2DiffOptions:
    """What a user's vector costs with and without T2Diff's reverse process, next to SASRec.

    Attributes:
        widths: Widths of an item's embedding, each measured by itself.
        steps: Numbers T of diffusion steps, all of them taken.
        sampling_steps: Steps taken of T = 'skipped-from', the others being skipped.
        skipped_from: That T.
        estimators: Estimators of the drift: the published U-Net, the MLP of the newest drift.
        noise: Add noise in the reverse process (DDPM); off: none (DDIM).
        window: Newest interactions that a user's vector is made from.
        data: Prepared interactions whose users are served; none: made up, each with a whole window.
        users: Users, from whom batches are taken.
        items: Items of the made-up catalogue (without data).
        batch_size: Users of a batch.
        device: Where; auto: a GPU if there is one.
        compile: Have torch compile the reverse step; on a GPU it becomes a CUDA graph. Needs a
            compiler and some minutes.
        repetitions: How often each measurement is repeated, in turn with the others.
        seed: Seed of weights, users and noise.
        out: JSON file to write.
    """

    widths: tuple[int, ...] = (4, 64)
    steps: tuple[int, ...] = (10, 50, 200)
    sampling_steps: tuple[int, ...] = (1, 3, 10)
    skipped_from: int = 50
    estimators: tuple[EstimatorKind, ...] = ("unet", "mlp")
    noise: bool = True
    window: int = 50
    data: Path | None = None
    users: int = 512
    items: int = 3706
    batch_size: int = 128
    device: Literal["auto", "cpu", "cuda"] = "auto"
    compile: bool = False
    repetitions: int = 3
    seed: int = 0
    out: Path = Path("runs/bench/t2diff.json")

    def __post_init__(self) -> None:
        for name in ("users", "items", "batch_size", "repetitions", "skipped_from"):
            _at_least(name, getattr(self, name), 1)
        _at_least("seed", self.seed, 0)
        _at_least("window", self.window, LEAST_WINDOW)
        for name in ("widths", "estimators"):
            if not getattr(self, name):
                raise ValueError(f"{name} is empty: give at least one")
        for name in ("steps", "sampling_steps"):
            for value in getattr(self, name):
                _at_least(name, value, 1)
        for name in ("widths", "steps", "sampling_steps", "estimators"):
            values = getattr(self, name)
            for value in values:
                if values.count(value) > 1:
                    raise ValueError(f"{name} lists {value} {values.count(value)} times")
        for width in self.widths:
            if width < 2 or width % 2:
                raise ValueError(
                    f"widths has {width}, must be even and positive: there are two attention heads"
                )
        for count in self.sampling_steps:
            if count > self.skipped_from:
                raise ValueError(
                    f"sampling-steps has {count}, must be at most skipped-from, {self.skipped_from}"
                )
        if self.users < self.batch_size:
            raise ValueError(
                f"users is {self.users}, must be at least batch-size, {self.batch_size}"
            )


def _at_least(name: str, value: int, least: int) -> None:
    name = name.replace("_", "-")
    if value < least:
        adjective = "positive" if least == 1 else f"at least {least}"
        raise ValueError(f"{name} is {value}, must be {adjective}")
