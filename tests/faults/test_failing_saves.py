"""One of two ranks cannot write its part of a checkpoint while training goes on: both end."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from tests.faults.jobs import CHECKPOINT_EVERY, checkpoints, torchrun, train_command

PROGRAM = Path(__file__).with_name("failing_saves.py")
TIMEOUT = 8

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize("fault", ["raises", pytest.param("hangs", marks=pytest.mark.faults)])
def test_one_of_two_ranks_cannot_save(prepared_folder, tmp_path, start, fault):
    """It says why, and the other that it has ended; a rank that hangs is ended."""
    run = tmp_path / "run"
    command = train_command(
        prepared_folder, run, "--loop.save-in-background", "--loop.timeout", TIMEOUT
    )
    workers = torchrun()[:-3]  # without "-m -- dropdrift"
    job = start([*workers, str(PROGRAM), fault, *command], run)
    job.await_step(CHECKPOINT_EVERY)
    began = time.monotonic()
    assert job.end() == 1
    said = job.messages()
    if fault == "raises":
        cause = "a checkpoint could not be written beside training: TypeError: of a test"
        assert f"dropdrift rank 1: {cause}" in said
        # torchrun may end it before it has said so; it has not waited for the timeout.
        assert all(cause in line for line in said)
    else:
        assert any("rank 1" in line for line in said if line.startswith("dropdrift rank 0: "))
        assert time.monotonic() - began < 100
    assert checkpoints(run) == [CHECKPOINT_EVERY]
    assert not (run / "result.json").exists()
    assert "[rank" not in job.said  # as the lines of a traceback begin
