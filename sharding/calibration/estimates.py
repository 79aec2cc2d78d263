"""TorchRec's estimates of what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torchrec.distributed.planner.enumerators import EmbeddingEnumerator
from torchrec.distributed.planner.shard_estimators import EmbeddingPerfEstimator
from torchrec.distributed.planner.types import CollectiveType, ParameterConstraints
from torchrec.modules.embedding_configs import EmbeddingBagConfig
from torchrec.modules.embedding_modules import EmbeddingBagCollection

from dropdrift.sharding.calibration.collectives import Collective, CollectiveTiming
from dropdrift.sharding.calibration.lookups import LookupTiming
from dropdrift.sharding.calibration.tables import LookupTable
from dropdrift.sharding.cluster import Cluster, to_topology
from dropdrift.sharding.constraints import sharders

_COLLECTIVE_TYPES: dict[Collective, CollectiveType] = {
    "all_to_all": CollectiveType.ALL_TO_ALL,
    "reduce_scatter": CollectiveType.REDUCE_SCATTER,
}


@dataclass(frozen=True)
class LookupEstimate:
    """TorchRec's estimate of one table that one rank holds as a whole, in milliseconds.

    Attributes:
        forward_ms: looking the rows of all ranks up.
        backward_ms: the backward, with the table's update.
    """

    forward_ms: float
    backward_ms: float


def estimate_lookups(timings: Sequence[LookupTiming], cluster: Cluster) -> list[LookupEstimate]:
    """What the planner's estimator says of each measured table on ``cluster``.

    It knows nothing of a table's rows: the real and the cut table have the same estimate.
    """
    ((rows_per_rank, ranks),) = {(timing.rows_per_rank, timing.ranks) for timing in timings}
    assert ranks == cluster.world_size
    tables = [timing.table for timing in timings]
    constraints = {
        table.name: ParameterConstraints(
            sharding_types=["table_wise"],
            compute_kernels=["fused"],
            pooling_factors=list(table.pooling_factors),
        )
        for table in tables
    }
    topology = to_topology(cluster)
    estimator = EmbeddingPerfEstimator(topology=topology, constraints=constraints)
    enumerator = EmbeddingEnumerator(
        topology, batch_size=rows_per_rank, constraints=constraints, estimator=estimator
    )
    found = {}
    for option in enumerator.enumerate(_collection(tables), sharders()):
        (shard,) = option.shards
        assert shard.perf is not None
        found[option.name] = LookupEstimate(shard.perf.fwd_compute, shard.perf.bwd_compute)
    return [found[table.name] for table in tables]


def _collection(tables: Sequence[LookupTable]) -> EmbeddingBagCollection:
    return EmbeddingBagCollection(
        tables=[
            EmbeddingBagConfig(
                name=table.name,
                num_embeddings=table.rows,
                embedding_dim=table.width,
                feature_names=[
                    f"{table.name}/{number}" for number in range(len(table.pooling_factors))
                ],
            )
            for table in tables
        ],
        device=torch.device("meta"),
    )


def estimate_collective(timing: CollectiveTiming, cluster: Cluster) -> float:
    """Milliseconds that TorchRec estimates for an exchange: its bytes by the bandwidth it picks."""
    bytes_per_ms: float = to_topology(cluster).comms_bandwidths.get_bw(
        local_world_size=timing.ranks_per_node,
        world_size=timing.ranks,
        collective_type=_COLLECTIVE_TYPES[timing.collective],
    )
    return timing.size / bytes_per_ms
