"""Trains matching models for a few steps, saves a checkpoint and the losses of each case.

Run by test_matching_parity.py on one and on two ranks: ``matching_parity_program.py DATA OUT CASE
...``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torchrec.distributed.sharding_plan import (
    column_wise,
    construct_module_sharding_plan,
    table_wise,
)
from torchrec.distributed.types import ShardingPlan

from dropdrift.data.config import DataConfig, SequenceConfig
from dropdrift.data.interactions.loader import SequenceLoader
from dropdrift.data.loading.loader import Cursor
from dropdrift.data.schema import Schema
from dropdrift.models.config import ModelConfig
from dropdrift.models.matching.config import ItemConfig, SASRecConfig
from dropdrift.models.matching.model import MatchingModel
from dropdrift.models.t2diff.config import DiffusionConfig, SessionConfig, T2DiffConfig
from dropdrift.sharding.constraints import sharders
from dropdrift.training.build import build_model
from dropdrift.training.checkpoint import TrainingState
from dropdrift.training.config import LoopConfig, OptimizerConfig, TrainConfig
from dropdrift.training.distributed import Ranks, process_group
from dropdrift.training.optimizers import Optimizers
from dropdrift.training.pipeline import GuardedPipeline
from dropdrift.training.saver import Saver

STEPS = 4
# Models, as the first part of a case's name says. All have dropout, all fields and both towers.
MODELS: dict[str, dict[str, Any]] = {
    "unet": {"kind": "t2diff", "next_item": "diffusion", "training": "one_window"},
    "joint": {"kind": "t2diff", "next_item": "diffusion-joint", "training": "every_position"},
    "sasrec": {"kind": "sasrec", "next_item": "none", "training": "every_position"},
}


def configuration(data: Path, case: str) -> TrainConfig:
    """``case`` is MODEL-SOFTMAX-OPTIMIZER[-PLAN]; SOFTMAX is full or sampled."""
    name, softmax, sparse = case.split("-")[:3]
    model = MODELS[name]
    return TrainConfig(
        data=DataConfig(
            path=data,
            batch_size=8,
            prefetch=0,
            sequence=SequenceConfig(
                window=8,
                stretch=12,
                training=model["training"],
                windows_per_user=2,
                negatives=0 if softmax == "full" else 10,
            ),
        ),
        model=ModelConfig(
            kind=model["kind"],
            embedding_init_std=0.5,  # gradients well above rounding
            item=ItemConfig(width=8, tower="dense", dropout=0.1),
            t2diff=T2DiffConfig(
                next_item=model["next_item"],
                diffusion=DiffusionConfig(
                    steps=5,
                    window=4,
                    levels=2,
                    estimator="unet" if name == "unet" else "mlp",
                    hidden_width=8,
                ),
                session=SessionConfig(length=3, feed_forward=8, dropout=0.1),
            ),
            sasrec=SASRecConfig(blocks=1, max_positions=12, dropout=0.1),
        ),
        optimizer=OptimizerConfig(sparse=sparse),  # type: ignore[arg-type]  # one of the literals
        loop=LoopConfig(select_by="ndcg"),
    )


def explicit_plan(name: str, schema: Schema, config: TrainConfig, ranks: Ranks) -> ShardingPlan:
    """``columns``: cut over the ranks where wide enough; ``spread``: table by table."""
    world = ranks.world_size
    model = MatchingModel(
        schema, config.model, config.data.sequence, config.loop.seed, torch.device("meta")
    )

    def placed(index: int) -> object:
        if name == "columns":
            return column_wise(ranks=list(range(world)), compute_kernel="fused")
        return table_wise(rank=index % world, compute_kernel="fused")

    plan = construct_module_sharding_plan(
        model.embedding.fields.collection,
        {table.name: placed(i) for i, table in enumerate(model.embedding.schema.tables)},
        sharder=sharders()[0],
        local_size=world,
        world_size=world,
        device_type=ranks.device.type,
    )
    return ShardingPlan({"embedding.fields.collection": plan})


def run(data: Path, out: Path, case: str, ranks: Ranks) -> None:
    schema, config = Schema.load(data), configuration(data, case)
    plan_name = "-".join(case.split("-")[3:])
    plan = explicit_plan(plan_name, schema, config, ranks) if plan_name else None
    model = build_model(schema, config, ranks, plan)
    optimizers = Optimizers(model, config.optimizer, STEPS)
    pipeline = GuardedPipeline(model, optimizers, ranks.device, "fp32")
    loader = SequenceLoader(
        data, "train", schema, config.data,
        rank=ranks.rank, world_size=ranks.world_size, training=True,
    )  # fmt: skip
    batches = loader.batches(Cursor())
    losses = []
    for step in range(STEPS):
        optimizers.set_learning_rates(step)
        parts = pipeline.progress(batches)
        values = torch.stack(list(parts.values()))
        dist.all_reduce(values)
        losses.append(dict(zip(parts, (values / ranks.world_size).tolist(), strict=True)))
    batches.close()
    Saver(out / case, model, optimizers, config.loop).save(TrainingState(step=STEPS))
    if ranks.is_first:
        (out / case / "losses.json").write_text(json.dumps(losses))


def main() -> None:
    data, out, *cases = sys.argv[1:]
    with process_group(timeout=60) as ranks:
        for case in cases:
            run(Path(data), Path(out), case, ranks)


if __name__ == "__main__":
    main()
