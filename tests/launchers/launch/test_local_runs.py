"""Real jobs of several nodes on this machine, by ``dropdrift launch`` and TorchX's local_cwd."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
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
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert len(ended.stderr.splitlines()) == 1
    assert "--run-folder absent holds no run" in ended.stderr


def test_nothing_runs_where_a_command_refuses_its_options(tmp_path):
    options = ("--recipe", "asymdiffrec", "-j", "2x1", "--", "--loop.epoch", "3")
    ended = launch("launch", "train", *options, cwd=tmp_path)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert len(ended.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def processes_naming(text: str) -> dict[int, str]:
    """Command lines that hold ``text``, of this system's processes that have not ended."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if text in line:
            found[int(path.parent.name)] = line
    return found


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes in /proc")
@pytest.mark.parametrize(
    ("sent", "stuck"), [(signal.SIGINT, False), (signal.SIGHUP, False), (signal.SIGTERM, True)]
)
def test_a_signal_ends_all_processes(prepared_folder, tmp_path, sent, stuck):
    """A second one meanwhile as well, and workers that do not end in the time of SIGTERM."""
    out = tmp_path / "run"
    ended = subprocess.Popen(
        [sys.executable, "-m", "dropdrift", "launch", "train", "--recipe", "asymdiffrec",
         "-j", "2x1", "--env", "TORCH_ELASTIC_SHUTDOWN_TIMEOUT=3", "--",
         "--data.path", str(prepared_folder), "--out", str(out), *SMALL,
         "--loop.max-steps", "100000", "--loop.epochs", "100000"],
        env={**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path),
             "PYTHONPATH": str(Path(dropdrift.__file__).parents[1])},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        while not (out / "log.jsonl").exists() or not (out / "log.jsonl").stat().st_size:
            assert ended.poll() is None, ended.communicate()[0][-3000:]
            time.sleep(0.1)
        lines = processes_naming(str(out))
        workers = [pid for pid, line in lines.items() if "-u -m dropdrift" in line]
        assert len(workers) == 2, lines
        for worker in workers if stuck else ():
            os.kill(worker, signal.SIGSTOP)
        for _ in range(2):
            ended.send_signal(sent)
            time.sleep(0.3)
        told = ended.communicate(timeout=30)[0]
    finally:
        ended.kill()
        left = processes_naming(str(out))
        for pid in left:
            os.kill(pid, signal.SIGKILL)
    assert not left
    assert ended.returncode == 128 + sent
    last = "ended by SIGTERM" if stuck else f"{sent.name}: ending all processes"
    assert told.splitlines()[-1] == f"dropdrift: {last}"
    assert "Traceback" not in told
    assert not list(tmp_path.glob("torchx_*"))
