"""Trains runs, or goes on with copies of them, by hand-made plans on any number of ranks.

Run by test_resharding.py: ``-m tests.training.resharding_program RUNS.json``, a list of
:class:`Asked` as dictionaries. Beside a run's own files its folder then has

* ``logits.npy``: of the validation part, right after loading;
* ``rows-RANK.json``: what this rank was trained on, as pairs of the step and the row's key.
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tests.training.hand_made_plans import write_plan

from dropdrift.data.batch import Batch, SequenceBatch
from dropdrift.data.loading.loader import Cursor
from dropdrift.data.schema import Schema
from dropdrift.launchers.options import load_config
from dropdrift.models.ranking import RankingModel
from dropdrift.training.checkpoint import checkpoint_path, committed_steps
from dropdrift.training.config import TrainConfig
from dropdrift.training.distributed import Ranks, on_first_rank, process_group
from dropdrift.training.gather import gather_rows_to
from dropdrift.training.matching.catalogue import catalogue_vectors
from dropdrift.training.run_folder import RunFolder
from dropdrift.training.scenarios import COMPLETE
from dropdrift.training.scoring import score_batches
from dropdrift.training.task import part_loader
from dropdrift.training.trainer import Trainer, make_task

NOISE_SEED = 5


@dataclass(frozen=True)
class Asked:
    """A run.

    Attributes:
        config: its configuration's file.
        out: its folder.
        kinds: a sharding type for each table; none: as the planner has it.
        goes_on_from: folder of a run to go on from; none: a new run.
        step: of the checkpoint to go on from.
    """

    config: str
    out: str
    kinds: dict[str, str] | None = None
    goes_on_from: str | None = None
    step: int = 0


def copied(asked: Asked) -> None:
    """What an interruption after ``step`` leaves of the other run, in the folder of this one."""
    assert asked.goes_on_from is not None
    out = Path(asked.out)
    shutil.copytree(asked.goes_on_from, out, ignore=shutil.ignore_patterns("rows-*", "*.npy"))
    (out / "result.json").unlink()
    for step in committed_steps(out / "checkpoints"):
        if step > asked.step:
            shutil.rmtree(checkpoint_path(out / "checkpoints", step))


def hand_made(asked: Asked, schema: Schema, config: TrainConfig, ranks: Ranks) -> Path | None:
    """The file of the plan that ``kinds`` asks for."""
    if asked.kinds is None:
        return None
    rows = make_task(config, schema, ranks).lookup_rows
    kinds, path = asked.kinds, Path(f"{asked.out}-plan.json")
    return on_first_rank(lambda: write_plan(schema, config, ranks, kinds, path, rows))


@torch.no_grad()
def logits(trainer: Trainer, schema: Schema, ranks: Ranks) -> np.ndarray[Any, Any] | None:
    """Of the validation part: of its rows, or of its users and all items."""
    loader = part_loader(type(trainer.task.data), "validation", trainer.config, schema, ranks)
    if isinstance(trainer.model.module, RankingModel):
        scores = score_batches(trainer.model, loader.batches(Cursor()), [COMPLETE], ranks)
        return None if scores is None else scores.logits[0]
    model = trainer.model.module
    trainer.model.eval()
    embedded, items = catalogue_vectors(model, loader.catalogue, ranks.device)
    users = [
        model.user_vectors(embedded, batch, NOISE_SEED)[: batch.size]
        for batch in loader.batches(Cursor())
    ]
    gathered = gather_rows_to(torch.cat(users) @ items.T)
    trainer.model.train()
    return None if gathered is None else gathered.numpy()


def key_of_rows(batch: Batch | SequenceBatch) -> list[str]:
    """What tells a row from all others of the part: its user, or its interactions' times."""
    if isinstance(batch, Batch):
        return [str(user) for user in batch.users.tolist()]
    return [str([time for time in row if time]) for row in batch.times.tolist()]


def run(asked: Asked, ranks: Ranks) -> None:
    config = replace(load_config(TrainConfig, Path(asked.config)), out=Path(asked.out))
    schema, folder = Schema.load(config.data.path), RunFolder(config.out)
    config = replace(config, plan=hand_made(asked, schema, config, ranks))
    if asked.goes_on_from:
        on_first_rank(lambda: copied(asked))
        config = replace(config, resume=True)
        state = on_first_rank(lambda: folder.resumable_state(config, schema))
    else:
        state = on_first_rank(lambda: folder.new_state(config, schema))
        state.lanes = config.data.lanes
        on_first_rank(lambda: folder.create(config))
    trainer = Trainer(config, schema, ranks, folder, state)
    found = logits(trainer, schema, ranks)
    if found is not None:
        np.save(config.out / "logits.npy", found)
    rows: list[tuple[int, str]] = []

    def note(_: object, arguments: tuple[Batch | SequenceBatch, ...]) -> None:
        batch = arguments[0]
        rows.extend((batch.step, key) for key in key_of_rows(batch))

    trainer.model.register_forward_pre_hook(note)
    trainer.fit(False)
    (config.out / f"rows-{ranks.rank}.json").write_text(json.dumps(rows))


def main() -> None:
    asked = json.loads(Path(sys.argv[1]).read_text())
    with process_group(timeout=120) as ranks:
        for one in asked:
            run(Asked(**one), ranks)


if __name__ == "__main__":
    main()
