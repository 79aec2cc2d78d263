"""SIGKILL at each thing that is done to the folder of checkpoints: nothing is lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path

import pytest
from tests.faults.jobs import check_same, torchrun, train_command

import dropdrift

PROGRAM = Path(__file__).with_name("write_points.py")

pytestmark = pytest.mark.timeout(1800)

# What a checkpoint takes, once its directory is there: the third one of the run.
WRITTEN = [
    "mkdir 6.partial", "open 6.partial/__0_0.distcp", "write 6.partial/__0_0.distcp",
    "fsync 6.partial/__0_0.distcp", "open 6.partial/.metadata.tmp",
    "write 6.partial/.metadata.tmp", "fsync 6.partial/.metadata.tmp",
    "rename 6.partial/.metadata.tmp", "open 6.partial/state.json", "write 6.partial/state.json",
    "fsync 6.partial/state.json", "open 6.partial/plan.json", "write 6.partial/plan.json",
    "fsync 6.partial/plan.json", "fsync 6.partial/.metadata", "fsync 6.partial",
    "rename 6.partial", "fsync ", "open 6/COMMITTED.partial", "write 6/COMMITTED.partial",
    "fsync 6/COMMITTED.partial", "rename 6/COMMITTED.partial", "fsync 6",
]  # fmt: skip
# For the third, the first is removed; its files in any order.
REMOVED = ["remove 2/COMMITTED", "fsync 2", *["remove 2/"] * 4, "rmdir 2", "fsync "]
SET_ASIDE = ["rename 8", "fsync ", "mkdir 8.partial"]


class Trials:
    """The program, which ends a training at points, one after the other, and resumes each."""

    def __init__(self, folder: Path, data: Path) -> None:
        environment = {
            **os.environ,
            "PYTHONPATH": str(Path(dropdrift.__file__).parents[1]),
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
        }
        self.folder, self._said = folder, folder / "said.txt"
        with self._said.open("w") as said:
            self.process = subprocess.Popen(
                [sys.executable, str(PROGRAM), "all", str(folder), str(data)],
                env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said,
                text=True,
            )  # fmt: skip
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n", self._said.read_text()

    def points(self, kind: str) -> list[str]:
        """What an undisturbed run does to the folder, in order."""
        return (self.folder / kind).read_text().splitlines()

    def run(self, lines: list[tuple[str, int]]) -> list[dict[str, object]]:
        """What has come of a training that was ended at each point, and resumed."""
        asked = "".join(f"{kind} {point}\n" for kind, point in lines)
        answers, _ = self.process.communicate(asked)
        assert self.process.returncode == 0, self._said.read_text()[-5000:]
        return [json.loads(line) for line in answers.splitlines()]


@pytest.fixture
def trials(prepared_folder, tmp_path) -> Iterator[Trials]:
    started = Trials(tmp_path, prepared_folder)
    yield started
    started.process.kill()
    started.process.wait()


def third_checkpoint(points: list[str]) -> range:
    """The points of the third checkpoint, and of what is removed for it."""
    return range(points.index("mkdir 6.partial"), points.index("mkdir 8.partial"))


@pytest.mark.parametrize("every", [12, pytest.param(1, marks=pytest.mark.faults)])
def test_killed_at_each_point(trials, every: int):
    """While a checkpoint is written, an older one removed, and a damaged one set aside."""
    points = trials.points("saving")
    tried = third_checkpoint(points)
    found = [what for what, _ in groupby(points[n] for n in tried)]
    assert found[: len(WRITTEN)] == WRITTEN
    assert [any_file(what) for what in found[len(WRITTEN) :]] == REMOVED
    assert len(tried) > 100, "torch writes a checkpoint's tensors one after the other"
    aside = trials.points("setting-aside")[: len(SET_ASIDE)]
    assert aside == SET_ASIDE

    lines = [("saving", point) for point in tried[::every]]
    lines += [("beside", point) for point in tried[every // 2 :: 3 * every]]
    lines += [("setting-aside", point) for point in range(len(SET_ASIDE))]
    answers = trials.run(lines)
    assert len(answers) == len(lines) >= (18 if every > 1 else 150)
    assert {a["where"] for a in answers} <= {*points, *aside}
    failed = [a for a in answers if a["codes"] != [-9, 0] or a["wrong"]]
    assert not failed, failed


def any_file(what: str) -> str:
    """Without the name of a file that is removed, but the marker's, which is the first."""
    is_marker = what.endswith("/COMMITTED")
    return what if is_marker or not what.startswith("remove ") else f"{what.rpartition('/')[0]}/"


@pytest.mark.parametrize(
    ("point", "options"),
    [
        (250, ["--loop.save-in-background"]),
        pytest.param(0, [], marks=pytest.mark.faults),
        pytest.param(1, [], marks=pytest.mark.faults),
        pytest.param(170, [], marks=pytest.mark.faults),
        pytest.param(171, ["--loop.save-in-background"], marks=pytest.mark.faults),
    ],
)
def test_the_last_of_two_ranks_is_killed_while_it_writes(
    undisturbed, prepared_folder, tmp_path, start: Callable[..., object], point, options
):
    """torchrun starts both again. The undisturbed run has not saved beside training."""
    run = tmp_path / "run"
    command = train_command(prepared_folder, run, *options)
    workers = torchrun(max_restarts=1)[:-3]  # without "-m -- dropdrift"
    job = start([*workers, str(PROGRAM), "rank", str(point), *command], run)
    assert job.end() == 0, job.said
    assert "Signal 9 (SIGKILL)" in job.said or "exitcode: -9" in job.said
    check_same(run, undisturbed)
