"""From a schema and options to the sharded model on this rank."""

from __future__ import annotations

import torch
from torchrec.distributed import DistributedModelParallel
from torchrec.distributed.types import ShardingPlan

from dropdrift.data.schema import Schema
from dropdrift.models.matching.model import MatchingModel
from dropdrift.models.ranking import RankingModel
from dropdrift.sharding.initialise import initialise_tables
from dropdrift.sharding.planning import plan_tables
from dropdrift.sharding.shard import shard_model
from dropdrift.training.config import TrainConfig
from dropdrift.training.distributed import Ranks
from dropdrift.training.optimizers import add_sparse_optimizer


def build_model(
    schema: Schema,
    config: TrainConfig,
    ranks: Ranks,
    plan: ShardingPlan | None = None,
    *,
    lookup_rows: int = 0,
) -> DistributedModelParallel:
    """Make, plan, shard and initialise the model; the same weights on any ranks and by any plan.

    Args:
        schema: fields and tables.
        config: the run's options.
        ranks: this process among all; the process group must be there.
        plan: a plan to use instead of the planner's.
        lookup_rows: rows of one lookup on this rank, which the planner's estimates use; 0: this
            rank's share of the batch.

    Raises:
        ValueError: the options contradict each other or the schema, or no plan fits.
    """
    _check_sharding(config)
    seed = config.loop.seed
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _unsharded(schema, config)
    add_sparse_optimizer(model.embedding, config.optimizer)
    if plan is None:
        plan = plan_tables(
            model,
            schema,
            config.sharding,
            device=ranks.device,
            rows_per_rank=lookup_rows or max(config.data.batch_size // ranks.world_size, 1),
            ranks_per_node=ranks.ranks_per_node,
            replicate=config.optimizer.sparse == "adam",
        )
    sharded = shard_model(model, plan, ranks.device)
    initialise_tables(sharded, config.model.embedding_init_std, seed)
    return sharded


def _unsharded(schema: Schema, config: TrainConfig) -> RankingModel | MatchingModel:
    device = torch.device("meta")
    if config.model.kind == "ranking":
        return RankingModel(schema, config.model, config.loop.seed, device)
    return MatchingModel(schema, config.model, config.data.sequence, config.loop.seed, device)


def ranking_model(sharded: DistributedModelParallel) -> RankingModel:
    """The model inside its wrappers, for calls other than the training forward."""
    module = sharded.module
    assert isinstance(module, RankingModel)
    return module


def matching_model(sharded: DistributedModelParallel) -> MatchingModel:
    """As :func:`ranking_model`, of a matching model."""
    module = sharded.module
    assert isinstance(module, MatchingModel)
    return module


def _check_sharding(config: TrainConfig) -> None:
    if config.optimizer.sparse != "rowwise_adagrad":
        return
    for kind in config.sharding.types:
        if kind in ("column_wise", "table_column_wise", "grid_shard"):
            raise ValueError(
                f"sharding.types has {kind!r}, but optimizer.sparse 'rowwise_adagrad' keeps one "
                "number a row and would train a table cut by columns differently: choose 'adagrad' "
                f"or leave {kind!r} out"
            )
