"""Real jobs of several nodes on this machine, by ``dropdrift launch`` and TorchX's local_cwd."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import dropdrift

pytest.importorskip("torchx")

pytestmark = pytest.mark.timeout(150)

SMALL = (
    "--data.batch-size", "64", "--data.lanes", "4", "--model.tasks", "click",
    "--model.dcnv2.deep-widths", "8", "--model.dcnv2.z-width", "4",
    "--loop.max-steps", "6", "--loop.log-every", "1",
)  # fmt: skip
# Of the log. The rest tells of a rank's own rows: means over ranks of what no sum makes.
LOSSES = ("main", "reconstruction", "auxiliary", "auc", "log_loss")


def launch(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dropdrift", *arguments],
        cwd=cwd,
        env={
            **os.environ,
            "PYTHONPATH": str(Path(dropdrift.__file__).parents[1]),
            "CUDA_VISIBLE_DEVICES": "",
            "OMP_NUM_THREADS": "1",
        },
        capture_output=True,
        text=True,
        timeout=140,
        check=False,
    )


def losses(run: Path) -> list[dict[str, float]]:
    entries = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in entry.items() if name in LOSSES} for entry in entries]


@pytest.fixture(scope="module")
def one_process(prepared_folder, tmp_path_factory, succeed) -> Path:
    out = tmp_path_factory.mktemp("one") / "run"
    recipe = ("--recipe", "asymdiffrec", "--data.path", prepared_folder, "--out", out)
    succeed("train", *recipe, *SMALL)
    return out


@pytest.mark.parametrize("shape", ["2x1", "2x2"])
def test_two_nodes_do_as_one_process(one_process, prepared_folder, tmp_path, shape):
    of_command = ("--data.path", str(prepared_folder), "--out", "run", *SMALL)
    ended = launch(
        "launch", "train", "--recipe", "asymdiffrec", "-j", shape, "--", *of_command, cwd=tmp_path
    )
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    expected = losses(one_process)
    assert [len(entry) for entry in expected] == [3] * 6 + [2]  # of the steps and the validation
    for ours, theirs in zip(losses(tmp_path / "run"), expected, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-5)
    last = [line for line in ended.stdout.splitlines() if "validation AUC" in line]
    assert len(last) == 1
    assert last[0].startswith(("[0] run: 6 steps", "[1] run: 6 steps"))
    world = json.loads((tmp_path / "run" / "provenance.json").read_text())["world_size"]
    assert world == int(shape[0]) * int(shape[2])


def test_a_job_that_fails_gives_its_exit_code_and_its_reason(tmp_path):
    """What only the command itself can find out, after its options were found to be good."""
    ended = launch("launch", "evaluate", "--", "--run-folder", "absent", cwd=tmp_path)
    assert ended.returncode == 1  # torchrun's, whatever its processes end with
    told = [line for line in ended.stdout.splitlines() if line.startswith("dropdrift: ")]
    assert len(told) == 1
    assert "--run-folder absent holds no run" in told[0]


def test_nothing_runs_where_a_command_refuses_its_options(tmp_path):
    options = ("--recipe", "asymdiffrec", "-j", "2x1", "--", "--loop.epoch", "3")
    ended = launch("launch", "train", *options, cwd=tmp_path)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert len(ended.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
