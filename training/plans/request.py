"""From the options of a run to what is planned: the run's own model, without its memory."""

from __future__ import annotations

import torch

from dropdrift.data.schema import Schema
from dropdrift.models.matching.model import MatchingModel
from dropdrift.models.ranking import RankingModel
from dropdrift.sharding.cluster import Cluster, make_cluster
from dropdrift.sharding.config import CUT_BY_COLUMNS
from dropdrift.sharding.hardware import load_hardware
from dropdrift.sharding.planning import PlanRequest
from dropdrift.training.config import RecipeConfig
from dropdrift.training.optimizers import add_sparse_optimizer
from dropdrift.training.plans.config import PlanConfig


def planned_run(config: PlanConfig, schema: Schema, items: int) -> PlanRequest:
    """What ``dropdrift plan`` asks the planner: what training on that cluster would ask it.

    Args:
        config: the run's options and the cluster's.
        schema: fields and tables.
        items: of the whole catalogue (matching models).

    Raises:
        ValueError: the options contradict each other, the schema or the hardware.
    """
    config.check_kind_of(schema)
    hardware = load_hardware(config.planned_hardware)
    ranks_per_node = config.gpus_per_node or hardware.gpus_per_node
    cluster = make_cluster(config.sharding, hardware, config.nodes, ranks_per_node)
    rows = rows_of_lookup(config, cluster.world_size, items)
    return plan_request(schema, config, cluster, rows)


def plan_request(
    schema: Schema, config: RecipeConfig, cluster: Cluster, lookup_rows: int = 0
) -> PlanRequest:
    """What training with these options on this cluster plans.

    Args:
        schema: fields and tables.
        config: the run's options.
        cluster: where.
        lookup_rows: rows of one lookup on a rank; 0: a rank's share of the batch.

    Raises:
        ValueError: the options contradict each other or the schema.
    """
    check_sharding(config)
    with torch.device("meta"):
        model = unsharded(schema, config)
    add_sparse_optimizer(model.embedding, config.optimizer)
    return PlanRequest(
        model=model,
        # A matching model takes some of the items' fields, with widths of its own.
        schema=schema if isinstance(model, RankingModel) else model.embedding.schema,
        config=config.sharding,
        cluster=cluster,
        rows_per_rank=lookup_rows or batch_share(config, cluster.world_size),
        optimizer=config.optimizer.sparse,
    )


def unsharded(schema: Schema, config: RecipeConfig) -> RankingModel | MatchingModel:
    """The model, its tables on the meta device: they are made where they are sharded."""
    device = torch.device("meta")
    if config.model.kind == "ranking":
        return RankingModel(schema, config.model, config.loop.seed, device)
    return MatchingModel(schema, config.model, config.data.sequence, config.loop.seed, device)


def batch_share(config: RecipeConfig, world_size: int) -> int:
    """Rows of a batch on one rank."""
    return max(config.data.batch_size // world_size, 1)


def rows_of_lookup(config: RecipeConfig, world_size: int, items: int) -> int:
    """Rows of one lookup on one rank: of a batch, or of the catalogue that a batch refers to.

    Args:
        config: the run's options.
        world_size: ranks.
        items: of the whole catalogue (matching models).
    """
    rows = batch_share(config, world_size)
    if config.model.kind == "ranking":
        return rows
    return config.data.sequence.catalogue_rows(rows, items)


def check_sharding(config: RecipeConfig) -> None:
    """Refuse sharding types that would train the tables by another algorithm; ValueError."""
    if config.optimizer.sparse != "rowwise_adagrad":
        return
    allowed: dict[str, str] = dict.fromkeys(config.sharding.types, "sharding.types")
    for rule in config.sharding.rules:
        allowed |= dict.fromkeys(rule.types, "sharding.tables")
    for kind, option in allowed.items():
        if kind in CUT_BY_COLUMNS:
            raise ValueError(
                f"{option} has {kind!r}, but optimizer.sparse 'rowwise_adagrad' keeps one "
                "number a row and would train a table cut by columns differently: choose 'adagrad' "
                f"or leave {kind!r} out"
            )
