"""A worker that stands still (SIGSTOP): torchrun kills it, and the job goes on."""

from __future__ import annotations

import os
import signal

import pytest
from tests.faults.jobs import MID_EPOCH, check_same, torchrun, train_command

pytestmark = [pytest.mark.faults, pytest.mark.timeout(400)]


def test_a_worker_that_stands_still_is_replaced(
    undisturbed, prepared_folder, tmp_path, start, monkeypatch
):
    """The other rank waits for as long as it is told to, and ends."""
    run = tmp_path / "run"
    # How long torchrun gives its processes to end before it kills them; SIGTERM cannot reach it.
    monkeypatch.setenv("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "5")
    options = ("--loop.timeout", 20)
    job = start(torchrun(*train_command(prepared_folder, run, *options), max_restarts=1), run)
    job.await_step(MID_EPOCH)
    workers = job.workers()
    os.kill(workers[1], signal.SIGSTOP)
    job.await_ends(workers.values())
    assert job.end() == 0, job.said
    assert any("rank 1" in line for line in job.messages() if "rank 0:" in line), job.messages()
    check_same(run, undisturbed)
