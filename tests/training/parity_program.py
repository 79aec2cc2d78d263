"""Trains a few steps under several sharding plans and saves a checkpoint and the losses of each.

Run by test_parity.py on one, two and three ranks: ``parity_program.py DATA OUT PLAN ...``.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import torch.distributed as dist
from tests.training.hand_made_plans import context_on, dealt, placed
from torchrec.distributed.types import ShardingPlan

from dropdrift.data.config import DataConfig
from dropdrift.data.loading.loader import Cursor, Loader
from dropdrift.data.schema import Schema
from dropdrift.models.config import AsymDiffRecConfig, DCNv2Config, ModelConfig
from dropdrift.sharding.saved.placement import to_sharding_plan
from dropdrift.training.build import build_model
from dropdrift.training.checkpoint import TrainingState
from dropdrift.training.config import OptimizerConfig, TrainConfig
from dropdrift.training.distributed import Ranks, process_group
from dropdrift.training.optimizers import Optimizers
from dropdrift.training.pipeline import GuardedPipeline
from dropdrift.training.saver import Saver

STEPS = 4
# Sharding types that are dealt to the tables, by the plan's name.
KINDS = {
    "spread": ("table_wise",),
    "last": ("table_wise",),
    "rows": ("row_wise",),
    "mixed": ("row_wise", "table_wise", "table_row_wise"),
    "columns-adagrad": ("column_wise", "table_column_wise"),
    "mixed-adagrad": (
        "grid_shard", "row_wise", "column_wise", "table_wise", "table_row_wise",
        "table_column_wise",
    ),
}  # fmt: skip


def configuration(data: Path, plan: str) -> TrainConfig:
    sparse = "adagrad" if plan.endswith("adagrad") else "rowwise_adagrad"
    kernels = "reference" if plan.endswith("reference") else "automatic"
    return TrainConfig(
        data=DataConfig(path=data, batch_size=60, lanes=6, prefetch=0),
        model=ModelConfig(
            tasks=("click", "like"),
            dcnv2=DCNv2Config(deep_widths=(16,)),
            asymdiffrec=AsymDiffRecConfig(kernels=kernels),  # type: ignore[arg-type]  # likewise
        ),
        optimizer=OptimizerConfig(sparse=sparse),  # type: ignore[arg-type]  # one of the literals
    )


def explicit_plan(name: str, schema: Schema, config: TrainConfig, ranks: Ranks) -> ShardingPlan:
    """The kinds that ``KINDS`` names, in turn; ``last``: all on the last rank."""
    context = context_on(schema, config, ranks)
    placement = placed(context, dealt([t.name for t in context.tables], KINDS[name]))
    if name == "last":
        last = context.cluster.world_size - 1
        placement = [
            replace(table, shards=tuple(replace(shard, rank=last) for shard in table.shards))
            for table in placement
        ]
    return to_sharding_plan(placement, context)


def run(data: Path, out: Path, name: str, ranks: Ranks) -> None:
    schema, config = Schema.load(data), configuration(data, name)
    plan = None if name.startswith("planner") else explicit_plan(name, schema, config, ranks)
    model = build_model(schema, config, ranks, plan)
    optimizers = Optimizers(model, config.optimizer, STEPS)
    pipeline = GuardedPipeline(model, optimizers, ranks.device, "fp32")
    loader = Loader(
        data, "train", schema, config.data,
        rank=ranks.rank, world_size=ranks.world_size, training=True,
    )  # fmt: skip
    batches = loader.batches(Cursor())
    losses = []
    for step in range(STEPS):
        optimizers.set_learning_rates(step)
        loss = pipeline.progress(batches)["main"]
        dist.all_reduce(loss)
        losses.append(loss.item() / ranks.world_size)
    batches.close()
    Saver(out / name, model, optimizers, config.loop).save(TrainingState(step=STEPS))
    if ranks.is_first:
        (out / name / "losses.json").write_text(json.dumps(losses))


def main() -> None:
    data, out, *plans = sys.argv[1:]
    with process_group(timeout=60) as ranks:
        for plan in plans:
            run(Path(data), Path(out), plan, ranks)


if __name__ == "__main__":
    main()
