"""A disk of 2 MB, which two ranks fill with their checkpoints."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from tests.faults.jobs import LAST_STEP, check_same, checkpoints, torchrun, train_command

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]


def test_a_disk_that_is_full(undisturbed, prepared_folder, tmp_path, small_disk: Path, start):
    """The run goes on where it is moved to."""
    run = small_disk / "run"
    job = start(torchrun(*train_command(prepared_folder, run)), run)
    assert job.end() == 1
    told = [line for line in job.messages() if "checkpoint" in line]
    assert sorted(line.split(":")[0] for line in told) == ["dropdrift rank 0", "dropdrift rank 1"]
    pattern = r".* (has no room for|could not be written to) .*; those before it stay: .*"
    assert all(re.fullmatch(pattern, line) for line in told)
    kept = checkpoints(run)  # which are whole
    assert 0 < kept[-1] < LAST_STEP
    assert len(list((run / "checkpoints").iterdir())) == len(kept)
    assert not (run / "result.json").exists()

    moved = shutil.copytree(run, tmp_path / "moved")
    again = start(torchrun(*train_command(prepared_folder, moved, "--resume")), moved)
    assert again.end() == 0, again.said
    check_same(moved, undisturbed)
