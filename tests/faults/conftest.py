"""Fixtures of the tests that disturb a training: the undisturbed one, and jobs that are ended."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import pytest
from tests.faults.jobs import Job, torchrun, train_command


class Start(Protocol):
    """Starts a command, whose processes are ended with the test."""

    def __call__(self, command: Sequence[str], run: Path) -> Job:
        """``run`` is the folder of the run that it trains."""


@pytest.fixture(scope="session", autouse=True)
def ended_as_by_ctrl_c() -> Iterator[None]:
    """SIGTERM for pytest ends the fixtures too, and with them all processes."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """``start(command, run)``; all that it has started is killed after the test."""
    jobs: list[Job] = []

    def started(command: Sequence[str], run: Path) -> Job:
        jobs.append(Job(command, run, tmp_path / "output.txt"))
        return jobs[-1]

    yield started
    for job in jobs:
        job.kill()


@pytest.fixture(scope="session")
def undisturbed(prepared_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run on two ranks that nothing has happened to."""
    folder = tmp_path_factory.mktemp("undisturbed")
    job = Job(
        torchrun(*train_command(prepared_folder, folder / "run")),
        folder / "run",
        folder / "output.txt",
    )
    try:
        assert job.end() == 0, job.said
    finally:
        job.kill()
    return folder / "run"
