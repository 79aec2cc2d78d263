"""What carries out the runs of an experiment on several ranks."""

from __future__ import annotations

import os
from functools import partial

import pytest

from dropdrift.launchers.experiment_ranks import perform_on_ranks, performer
from dropdrift.training.experiments.runs import perform


def threads_of(jobs: int, ranks: int) -> str:
    performing = performer(jobs, ranks)
    assert isinstance(performing, partial)
    assert performing.func is perform_on_ranks
    threads: str = performing.keywords["threads"]
    return threads


def test_ranks_share_the_cores_of_their_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(12)))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert threads_of(jobs=1, ranks=2) == "6"
    assert threads_of(jobs=3, ranks=2) == "2"
    assert threads_of(jobs=4, ranks=8) == "1"
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert threads_of(jobs=4, ranks=8) == "5"
    assert performer(jobs=1, ranks=1) is perform
