"""Processes that carry out jobs: failures, and deaths, stay with the job."""

from __future__ import annotations

import importlib
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dropdrift.training.experiments.pool import run_jobs

pytestmark = pytest.mark.timeout(120)


@dataclass
class Notes:
    begun: list[str] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    interrupt: str = ""

    def started(self, job: Any) -> None:
        self.begun.append(job.name)
        if job.name == self.interrupt:
            raise KeyboardInterrupt

    def ended(self, job: Any, seconds: float, failure: str) -> None:
        assert seconds >= 0
        self.failures[job.name] = failure


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    return importlib.import_module("pool_jobs")


def test_failures_and_deaths_do_not_stop_the_others(work: Any, tmp_path: Path) -> None:
    names = ("first", "mistake", "killed", "second", "bug", "left", "third")
    notes = Notes()
    run_jobs([work.Job(n, tmp_path / "logs" / f"{n}.log") for n in names], work.perform, 2, notes)
    assert sorted(notes.begun) == sorted(names)
    assert notes.begun[:2] == ["first", "mistake"]
    assert notes.failures == {
        "first": "",
        "mistake": "the option is wrong",
        "killed": "its process was ended by signal 9, as when memory runs out",
        "second": "",
        "bug": "RuntimeError: index out of range",
        "left": "its process ended with exit code 3",
        "third": "",
    }
    logs = {name: (tmp_path / "logs" / f"{name}.log").read_text() for name in names}
    assert "begun first" in logs["first"]
    assert "begun left" in logs["left"]
    assert "ValueError: the option" in logs["mistake"]
    assert "IndexError" not in logs["second"]


def test_one_process_does_one_job_after_the_other(
    work: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    names = ("first", "mistake", "second")
    run_jobs([work.Job(n, tmp_path / f"{n}.log") for n in names], work.perform, 1, Notes())
    first, second = ((tmp_path / f"{n}.pid").read_text() for n in ("first", "second"))
    assert first == second
    assert first.endswith(" 7")


def test_an_interruption_ends_the_processes(work: Any, tmp_path: Path) -> None:
    notes, begun = Notes(interrupt="second"), time.monotonic()
    jobs = [work.Job(n, tmp_path / f"{n}.log") for n in ("long", "second")]
    with pytest.raises(KeyboardInterrupt):
        run_jobs(jobs, work.perform, 2, notes)
    assert time.monotonic() - begun < 50
