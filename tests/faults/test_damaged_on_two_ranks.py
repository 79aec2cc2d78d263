"""Checkpoints of two ranks that are damaged, or made to do harm, where a job goes on from them."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.faults.jobs import (
    CHECKPOINT_EVERY,
    LAST_STEP,
    check_same,
    stopped_copy,
    torchrun,
    train_command,
)

from dropdrift.training.checkpoint import checkpoint_path

pytestmark = pytest.mark.timeout(300)

LAST_RANKS = "__1_0.distcp"
# The last three checkpoints are kept.
SECOND = LAST_STEP // CHECKPOINT_EVERY * CHECKPOINT_EVERY
THIRD = SECOND - CHECKPOINT_EVERY


def flip_a_bit(shard: Path) -> None:
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)


def make_stale(shard: Path) -> None:
    """As long, of the checkpoint before."""
    older = checkpoint_path(shard.parents[1], THIRD) / shard.name
    assert older.stat().st_size == shard.stat().st_size
    shutil.copy(older, shard)


def truncate(shard: Path) -> None:
    os.truncate(shard, shard.stat().st_size // 2)


@pytest.mark.parametrize(
    ("newest", "before"),
    [
        (flip_a_bit, make_stale),
        pytest.param(truncate, Path.unlink, marks=pytest.mark.faults),
    ],
)
def test_damage_of_the_last_ranks_part(
    undisturbed, prepared_folder, tmp_path, start,
    newest: Callable[[Path], None], before: Callable[[Path], None],
):  # fmt: skip
    """Of the newest two: the job goes on from the third."""
    run = stopped_copy(undisturbed, tmp_path / "run")
    for step, damage in ((LAST_STEP, newest), (SECOND, before)):
        damage(checkpoint_path(run / "checkpoints", step) / LAST_RANKS)
    job = start(torchrun(*train_command(prepared_folder, run, "--resume")), run)
    assert job.end() == 0, job.said
    told = [line for line in job.messages() if "set aside" in line]
    assert len(told) == 1
    assert told[0].endswith(f"going on from step {THIRD}")
    check_same(run, undisturbed)


class Payload:
    """Makes a file where it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.file}",)


@pytest.mark.faults
def test_metadata_that_runs_code(undisturbed, prepared_folder, tmp_path, start):
    """Its digest is adjusted, so that nothing is damaged: no rank runs it."""
    run, witness = stopped_copy(undisturbed, tmp_path / "run"), tmp_path / "witness"
    newest = checkpoint_path(run / "checkpoints", LAST_STEP)
    (newest / ".metadata").write_bytes(pickle.dumps(Payload(witness)))
    manifest = json.loads((newest / "COMMITTED").read_text())
    manifest[".metadata"] = hashlib.sha256((newest / ".metadata").read_bytes()).hexdigest()
    (newest / "COMMITTED").write_text(json.dumps(manifest))
    job = start(torchrun(*train_command(prepared_folder, run, "--resume")), run)
    assert job.end() == 1
    assert sum("names 'posix.system'" in line for line in job.messages()) >= 1
    assert not witness.exists()
    assert not (run / "result.json").exists()
