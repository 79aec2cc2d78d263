"""Options of planning. Needs no torch, so that the command line's help is quick."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal, get_args

ShardingType = Literal[
    "table_wise",
    "column_wise",
    "table_column_wise",
    "row_wise",
    "table_row_wise",
    "grid_shard",
]
ComputeKernel = Literal["fused", "fused_uvm_caching", "fused_uvm"]

SHARDING_TYPES: tuple[str, ...] = get_args(ShardingType)
COMPUTE_KERNELS: tuple[str, ...] = get_args(ComputeKernel)
# Tables of these are in host memory.
HOST_KERNELS = ("fused_uvm_caching", "fused_uvm")
# Row-wise Adagrad would keep a number for each part of a row, and train it differently.
CUT_BY_COLUMNS = ("column_wise", "table_column_wise", "grid_shard")

# A part of a table's rows on each rank, or on each rank of a node.
CUT_BY_ROWS = ("row_wise", "table_row_wise", "grid_shard")

# The hardware that training finds itself on; planning ahead of training takes it for the CPU.
AUTO = "auto"


@dataclass(frozen=True)
class ShardingConfig:
    """How TorchRec's planner may place the tables.

    Attributes:
        types: Sharding types it may choose from. Those that cut a table by rows (row_wise,
            table_row_wise within one node, grid_shard by columns too) are used on a CPU only where
            no other is allowed. Data-parallel is not offered: an optimizer in the backward does not
            train such tables.
        kernels: Compute kernels it may choose from. fused: tables in the device's memory.
            fused_uvm_caching and fused_uvm: tables in host memory, with and without a cache on the
            device; CUDA alone, and slow.
        tables: Rules for single tables, each PATTERN=TYPE[,TYPE...][/KERNEL[,KERNEL...]], such as
            'user_*=row_wise,table_row_wise/fused'. The first pattern that matches a table's name
            counts instead of 'types', and of 'kernels' where it names any.
        hardware: Preset or YAML file whose figures the estimates use. auto: the device that the run
            is on.
        hbm_gib: Memory of a GPU that counts as there; 0: as the hardware has.
        host_memory_gib: Host memory of a rank that counts as there; 0: as the hardware has.
        reserve: Share of a GPU's memory that is kept from tables, besides what the dense part and
            the batches are estimated to take: for activations and the allocator.
    """

    types: tuple[ShardingType, ...] = ("table_wise", "row_wise", "table_row_wise")
    kernels: tuple[ComputeKernel, ...] = ("fused",)
    tables: tuple[str, ...] = ()
    hardware: str = AUTO
    hbm_gib: float = 0.0
    host_memory_gib: float = 0.0
    reserve: float = 0.15

    def __post_init__(self) -> None:
        if not self.types:
            raise ValueError("sharding.types is empty, name at least one sharding type")
        if not self.kernels:
            raise ValueError("sharding.kernels is empty, name at least one compute kernel")
        for name in ("hbm_gib", "host_memory_gib"):
            if getattr(self, name) < 0:
                raise ValueError(f"sharding.{name} is {getattr(self, name)}, must not be negative")
        if not 0 <= self.reserve < 1:
            raise ValueError(f"sharding.reserve is {self.reserve}, must be in [0, 1)")
        for rule in self.tables:
            TableRule.parse(rule)

    @property
    def rules(self) -> tuple[TableRule, ...]:
        """The rules of ``tables``."""
        return tuple(TableRule.parse(rule) for rule in self.tables)

    def rule_of(self, table: str) -> TableRule | None:
        """The rule that counts for the table called ``table``, if there is one."""
        return next((rule for rule in self.rules if fnmatchcase(table, rule.pattern)), None)

    def allowed(self, table: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Sharding types and compute kernels that the table called ``table`` may have."""
        rule = self.rule_of(table)
        return (rule.types, rule.kernels or self.kernels) if rule else (self.types, self.kernels)


@dataclass(frozen=True)
class PlanLimits:
    """What a plan must keep to; one that does not is shown, and ends with exit code 2.

    Attributes:
        max_skew: Most that the fullest, or slowest, rank may have of the mean. It counts where a
            rank fills a tenth of its memory, or takes a millisecond a step.
        max_spill_gib: Most GiB of tables that may live in the host memory of GPU machines, all
            together.
    """

    max_skew: float = 1.5
    max_spill_gib: float = 0.0

    def __post_init__(self) -> None:
        if self.max_skew < 1:
            raise ValueError(f"limits.max_skew is {self.max_skew}, must be at least 1")
        if self.max_spill_gib < 0:
            raise ValueError(f"limits.max_spill_gib is {self.max_spill_gib}, must not be negative")


@dataclass(frozen=True)
class TableRule:
    """What the tables whose names match a pattern may have.

    Attributes:
        pattern: of names, with ``*``, ``?`` and ``[...]`` as in a shell.
        types: sharding types.
        kernels: compute kernels; empty: those of all tables.
    """

    pattern: str
    types: tuple[str, ...]
    kernels: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The rule as :meth:`parse` reads it."""
        kernels = f"/{','.join(self.kernels)}" if self.kernels else ""
        return f"{self.pattern}={','.join(self.types)}{kernels}"

    @staticmethod
    def parse(text: str) -> TableRule:
        """``PATTERN=TYPE[,TYPE...][/KERNEL[,KERNEL...]]``; ValueError for anything else."""
        pattern, equals, allowed = text.partition("=")
        types, slash, kernels = allowed.partition("/")
        rule = TableRule(pattern, _names(types), _names(kernels))
        if not (pattern and equals and rule.types) or (slash and not rule.kernels):
            raise ValueError(
                f"sharding.tables has {text!r}, must be PATTERN=TYPE[,TYPE...][/KERNEL[,KERNEL...]]"
            )
        _check(rule.types, SHARDING_TYPES, "sharding type", text)
        _check(rule.kernels, COMPUTE_KERNELS, "compute kernel", text)
        return rule


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _check(names: tuple[str, ...], known: tuple[str, ...], what: str, rule: str) -> None:
    for name in names:
        if name not in known:
            raise ValueError(
                f"sharding.tables has {rule!r} with the unknown {what} {name!r}; "
                f"there are: {', '.join(known)}"
            )
