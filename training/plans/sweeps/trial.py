"""One point of a sweep planned: a cluster and a batch, and what the plan comes to.

Needs no torch before a plan is made: the process that hands out the points does without.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from dropdrift.data.schema import Schema
from dropdrift.sharding.checks import broken_limits
from dropdrift.sharding.config import PlanLimits
from dropdrift.sharding.summary import PlanSummary, summarise
from dropdrift.training.plans.config import PlanConfig, SweepConfig

if TYPE_CHECKING:
    from dropdrift.sharding.planning import NoPlanError

C = TypeVar("C", bound=PlanConfig)


@dataclass(frozen=True)
class BatchSize:
    """Rows of a batch.

    Attributes:
        rows: of one global batch, which all GPUs share, or of each GPU.
        per_gpu: which of the two.
    """

    rows: int
    per_gpu: bool = False

    @property
    def text(self) -> str:
        """In words, after "batch of"."""
        return f"{self.rows:,} rows{' a GPU' if self.per_gpu else ''}"


@dataclass(frozen=True)
class Point:
    """A cluster and a batch.

    Attributes:
        hardware: its name.
        given: the preset or YAML file that it is from.
        nodes: machines.
        gpus_per_node: ranks of each.
        batch: that is trained on.
    """

    hardware: str
    given: str
    nodes: int
    gpus_per_node: int
    batch: BatchSize

    @property
    def gpus(self) -> int:
        """Ranks of all nodes."""
        return self.nodes * self.gpus_per_node

    @property
    def batch_size(self) -> int:
        """Rows of the global batch."""
        return self.batch.rows * (self.gpus if self.batch.per_gpu else 1)

    @property
    def rows_per_gpu(self) -> int:
        """Whole rows of the batch that each rank has, at least one."""
        return max(self.batch_size // self.gpus, 1)

    @property
    def divides(self) -> bool:
        """Whether the ranks share the batch evenly, without which training refuses it."""
        return self.batch_size % self.gpus == 0

    @property
    def cluster(self) -> str:
        """Nodes and GPUs in words."""
        return f"{self.nodes} x {self.gpus_per_node}"

    def options(self, config: C) -> C:
        """``config`` with this cluster and batch."""
        return replace(
            config,
            hardware=self.given,
            nodes=self.nodes,
            gpus_per_node=self.gpus_per_node,
            data=replace(config.data, batch_size=self.batch_size),
        )


@dataclass(frozen=True)
class Numbers:
    """What a plan comes to; memory is of the device of one rank.

    Attributes:
        step_ms: estimated time of one step's embeddings on the slowest rank.
        rows_per_second: of the batch, all ranks together, if there were nothing but embeddings.
        fullest_bytes: that tables, inputs and outputs take on the fullest rank.
        available_bytes: that they may take.
        memory_bytes: that there are.
        memory_skew: the fullest rank's memory over the mean.
        time_skew: the slowest rank's time over the mean.
        spilled_bytes: host memory that tables take, all ranks together.
        skewed: which limits of skew are broken, a line each.
    """

    step_ms: float
    rows_per_second: float
    fullest_bytes: int
    available_bytes: int
    memory_bytes: int
    memory_skew: float
    time_skew: float
    spilled_bytes: int
    skewed: tuple[str, ...]


@dataclass(frozen=True)
class Trial:
    """A point and what came of planning it.

    Attributes:
        point: what was planned.
        fits: whether there is a plan whose tables are where the limits allow them.
        reason: why it does not fit, otherwise empty.
        short_bytes: how much memory is missing at the least, where that can be said.
        numbers: of the plan, if there is one.
    """

    point: Point
    fits: bool
    reason: str = ""
    short_bytes: int | None = None
    numbers: Numbers | None = None


def try_point(config: SweepConfig, schema: Schema, items: int, point: Point) -> Trial:
    """Plan ``point``.

    Args:
        config: all options but those that the point replaces.
        schema: fields and tables.
        items: of the whole catalogue (matching models).
        point: cluster and batch.

    Raises:
        ValueError: the options contradict each other, the schema or the hardware.
    """
    from dropdrift.sharding.planning import NoPlanError, make_plan
    from dropdrift.training.plans.request import planned_run

    request = planned_run(point.options(config), schema, items)
    try:
        summary = summarise(make_plan(request))
    except NoPlanError as error:
        short, reason = _shortage(error)
        return Trial(point, fits=False, reason=reason, short_bytes=short)
    # A skewed plan works. One that spills more than is allowed does not fit, though it is a plan.
    misfits = broken_limits(summary, PlanLimits(math.inf, config.limits.max_spill_gib))
    broken = broken_limits(summary, config.limits)
    numbers = _numbers(point, summary, tuple(line for line in broken if line not in misfits))
    return Trial(point, not misfits, misfits[0] if misfits else "", numbers=numbers)


def _numbers(point: Point, summary: PlanSummary, skewed: tuple[str, ...]) -> Numbers:
    return Numbers(
        step_ms=summary.step_ms,
        # Not the summary's: what a matching model looks up is its catalogue, not the batch.
        rows_per_second=1e3 * point.rows_per_gpu * point.gpus / summary.step_ms,
        fullest_bytes=summary.fullest_bytes,
        available_bytes=summary.available_bytes,
        memory_bytes=summary.cluster.device_bytes,
        memory_skew=summary.memory_skew,
        time_skew=summary.time_skew,
        spilled_bytes=summary.spilled_bytes,
        skewed=skewed,
    )


def _shortage(error: NoPlanError) -> tuple[int | None, str]:
    """How much memory is missing whatever the plan, and why there is none."""
    from dropdrift.training.plans.fixes.shortage import shortage

    lack = shortage(error)
    in_all = lack.needed_bytes - lack.room_bytes
    on_one_rank = max((table.short_bytes for table in lack.too_large), default=0)
    _, *why = lack.lines()
    return (in_all if in_all > 0 else on_one_rank) or None, "; ".join(why)
