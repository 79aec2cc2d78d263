"""What a plan comes to, in plain numbers: what every view of a plan shows. Needs no torch.

Times are TorchRec's estimates in milliseconds for one training step; bytes are exact for weights
and optimizer state, and TorchRec's estimates for the rest.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from dropdrift.sharding.config import HOST_KERNELS

if TYPE_CHECKING:
    from torchrec.distributed.planner.types import Shard, ShardingOption

    from dropdrift.sharding.cluster import Cluster
    from dropdrift.sharding.planning import Planned

# FBGEMM keeps optimizer state in fp32, whatever the weights are.
STATE_BYTES = 4


@dataclass(frozen=True)
class Cost:
    """Estimated milliseconds of one step."""

    forward_compute: float = 0.0
    forward_communication: float = 0.0
    backward_compute: float = 0.0
    backward_communication: float = 0.0
    prefetch: float = 0.0

    @property
    def total(self) -> float:
        """All parts, one after the other, as TorchRec adds them up."""
        return sum(getattr(self, field.name) for field in fields(self))

    @staticmethod
    def sum(costs: Iterable[Cost]) -> Cost:
        """Part by part."""
        listed = list(costs)
        return Cost(**{f.name: sum(getattr(c, f.name) for c in listed) for f in fields(Cost)})


@dataclass(frozen=True)
class ShardSummary:
    """A rectangle of a table on a rank.

    Attributes:
        rank: where it is.
        row: its first row; ``rows`` many.
        column: its first column; ``columns`` many.
        weight_bytes: of its numbers.
        optimizer_bytes: of its optimizer's state.
        device_bytes: memory of the rank's device that it takes: weights and state where they live
            there, otherwise their cache; inputs and outputs of a batch in any case.
        spilled_bytes: host memory of a GPU's machine that it takes; 0 on a CPU.
        cost: of its lookups.
    """

    rank: int
    row: int
    rows: int
    column: int
    columns: int
    weight_bytes: int
    optimizer_bytes: int
    device_bytes: int
    spilled_bytes: int
    cost: Cost


@dataclass(frozen=True)
class TableSummary:
    """One embedding table in the plan.

    Attributes:
        name: of the table.
        rows: of the whole table.
        width: of the whole table.
        bytes_per_number: of its weights.
        fields: that look it up.
        ids_per_row: mean ids of all its fields together that a row of a batch has.
        sharding_type: how it is cut.
        kernel: how it is looked up.
        shards: its parts; a replicated table has one on every rank.
    """

    name: str
    rows: int
    width: int
    bytes_per_number: int
    fields: tuple[str, ...]
    ids_per_row: float
    sharding_type: str
    kernel: str
    shards: tuple[ShardSummary, ...]

    @property
    def ranks(self) -> tuple[int, ...]:
        """Where it is, ascending."""
        return tuple(sorted({shard.rank for shard in self.shards}))

    @property
    def stored_bytes(self) -> int:
        """Weights and optimizer state, wherever they live, all shards together."""
        return sum(shard.weight_bytes + shard.optimizer_bytes for shard in self.shards)

    @property
    def spilled_bytes(self) -> int:
        """Host memory of GPU machines that it takes."""
        return sum(shard.spilled_bytes for shard in self.shards)

    @property
    def cost(self) -> Cost:
        """Of all shards together."""
        return Cost.sum(shard.cost for shard in self.shards)


@dataclass(frozen=True)
class RankSummary:
    """One rank in the plan.

    Attributes:
        rank: its number.
        node: its machine's number.
        shards: how many it holds.
        device_bytes: memory of its device that tables, inputs and outputs take.
        spilled_bytes: host memory that its tables take; 0 on a CPU.
        cost: of its lookups.
    """

    rank: int
    node: int
    shards: int
    device_bytes: int
    spilled_bytes: int
    cost: Cost


@dataclass(frozen=True)
class ClusterSummary:
    """Where a plan is for; see :class:`~dropdrift.sharding.cluster.Cluster`."""

    hardware: str
    device: str
    nodes: int
    ranks_per_node: int
    world_size: int
    device_bytes: int
    host_bytes: int


@dataclass(frozen=True)
class PlanSummary:
    """A plan.

    Attributes:
        cluster: where.
        rows_per_rank: rows of one lookup on one rank.
        optimizer: of the tables.
        tables: in schema order.
        ranks: ascending.
        margin_bytes: of a rank's memory kept for activations and the allocator.
        dense_bytes: of a rank's memory kept for the dense part.
        input_bytes: of a rank's memory kept for batches on their way.
        proposals: combinations that the planner looked at.
    """

    cluster: ClusterSummary
    rows_per_rank: int
    optimizer: str
    tables: tuple[TableSummary, ...]
    ranks: tuple[RankSummary, ...]
    margin_bytes: int
    dense_bytes: int
    input_bytes: int
    proposals: int

    @property
    def step_ms(self) -> float:
        """Estimated time that the slowest rank spends on embeddings in one step."""
        return max(rank.cost.total for rank in self.ranks)

    @property
    def mean_ms(self) -> float:
        """Estimated time that a rank spends on embeddings in one step, the mean of all."""
        return sum(rank.cost.total for rank in self.ranks) / len(self.ranks)

    @property
    def looked_up_per_second(self) -> float:
        """Rows that all ranks look up a second, if there were nothing but embeddings."""
        return 1e3 * self.rows_per_rank * self.cluster.world_size / self.step_ms

    @property
    def available_bytes(self) -> int:
        """Memory of a rank's device that tables, inputs and outputs may take."""
        reserved = self.margin_bytes + self.dense_bytes + self.input_bytes
        return self.cluster.device_bytes - reserved

    @property
    def fullest_bytes(self) -> int:
        """Memory of its device that tables, inputs and outputs take on the fullest rank."""
        return max(rank.device_bytes for rank in self.ranks)

    @property
    def mean_bytes(self) -> float:
        """Memory of its device that tables, inputs and outputs take on a rank, the mean of all."""
        return sum(rank.device_bytes for rank in self.ranks) / len(self.ranks)

    @property
    def stored_bytes(self) -> int:
        """Weights and optimizer state of all tables on all ranks."""
        return sum(table.stored_bytes for table in self.tables)

    @property
    def spilled_bytes(self) -> int:
        """Host memory of GPU machines that tables take, all ranks together."""
        return sum(rank.spilled_bytes for rank in self.ranks)

    @property
    def memory_skew(self) -> float:
        """The fullest rank's memory over the mean."""
        return skew(rank.device_bytes for rank in self.ranks)

    @property
    def time_skew(self) -> float:
        """The slowest rank's time over the mean."""
        return skew(rank.cost.total for rank in self.ranks)

    def fullest_rank(self) -> RankSummary:
        """The first that has most in its device's memory."""
        return max(self.ranks, key=lambda rank: rank.device_bytes)

    def spilled_tables(self) -> list[TableSummary]:
        """Tables in the host memory of GPU machines, largest first."""
        spilled = [table for table in self.tables if table.spilled_bytes]
        return sorted(spilled, key=lambda table: (-table.spilled_bytes, table.name))

    def slowest_rank(self) -> RankSummary:
        """The first that takes longest."""
        return max(self.ranks, key=lambda rank: rank.cost.total)


def skew(values: Iterable[float]) -> float:
    """Largest over mean; 1 where all are 0."""
    listed = list(values)
    total = sum(listed)
    return max(listed) * len(listed) / total if total else 1.0


def summarise(planned: Planned) -> PlanSummary:
    """The numbers of a plan."""
    request, reserved = planned.request, planned.reserved
    cluster = request.cluster
    tables = tuple(_table(option, planned) for option in planned.options)
    return PlanSummary(
        cluster=ClusterSummary(
            hardware=cluster.hardware.name,
            device=cluster.device,
            nodes=cluster.nodes,
            ranks_per_node=cluster.ranks_per_node,
            world_size=cluster.world_size,
            device_bytes=cluster.memory_bytes,
            host_bytes=cluster.host_bytes,
        ),
        rows_per_rank=request.rows_per_rank,
        optimizer=request.optimizer,
        tables=tables,
        ranks=_ranks(tables, cluster),
        margin_bytes=reserved.margin,
        dense_bytes=reserved.dense,
        input_bytes=reserved.inputs,
        proposals=planned.proposals,
    )


def shard_summary(
    shard: Shard, option: ShardingOption, device: str, optimizer: str
) -> ShardSummary:
    """The numbers of a shard of an option; its rank is -1 where it has none yet."""
    assert shard.perf is not None, "TorchRec estimated it"
    assert shard.storage is not None, "TorchRec estimated it"
    rows, columns = shard.size
    weights = rows * columns * option.tensor.element_size()
    state = rows * state_numbers(optimizer, columns) * STATE_BYTES
    storage, cost = shard.storage, shard.perf
    on_cpu = device == "cpu"
    planned_state = (
        0 if option.sharding_type == "data_parallel" else _planned_state(option, weights)
    )
    # TorchRec counts no state for replicated tables, and counts it in the weights' precision.
    missing = state - planned_state
    in_host = option.compute_kernel in HOST_KERNELS
    return ShardSummary(
        rank=-1 if shard.rank is None else shard.rank,
        row=shard.offset[0],
        rows=rows,
        column=shard.offset[1],
        columns=columns,
        weight_bytes=weights,
        optimizer_bytes=state,
        device_bytes=(storage.ddr if on_cpu else storage.hbm) + (0 if in_host else missing),
        spilled_bytes=0 if on_cpu else storage.ddr + (missing if in_host else 0),
        cost=Cost(
            forward_compute=cost.fwd_compute,
            forward_communication=cost.fwd_comms,
            backward_compute=cost.bwd_compute,
            backward_communication=cost.bwd_comms,
            prefetch=cost.prefetch_compute,
        ),
    )


def state_numbers(optimizer: str, columns: int) -> int:
    """Numbers of optimizer state that a row of a shard has."""
    return {"rowwise_adagrad": 1, "adagrad": columns, "sgd": 0, "adam": 2 * columns}[optimizer]


def _planned_state(option: ShardingOption, weights: int) -> int:
    """What TorchRec counts for a shard's optimizer state."""
    optimizers = getattr(option.tensor, "_optimizer_classes", [None])
    name = getattr(optimizers[0], "__name__", "")
    if name == "RowWiseAdagrad":
        return -(-weights // option.tensor.shape[1])
    return weights if name == "Adagrad" else 0


def _table(option: ShardingOption, planned: Planned) -> TableSummary:
    request = planned.request
    own = [field for field in request.schema.fields if field.table == option.name]
    return TableSummary(
        name=option.name,
        rows=option.tensor.shape[0],
        width=option.tensor.shape[1],
        bytes_per_number=option.tensor.element_size(),
        fields=tuple(field.name for field in own),
        ids_per_row=sum(field.pooling_factor for field in own),
        sharding_type=option.sharding_type,
        kernel=option.compute_kernel,
        shards=tuple(
            shard_summary(shard, option, request.cluster.device, request.optimizer)
            for shard in option.shards
        ),
    )


def _ranks(tables: tuple[TableSummary, ...], cluster: Cluster) -> tuple[RankSummary, ...]:
    own: list[list[ShardSummary]] = [[] for _ in range(cluster.world_size)]
    for table in tables:
        for shard in table.shards:
            own[shard.rank].append(shard)
    return tuple(
        RankSummary(
            rank=rank,
            node=rank // cluster.ranks_per_node,
            shards=len(shards),
            device_bytes=sum(shard.device_bytes for shard in shards),
            spilled_bytes=sum(shard.spilled_bytes for shard in shards),
            cost=Cost.sum(shard.cost for shard in shards),
        )
        for rank, shards in enumerate(own)
    )
