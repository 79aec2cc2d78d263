"""The runs of an experiment on several ranks: each is trained and evaluated under torchrun."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from dropdrift.data.config import check_divides
from dropdrift.launchers.config_file import flag_of
from dropdrift.launchers.failure import FILE, TELLER, find
from dropdrift.launchers.train import check_processes
from dropdrift.training.config import EvaluateConfig, TrainConfig
from dropdrift.training.experiments.pool import THREADS
from dropdrift.training.experiments.runs import Run, begin, is_trained, perform
from dropdrift.training.provenance import plain


def check_ranks(runs: Iterable[Run], ranks: int) -> None:
    """Refuse a number of ranks that some run cannot have, before any is trained; ValueError."""
    if ranks == 1:
        return
    for run in runs:
        if run.baseline or run.similarity:
            what = "counted" if run.baseline else "looked into (figures: similarity)"
            raise ValueError(f"--ranks is {ranks}, but {run.row!r} is {what} by one process")
        try:
            check_processes(run.config, ranks)
            check_divides("evaluate: batch_size", run.evaluation.batch_size, ranks)
        except ValueError as error:
            raise ValueError(f"--ranks is {ranks}: {run.row!r}: {error}") from error


def performer(jobs: int, ranks: int) -> Callable[[Run], None]:
    """What carries out a run, where there are ``jobs`` at a time, each on ``ranks`` processes."""
    if ranks == 1:
        return perform
    share = max(1, len(os.sched_getaffinity(0)) // (jobs * ranks))
    threads = os.environ.get(THREADS, str(share))
    return partial(perform_on_ranks, ranks=ranks, threads=threads)


def perform_on_ranks(run: Run, ranks: int, threads: str) -> None:
    """As :func:`~dropdrift.training.experiments.runs.perform`, by ``ranks`` processes.

    Args:
        run: what to do.
        ranks: processes.
        threads: of each of them, as ``OMP_NUM_THREADS`` says it.

    Raises:
        ValueError: they have failed; the message is that of the first failure.
    """
    begin(run)
    if not is_trained(run):
        _torchrun(ranks, threads, "train", flags(replace(run.config, resume=run.has_begun)))
    if not run.is_evaluated():
        _torchrun(ranks, threads, "evaluate", flags(run.evaluation))


def flags(config: TrainConfig | EvaluateConfig) -> list[str]:
    """Arguments that give a command all of these options."""
    return [
        text for name, value in _flat(plain(config)) for text in (flag_of(name), *_texts(value))
    ]


def _flat(options: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _texts(value: Any) -> list[str]:
    if isinstance(value, list):
        return [str(item) for item in value]
    if isinstance(value, bool):
        return [str(value).lower()]
    return ["none" if value is None else str(value)]


def _torchrun(ranks: int, threads: str, command: str, arguments: Sequence[str]) -> None:
    options = [f"--nproc-per-node={ranks}", "--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0"]
    program = [sys.executable, "-m", "dropdrift.launchers.torchrun", *options, "-m", "--"]
    with tempfile.TemporaryDirectory() as folder:
        left = Path(folder) / "failure.json"
        told = {FILE: str(left), TELLER: str(os.getpid()), THREADS: threads}
        with subprocess.Popen(
            [*program, "dropdrift", command, *arguments], env=os.environ | told
        ) as process:
            try:
                code = process.wait()
            except BaseException:
                process.send_signal(signal.SIGTERM)
                raise
        failure = find(left)
    if failure is not None:
        raise ValueError(failure.line())
    if code:
        raise ValueError(f"torchrun of {command} on {ranks} ranks ended with exit code {code}")
