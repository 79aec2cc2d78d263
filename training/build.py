"""From a schema and options to the sharded model on this rank."""

from __future__ import annotations

import torch
from torchrec.distributed import DistributedModelParallel
from torchrec.distributed.types import ShardingPlan

from dropdrift.data.schema import Schema
from dropdrift.models.matching.model import MatchingModel
from dropdrift.models.methods.asymdiffrec import check_kernels
from dropdrift.models.ranking import RankingModel
from dropdrift.sharding.initialise import initialise_tables
from dropdrift.sharding.shard import shard_model
from dropdrift.training.config import TrainConfig
from dropdrift.training.distributed import Ranks
from dropdrift.training.optimizers import add_sparse_optimizer
from dropdrift.training.placement import place_tables
from dropdrift.training.plans.request import check_sharding, unsharded


def build_model(
    schema: Schema,
    config: TrainConfig,
    ranks: Ranks,
    plan: ShardingPlan | None = None,
) -> DistributedModelParallel:
    """Make, plan, shard and initialise the model; the same weights on any ranks and by any plan.

    Args:
        schema: fields and tables.
        config: the run's options.
        ranks: this process among all; the process group must be there.
        plan: where the tables go; without, the planner decides, for lookups of a rank's share of
            the batch.

    Raises:
        ValueError: the options contradict each other or the schema, or no plan fits.
    """
    check_sharding(config)
    if config.model.kind == "ranking":
        check_kernels(config.model, len(schema.fields), ranks.device)
    seed = config.loop.seed
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = unsharded(schema, config)
    add_sparse_optimizer(model.embedding, config.optimizer)
    if plan is None:
        plan = place_tables(schema, config, ranks).plan
    sharded = shard_model(model, plan, ranks.device)
    initialise_tables(sharded, config.model.embedding_init_std, seed)
    return sharded


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
