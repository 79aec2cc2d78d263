"""What there is too little of where no plan fits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from torchrec.distributed.planner.types import ShardingOption

from dropdrift.sharding.config import HOST_KERNELS
from dropdrift.sharding.planning import (
    NoPlanError,
    PlanRequest,
    Reserved,
    enumerate_options,
    make_plan,
)
from dropdrift.sharding.shard import is_table
from dropdrift.sharding.summary import STATE_BYTES, shard_summary, state_numbers
from dropdrift.sharding.wording import NAMED, gib, listed

# More than any rank has, so that a plan is found and says what it reserves.
PLENTY = 1 << 50


@dataclass(frozen=True)
class LeastOption:
    """The allowed option of a table that asks the least of a rank.

    Attributes:
        table: its name.
        sharding_type: how it is cut.
        kernel: how it is looked up.
        total_bytes: memory of all its parts, inputs and outputs, on devices and in host memory.
        largest_bytes: of the largest part.
        short_bytes: by how much the largest part is more than a rank has; 0 where it fits.
    """

    table: str
    sharding_type: str
    kernel: str
    total_bytes: int
    largest_bytes: int
    short_bytes: int


@dataclass(frozen=True)
class Shortage:
    """What is missing for a plan.

    Attributes:
        hardware: its name.
        nodes: machines.
        ranks_per_node: of each.
        memory_bytes: of a rank's device.
        margin_bytes: of it kept for activations and the allocator.
        dense_bytes: of it kept for the dense part.
        input_bytes: of it kept for batches on their way.
        host_bytes: host memory of a rank that tables may take; 0 where none may.
        tables: largest first.
        reason: TorchRec's.
    """

    hardware: str
    nodes: int
    ranks_per_node: int
    memory_bytes: int
    margin_bytes: int
    dense_bytes: int
    input_bytes: int
    host_bytes: int
    tables: tuple[LeastOption, ...]
    reason: str

    @property
    def world_size(self) -> int:
        """Ranks of all nodes."""
        return self.nodes * self.ranks_per_node

    @property
    def available_bytes(self) -> int:
        """Memory of a rank's device that tables, inputs and outputs may take; may be negative."""
        return self.memory_bytes - self.margin_bytes - self.dense_bytes - self.input_bytes

    @property
    def needed_bytes(self) -> int:
        """What all tables take at the least, all ranks together."""
        return sum(table.total_bytes for table in self.tables)

    @property
    def room_bytes(self) -> int:
        """What all ranks have for tables."""
        return (max(self.available_bytes, 0) + self.host_bytes) * self.world_size

    @property
    def too_large(self) -> tuple[LeastOption, ...]:
        """Tables that fit no rank."""
        return tuple(table for table in self.tables if table.short_bytes)

    def lines(self) -> list[str]:
        """In words: a title, then what is short."""
        return [
            f"No sharding plan for {self.nodes} x {self.ranks_per_node} {self.hardware} with "
            f"{gib(self.memory_bytes)} GiB a rank",
            self._kept(),
            *self._in_all(),
            *self._one_by_one(),
        ]

    def _kept(self) -> str:
        left = (
            f"{gib(self.available_bytes)} are left for tables"
            if self.available_bytes > 0
            else f"{gib(-self.available_bytes)} more than there are, before any table"
        )
        parts = [
            (self.margin_bytes, "for activations"),
            (self.dense_bytes, "for the dense part"),
            (self.input_bytes, "for batches on their way"),
        ]
        kept = ", ".join(f"{gib(amount)} {what}" for amount, what in parts if amount)
        return f"a rank keeps, in GiB, {kept}: {left}"

    def _in_all(self) -> list[str]:
        short = self.needed_bytes - self.room_bytes
        ranks = f"{self.world_size} ranks have" if self.world_size > 1 else "1 rank has"
        needed = (
            f"with inputs and outputs, tables take {gib(self.needed_bytes)} GiB at the least, and "
            f"{ranks} {gib(self.room_bytes)}"
        )
        if short <= 0:
            return [] if self.too_large else [f"{needed}, but TorchRec finds no layout of them"]
        largest = listed([f"{table.table} {gib(table.total_bytes)}" for table in self.tables])
        return [f"{needed}: {gib(short)} short", f"the largest: {largest}"]

    def _one_by_one(self) -> list[str]:
        lines = [
            f"{table.table} as {table.sharding_type}/{table.kernel} takes "
            f"{gib(table.largest_bytes)} GiB of a rank, {gib(table.short_bytes)} more than there "
            "are, and nothing smaller is allowed"
            for table in self.too_large[:NAMED]
        ]
        rest = len(self.too_large) - NAMED
        return [*lines, f"so do {rest} more tables"] if rest > 0 else lines


def shortage(error: NoPlanError) -> Shortage:
    """What the tables lack where planning ended with ``error``."""
    request, cluster = error.request, error.request.cluster
    reserved = error.reserved or _reserved(request)
    available = cluster.memory_bytes - reserved.total
    options: dict[str, list[ShardingOption]] = {}
    for option in enumerate_options(request):
        options.setdefault(option.name, []).append(option)
    in_host = any(o.compute_kernel in HOST_KERNELS for own in options.values() for o in own)
    tables = (_least(own, request, available) for own in options.values())
    return Shortage(
        hardware=cluster.hardware.name,
        nodes=cluster.nodes,
        ranks_per_node=cluster.ranks_per_node,
        memory_bytes=cluster.memory_bytes,
        margin_bytes=reserved.margin,
        dense_bytes=reserved.dense,
        input_bytes=reserved.inputs,
        host_bytes=cluster.host_bytes if in_host else 0,
        tables=tuple(sorted(tables, key=lambda table: (-table.total_bytes, table.table))),
        reason=error.reason,
    )


def may_fit(request: PlanRequest) -> bool:
    """Whether there is room for the tables alone, without which planning is in vain.

    Inputs and outputs and how tables are cut do not count, nor do tables that may leave the device.
    """
    config, cluster = request.config, request.cluster
    allowed = [config.allowed(table.name)[1] for table in request.schema.tables]
    if not request.replicate and any(kernels != ("fused",) for kernels in allowed):
        return True
    needed = sum(
        p.shape[0] * (p.shape[1] * p.element_size() + _state_bytes(request, p.shape[1]))
        for name, p in request.model.named_parameters()
        if is_table(name)
    )
    kept = request.dense_bytes + request.margin_bytes
    ranks = 1 if request.replicate else cluster.world_size
    return needed <= ranks * (cluster.memory_bytes - kept)


def _state_bytes(request: PlanRequest, columns: int) -> int:
    """Of a row."""
    return STATE_BYTES * state_numbers(request.optimizer, columns)


def _reserved(request: PlanRequest) -> Reserved:
    """What is reserved where that alone is more than a rank has, of which TorchRec says nothing."""
    cluster = request.cluster
    ample = replace(request, cluster=replace(cluster, hbm_bytes=PLENTY, host_bytes=PLENTY))
    return replace(make_plan(ample).reserved, margin=request.margin_bytes)


def _least(options: Iterable[ShardingOption], request: PlanRequest, available: int) -> LeastOption:
    """In bytes with the whole optimizer state, as the user is told what a machine must have."""
    cluster = request.cluster
    candidates = []
    for option in options:
        shards = [
            shard_summary(shard, option, cluster.device, request.optimizer)
            for shard in option.shards
        ]
        candidates.append(
            LeastOption(
                table=option.name,
                sharding_type=option.sharding_type,
                kernel=option.compute_kernel,
                total_bytes=sum(shard.device_bytes + shard.spilled_bytes for shard in shards),
                largest_bytes=max(shard.device_bytes + shard.spilled_bytes for shard in shards),
                short_bytes=max(
                    max(shard.device_bytes - available, 0)
                    + max(shard.spilled_bytes - cluster.host_bytes, 0)
                    for shard in shards
                ),
            )
        )
    return min(candidates, key=lambda least: (least.short_bytes, least.total_bytes))
