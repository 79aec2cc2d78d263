"""SIGSTOP for a rank that trains: the other one names it, and both end."""

from __future__ import annotations

import os
import re
import signal
import time

import pytest
from tests.faults.jobs import LOG_EVERY, torchrun, train_command

TIMEOUT = 10

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize("hung", [pytest.param(0, marks=pytest.mark.faults), 1])
def test_a_stopped_rank_is_named(prepared_folder, tmp_path, start, hung):
    """The first one holds the store by which the ranks know of each other."""
    run = tmp_path / "run"
    command = train_command(prepared_folder, run, "--loop.timeout", TIMEOUT)
    job = start(torchrun(*command), run)
    job.await_step(LOG_EVERY)
    time.sleep(2)  # each rank says once a second what it does
    stopped = job.workers()[hung]
    os.kill(stopped, signal.SIGSTOP)
    job.await_message("it is stopped (SIGSTOP)")
    # Or torchrun would wait for half a minute until it ends it for good.
    os.kill(stopped, signal.SIGCONT)
    assert job.end() == 1
    named = re.compile(
        rf"dropdrift rank {1 - hung}: rank {hung} \(host \S+, process {stopped}\) has not answered "
        r"for \d+ s: it is stopped \(SIGSTOP\)"
    )
    said = [line for line in job.messages() if named.match(line)]
    assert len(said) == 1, job.said
    if hung:  # what the first rank said went with its store, and torchrun may end it as it wakes up
        assert re.search(r"; it was at step \d+, (training|saving|validation)", said[0])
        assert f"dropdrift rank {hung}: this process stood still for " in job.said
    assert "[rank" not in job.said  # the prefix of a rank's traceback
    assert not (run / "result.json").exists()
