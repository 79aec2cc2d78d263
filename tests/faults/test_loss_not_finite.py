"""A loss that is NaN on one rank: all ranks stop before the backward, and the batch is kept."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from tests.faults.jobs import (
    CHECKPOINT_EVERY,
    LAST_STEP,
    RANKS,
    stopped_copy,
    torchrun,
    train_command,
)

from dropdrift.data.loading.loader import Cursor, Loader
from dropdrift.data.schema import Schema
from dropdrift.launchers.options import load_config
from dropdrift.training.checkpoint import committed_steps, read_state
from dropdrift.training.config import TrainConfig
from dropdrift.training.distributed import process_group
from dropdrift.training.failed_batch import read_failed_batch
from dropdrift.training.run_folder import RunFolder
from dropdrift.training.trainer import Trainer

pytestmark = pytest.mark.timeout(300)

TABLE = "embedding.collection.embedding_bags.user_id.weight"
FROM = LAST_STEP // CHECKPOINT_EVERY * CHECKPOINT_EVERY - CHECKPOINT_EVERY


def users_of_batches(config: TrainConfig, schema: Schema, cursor: Cursor) -> list[list[set[int]]]:
    """The users' ids in each batch after ``cursor``, by rank."""
    loaders = (
        Loader(
            config.data.path, "train", schema, config.data,
            rank=rank, world_size=RANKS, training=True, seed=config.loop.seed,
        )
        for rank in range(RANKS)
    )  # fmt: skip
    return [
        [set(batch.features["user_id"].values().tolist()) for batch in loader.batches(cursor)]
        for loader in loaders
    ]


def spoil(run: Path) -> tuple[int, int]:
    """Make one row of a table NaN, which the last rank alone looks up; the row and the step."""
    config = load_config(TrainConfig, run / "config.yaml")
    schema, folder = Schema.load(config.data.path), RunFolder(run)
    state = read_state(folder.checkpoints, FROM)
    with process_group(timeout=60) as ranks:
        trainer = Trainer(config, schema, ranks, folder, state)
        first, last = users_of_batches(
            trainer.config, schema, Cursor(state.epoch, state.batch, state.step)
        )
        # Not the first steps: those before it are taken.
        place = 3
        seen = set[int]().union(*first[: place + 1], *last[:place])
        user = min(last[place] - seen)
        weights = trainer.model.state_dict()
        with torch.no_grad():
            weights[TABLE].local_shards()[0].tensor[user] = torch.nan
        trainer.model.load_state_dict(weights)
        for step in committed_steps(folder.checkpoints):
            if step >= FROM:
                shutil.rmtree(folder.checkpoints / f"step-{step:09d}")
        trainer.saver.save(state)
    return user, FROM + place + 1


def test_a_loss_that_is_nan_on_one_rank(undisturbed, prepared_folder, tmp_path, start):
    run = stopped_copy(undisturbed, tmp_path / "run")
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace(str(undisturbed), str(run)))
    user, step = spoil(run)
    job = start(torchrun(*train_command(prepared_folder, run, "--resume")), run)
    job.await_message("the loss of step")
    assert job.end(seconds=30) == 1
    kept = run / "not-finite" / f"step-{step:09d}-rank-1.safetensors"
    told = {line.split(": ")[0]: line for line in job.messages()}
    assert (
        f"the loss of step {step} is nan on this rank (its batch is {kept})"
        in told["dropdrift rank 1"]
    )
    # torchrun may end the other rank before it has said that it waits for this one.
    other = f"the loss of step {step} is not finite on another rank"
    assert other in told.get("dropdrift rank 0", other)
    assert max(committed_steps(run / "checkpoints")) == FROM
    assert sorted(path.name for path in kept.parent.iterdir()) == [
        kept.with_suffix(".json").name,
        kept.name,
    ]
    assert user in read_failed_batch(kept).features["user_id"].values()
    found = json.loads(kept.with_suffix(".json").read_text())
    assert (found["step"], found["rank"], found["rows"], found["loss"]) == (step, 1, 30, "nan")
