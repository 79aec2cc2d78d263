"""Where each table goes: TorchRec's planner under this project's rules."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from torch import nn
from torchrec.distributed.planner import EmbeddingShardingPlanner
from torchrec.distributed.planner.enumerators import EmbeddingEnumerator
from torchrec.distributed.planner.shard_estimators import (
    EmbeddingPerfEstimator,
    EmbeddingStorageEstimator,
)
from torchrec.distributed.planner.storage_reservations import HeuristicalStorageReservation
from torchrec.distributed.planner.types import (
    ParameterConstraints,
    PlannerError,
    ShardingOption,
    Stats,
    Topology,
)
from torchrec.distributed.types import ModuleSharder, PipelineType, ShardingPlan

from dropdrift.data.schema import Schema
from dropdrift.sharding.cluster import Cluster, to_topology
from dropdrift.sharding.config import COMPUTE_KERNELS, SHARDING_TYPES, ShardingConfig
from dropdrift.sharding.constraints import planning_sharders, table_constraints
from dropdrift.sharding.shard import is_table
from dropdrift.sharding.wording import GIB

# Bytes kept for each byte of a dense parameter: itself, its gradient, Adam's two moments, and the
# buckets and copies of DistributedDataParallel (TorchRec's own figure).
DENSE_COPIES = 6

_TYPES = (*SHARDING_TYPES, "data_parallel")
_KERNELS = (*COMPUTE_KERNELS, "dense")


@dataclass(frozen=True)
class PlanRequest:
    """What is to be planned.

    Attributes:
        model: with unsharded embedding collections, whose optimizer is in the backward already.
        schema: the tables' fields, whose measured pooling factors the estimates use.
        config: what the planner may do.
        cluster: where.
        rows_per_rank: rows of one lookup on one rank.
        optimizer: of the tables, as ``OptimizerConfig.sparse`` calls it; adam: every rank has a
            copy of every table, which is trained after the backward.
    """

    model: nn.Module
    schema: Schema
    config: ShardingConfig
    cluster: Cluster
    rows_per_rank: int
    optimizer: str

    @property
    def replicate(self) -> bool:
        """Whether every rank has a copy of every table."""
        return self.optimizer == "adam"

    @property
    def margin_bytes(self) -> int:
        """``config.reserve``'s share of a GPU's memory, as TorchRec rounds it; 0 on a CPU."""
        memory = self.cluster.hbm_bytes
        return memory - int((1 - self.config.reserve) * memory)

    @property
    def dense_bytes(self) -> int:
        """What the part of the model that is not tables is estimated to take on a rank."""
        parameters = (p for name, p in self.model.named_parameters() if not is_table(name))
        buffers = sum(b.numel() * b.element_size() for b in self.model.buffers())
        return DENSE_COPIES * sum(p.numel() * p.element_size() for p in parameters) + buffers


@dataclass(frozen=True)
class Reserved:
    """Bytes of a rank's memory that the planner keeps from tables.

    Attributes:
        margin: ``ShardingConfig.reserve``'s share; 0 on a CPU.
        dense: the dense part, its gradients and its optimizer.
        inputs: batches on their way, as TorchRec estimates them.
    """

    margin: int
    dense: int
    inputs: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.margin + self.dense + self.inputs


@dataclass(frozen=True)
class Planned:
    """A plan with what it was chosen from.

    Attributes:
        request: what was planned.
        options: the option chosen for each table, its shards' ranks set, in schema order.
        plan: the same, as TorchRec's sharding takes it.
        reserved: what the planner kept from tables on every rank.
        proposals: combinations of options that the planner looked at.
    """

    request: PlanRequest
    options: tuple[ShardingOption, ...]
    plan: ShardingPlan
    reserved: Reserved
    proposals: int


class NoPlanError(ValueError):
    """No combination of options fits.

    Attributes:
        request: what was planned.
        reserved: what the planner keeps from tables on every rank.
        reason: TorchRec's, in one line.
    """

    def __init__(self, request: PlanRequest, reserved: Reserved | None, reason: str) -> None:
        self.request, self.reserved, self.reason = request, reserved, reason
        cluster = request.cluster
        super().__init__(
            f"no sharding plan fits {cluster.memory_bytes / GIB:.4g} GiB a rank on "
            f"{cluster.world_size} ranks of {cluster.hardware.name}: {reason}"
        )


class OrderedEnumerator(EmbeddingEnumerator):
    """TorchRec's enumerator, with the options of a table in one order.

    TorchRec takes them from sets of names, whose order differs from process to process, and the
    first of equally good plans wins.
    """

    def enumerate(
        self, module: nn.Module, sharders: list[ModuleSharder[nn.Module]]
    ) -> list[ShardingOption]:
        """As TorchRec's, a table's in the order of ``SHARDING_TYPES`` and ``COMPUTE_KERNELS``."""
        options = super().enumerate(module, sharders)
        tables = list(dict.fromkeys(option.fqn for option in options))
        place = {name: i for names in (tables, _TYPES, _KERNELS) for i, name in enumerate(names)}
        return sorted(
            options,
            key=lambda o: (place[o.fqn], place[o.sharding_type], place[o.compute_kernel]),
        )


def enumerate_options(request: PlanRequest) -> list[ShardingOption]:
    """Every option of every table, with estimated storage and time, none placed.

    Raises:
        ValueError: a table is allowed nothing that the cluster offers.
    """
    topology = to_topology(request.cluster)
    with quiet_planner():
        return _enumerator(request, topology, _constraints(request)).enumerate(
            request.model, planning_sharders()
        )


def make_plan(request: PlanRequest) -> Planned:
    """Plan with TorchRec's planner.

    Raises:
        NoPlanError: nothing fits.
        ValueError: a table is allowed nothing that the cluster offers.
    """
    topology, constraints = to_topology(request.cluster), _constraints(request)
    recorder = _Recorder()
    with quiet_planner():
        reservation = HeuristicalStorageReservation(
            percentage=request.config.reserve,
            # TorchRec takes 0 for "not given".
            dense_tensor_estimate=max(request.dense_bytes, 1),
        )
        planner = EmbeddingShardingPlanner(
            topology=topology,
            batch_size=request.rows_per_rank,
            enumerator=_enumerator(request, topology, constraints),
            storage_reservation=reservation,
            constraints=constraints,
            stats=[recorder],
        )
        try:
            plan = planner.plan(request.model, planning_sharders())
        except PlannerError as error:
            reserved = _reserved(request, reservation.last_reserved_topology)
            raise NoPlanError(request, reserved, _reason(error)) from error
    reserved = _reserved(request, reservation.last_reserved_topology)
    assert reserved is not None, "a plan was made, so memory was reserved before"
    place = {table.name: i for i, table in enumerate(request.schema.tables)}
    return Planned(
        request=request,
        options=tuple(sorted(recorder.best_plan, key=lambda option: place[option.name])),
        plan=plan,
        reserved=reserved,
        proposals=recorder.proposals,
    )


@contextmanager
def quiet_planner() -> Iterator[None]:
    """Silence what TorchRec's planner says of itself: what matters is in the plan or the error."""
    logger = logging.getLogger("torchrec")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    # Some of the planner's messages go to the root logger.
    root = logging.getLogger()
    root.addFilter(_never)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
        root.removeFilter(_never)


def _never(record: logging.LogRecord) -> bool:
    del record
    return False


class _Recorder(Stats):
    """Keeps what the planner tells whoever would log it."""

    best_plan: list[ShardingOption]
    proposals: int

    def log(self, **told: Any) -> None:
        """Called once by the planner, by keywords."""
        self.best_plan, self.proposals = told["best_plan"], told["num_proposals"]


def _constraints(request: PlanRequest) -> dict[str, ParameterConstraints]:
    return table_constraints(
        request.schema, request.config, request.cluster, replicate=request.replicate
    )


def _enumerator(
    request: PlanRequest, topology: Topology, constraints: dict[str, ParameterConstraints]
) -> OrderedEnumerator:
    return OrderedEnumerator(
        topology=topology,
        batch_size=request.rows_per_rank,
        constraints=constraints,
        estimator=[
            EmbeddingPerfEstimator(topology=topology, constraints=constraints),
            EmbeddingStorageEstimator(
                topology=topology,
                constraints=constraints,
                # Training runs TrainPipelineSparseDist: two batches' inputs are there at once.
                pipeline_type=PipelineType.TRAIN_SPARSE_DIST,
                run_embedding_at_peak_memory=True,
            ),
        ],
    )


def _reserved(request: PlanRequest, reserved: Topology | None) -> Reserved | None:
    """None where what is to be reserved alone is more than there is."""
    if reserved is None:
        return None
    cluster, left = request.cluster, reserved.devices[0].storage
    margin, dense = request.margin_bytes, max(request.dense_bytes, 1)
    free = left.ddr if cluster.device == "cpu" else left.hbm
    return Reserved(margin, dense, cluster.memory_bytes - free - margin - dense)


def _reason(error: PlannerError) -> str:
    """The planner's last error where it has one: its first line only says that there is no plan."""
    text = str(error)
    _, _, last = text.partition("Last planner error:")
    return " ".join((last or text).strip().splitlines()[0].split())


def with_config(request: PlanRequest, **changes: Any) -> PlanRequest:
    """The request with other options of planning."""
    return replace(request, config=replace(request.config, **changes))
