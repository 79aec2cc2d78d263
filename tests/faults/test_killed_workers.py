"""SIGKILL for workers, and for a whole job: it ends as if nothing had happened, bit by bit."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable

import pytest
from tests.faults.jobs import (
    LAST_STEP,
    LOG_EVERY,
    MID_EPOCH,
    RANKS,
    STEPS_PER_EPOCH,
    Job,
    check_same,
    entries,
    last_step,
    torchrun,
    train_command,
)

pytestmark = pytest.mark.timeout(600)


@pytest.mark.parametrize(
    ("kills", "options"),
    [
        (2, ()),
        pytest.param(10, (), marks=pytest.mark.faults),
        pytest.param(3, ("--loop.save-in-background",), marks=pytest.mark.faults),
    ],
)
def test_workers_killed_at_random_steps(
    undisturbed, prepared_folder, tmp_path, start, kills, options
):
    """torchrun starts the ranks again, as often as it is asked to."""
    run = tmp_path / "run"
    draw = random.Random(kills)
    # It is some steps further when it is killed: the last ones are left to it.
    steps = sorted(draw.sample(range(1, LAST_STEP - 50), kills))
    job = start(torchrun(*train_command(prepared_folder, run, *options), max_restarts=kills), run)
    for step in steps:
        job.await_step(step)
        time.sleep(draw.random() * 0.1)  # the log knows every sixth step
        workers = job.workers()
        rank = draw.randrange(RANKS)
        # Shown where the test fails.
        print(f"after step {last_step(run)}, {step} wanted: SIGKILL for rank {rank}")
        os.kill(workers[rank], signal.SIGKILL)
        job.await_ends(workers.values())
    assert job.end() == 0, job.said
    check_same(run, undisturbed)


def of_a_validation(job: Job) -> None:
    """After the last step of an epoch, before what it validates is in the log."""
    job.await_step(STEPS_PER_EPOCH)


def of_saving(job: Job) -> None:
    """When the folder of an unfinished checkpoint is there."""
    job.await_step(MID_EPOCH)
    job.await_true("a checkpoint", lambda: any(job.run.glob("checkpoints/*.partial")))


@pytest.mark.faults
@pytest.mark.parametrize("midst", [of_a_validation, of_saving])
def test_all_processes_killed_at_once(
    undisturbed, prepared_folder, tmp_path, start, midst: Callable[[Job], None]
):
    """torchrun too. The same command again goes on by itself: it is the same job."""
    run = tmp_path / "run"
    command = torchrun(*train_command(prepared_folder, run))
    job = start(command, run)
    midst(job)
    job.kill()
    kinds = [entry["kind"] for entry in entries(run)]
    if midst is of_a_validation:
        assert kinds == ["train"] * (STEPS_PER_EPOCH // LOG_EVERY)
    else:
        assert MID_EPOCH <= last_step(run) < LAST_STEP
    again = start(command, run)
    assert again.end() == 0, again.said
    check_same(run, undisturbed)
