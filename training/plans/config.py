"""Options of ``dropdrift plan``. Needs no torch, so that the command line's help is quick."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from dropdrift.sharding.calibration.config import CalibrationConfig
from dropdrift.sharding.config import AUTO, PlanLimits
from dropdrift.training.config import RecipeConfig


@dataclass(frozen=True)
class PlanConfig(RecipeConfig):
    """What is planned, and for what machines.

    Attributes:
        nodes: Machines.
        gpus_per_node: Ranks of a machine: its GPUs, or its processes on a CPU; 0: as many as the
            hardware has.
        hardware: Preset, or YAML file, of the machines; none: sharding.hardware, whose 'auto' is
            the CPU here.
    """

    nodes: int = 1
    gpus_per_node: int = 0
    hardware: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("nodes", 1), ("gpus_per_node", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}, must be at least {least}")

    @property
    def planned_hardware(self) -> str:
        """Preset, or YAML file, of the machines."""
        named = self.sharding.hardware if self.hardware is None else self.hardware
        return "CPU" if named == AUTO else named


@dataclass(frozen=True)
class ShowConfig(PlanConfig):
    """A plan to look at.

    Attributes:
        json: File to write the plan and all its numbers to; - writes it to the terminal instead of
            the tables.
        html: File to write the page with pictures to.
        all_tables: List every table in the terminal, rather than those that take most.
    """

    json: Path | None = None
    html: Path | None = None
    all_tables: bool = False
    limits: PlanLimits = field(default_factory=PlanLimits)


@dataclass(frozen=True)
class ExplainConfig(PlanConfig):
    """One table of a plan.

    Attributes:
        json: File to write the options and all their numbers to; - writes them to the terminal
            instead of the tables.
    """

    json: Path | None = None


@dataclass(frozen=True)
class SaveConfig(PlanConfig):
    """A plan to train with.

    Attributes:
        out: File to write, which 'dropdrift train --plan' takes.
    """

    out: Path = Path("plan.json")
    limits: PlanLimits = field(default_factory=PlanLimits)


MOST_SWEPT = 2_000


@dataclass(frozen=True)
class SweepGrid:
    """Clusters and batches to plan for, every combination of them.

    Attributes:
        nodes: Machines; the option 'nodes' itself counts for nothing here.
        gpus_per_node: Ranks of a machine; empty: the option 'gpus_per_node'.
        hardware: Presets, or YAML files; empty: the option 'hardware'.
        batch_sizes: Rows of one global batch: more GPUs share the same batch. Empty:
            data.batch_size, where rows_per_gpu is empty too.
        rows_per_gpu: Rows that each GPU has of a batch: the global batch grows with the GPUs.
    """

    nodes: tuple[int, ...] = (1, 2, 4, 8)
    gpus_per_node: tuple[int, ...] = ()
    hardware: tuple[str, ...] = ("A100-80", "H100", "H200", "B200")
    batch_sizes: tuple[int, ...] = ()
    rows_per_gpu: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.nodes:
            raise ValueError("sweep.nodes is empty, name at least one number of machines")
        for name in ("nodes", "gpus_per_node", "batch_sizes", "rows_per_gpu"):
            for value in getattr(self, name):
                if value < 1:
                    raise ValueError(f"sweep.{name} has {value}, must be positive")
        for name in ("nodes", "gpus_per_node", "hardware", "batch_sizes", "rows_per_gpu"):
            values = getattr(self, name)
            repeated = [value for value in values if values.count(value) > 1]
            if repeated:
                raise ValueError(f"sweep.{name} has {repeated[0]} more than once")
        if self.size > MOST_SWEPT:
            raise ValueError(
                f"sweep asks for {self.size:,} plans, more than {MOST_SWEPT:,}: shorten its lists"
            )

    @property
    def size(self) -> int:
        """Plans that it takes."""
        clusters = len(self.nodes) * max(len(self.gpus_per_node), 1) * max(len(self.hardware), 1)
        return clusters * max(len(self.batch_sizes) + len(self.rows_per_gpu), 1)


@dataclass(frozen=True)
class SweepConfig(PlanConfig):
    """Plans for many clusters and batches.

    Attributes:
        json: File to write all numbers to; - writes them to the terminal instead of the tables.
        html: File to write the page with the picture to.
        plot: File to write the picture alone to: .svg, .png or .pdf.
        workers: Processes that plan; 0: one for each core.
    """

    sweep: SweepGrid = field(default_factory=SweepGrid)
    json: Path | None = None
    html: Path | None = None
    plot: Path | None = None
    limits: PlanLimits = field(default_factory=PlanLimits)
    workers: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.workers < 0:
            raise ValueError(f"workers is {self.workers}, must not be negative")
        if self.plot is not None and self.plot.suffix not in (".svg", ".png", ".pdf"):
            raise ValueError(f"plot is {self.plot}, must end in .svg, .png or .pdf")


@dataclass(frozen=True)
class CalibrateConfig(RecipeConfig):
    """What is measured on the machines that it runs on, and what comes of it.

    Attributes:
        out: YAML file to write the fitted hardware to, which --hardware takes.
        base: Preset, or YAML file, that estimates begin with, and whose figures stay where nothing
            is measured; auto: this machine's.
        name: Of the fitted hardware; none: the model of the processor or GPU.
        max_tables: Tables whose lookups are measured at most. Of more, only those are that differ;
            of these, one half are those that read most, the other from the smallest to the largest.
        json: File to write all numbers to; - writes them to the terminal instead of the tables.
        html: File to write the page with the picture to.
    """

    out: Path = Path("hardware.yaml")
    base: str = AUTO
    name: str | None = None
    max_tables: int = 40
    calibration: CalibrationConfig = field(default_factory=CalibrationConfig)
    json: Path | None = None
    html: Path | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        # Another name may be a preset's.
        if self.out.suffix not in (".yaml", ".yml"):
            raise ValueError(f"out is {self.out}, must end in .yaml or .yml")
        if self.name is not None and not self.name.strip():
            raise ValueError("name is blank: call the hardware something, or leave it out")
        if self.max_tables < 1:
            raise ValueError(f"max_tables is {self.max_tables}, must be positive")
