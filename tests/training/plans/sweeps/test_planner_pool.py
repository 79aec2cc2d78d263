"""Processes that plan: what they raise, and that none is left."""

from __future__ import annotations

import multiprocessing
import os
import time

import pytest

from dropdrift.training.plans.sweeps.pool import planner_pool


@pytest.mark.timeout(60)
def test_what_ends_a_process_is_told_and_an_interrupt_ends_all() -> None:
    with (
        pytest.raises(ValueError, match=r"invalid literal.*'x'"),
        planner_pool(int, 2) as run,
    ):
        list(run(["1", "x"]))
    with (
        pytest.raises(MemoryError, match="as when memory runs out"),
        planner_pool(os._exit, 2) as leave,
    ):
        list(leave([9, 9]))
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    while multiprocessing.active_children():
        time.sleep(0.05)
    assert time.monotonic() - started < 30


def interrupted() -> None:
    """As by Ctrl-C while two processes are busy for long."""
    with planner_pool(time.sleep, 2) as sleep:
        sleep([50, 50])
        raise KeyboardInterrupt
