"""``--preflight`` of launched jobs, and the check as a job of its own."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import dropdrift

pytest.importorskip("torchx")

from torchx.specs import materialize_appdef
from torchx.specs.finder import get_component

from dropdrift.launchers.launch.application import application
from dropdrift.launchers.launch.config import JobOptions

pytestmark = pytest.mark.timeout(200)

ROOT = Path(__file__).resolve().parents[3]
COMPONENTS = ROOT / "launchers" / "components.py"
OF_COMMAND = {"train": ["--loop.epochs", "2"], "evaluate": ["--run-folder", "x", "--ks", "1", "5"]}


@pytest.mark.parametrize("command", OF_COMMAND)
@pytest.mark.parametrize("asked", [True, False])
def test_the_command_gets_the_flag_and_the_component_asks_for_the_same(command, asked):
    options = JobOptions(j="2x2", image="x", preflight=asked, name="job")
    app = application(command, OF_COMMAND[command], options)
    words = shlex.split(app.roles[0].args[1])
    assert words[words.index("dropdrift", words.index("--")) + 1 :] == [
        command, *OF_COMMAND[command], *(["--preflight"] if asked else []),
    ]  # fmt: skip
    component = get_component(f"{COMPONENTS}:{command}")
    given = ["-j", "2x2", "--image", "x", "--name", "job", "--preflight", str(asked).lower()]
    assert materialize_appdef(component.fn, [*given, "--", *OF_COMMAND[command]]) == app


def test_the_component_of_the_check_alone():
    component = get_component(f"{COMPONENTS}:preflight")
    assert component.validation_errors == []
    options = ["--sizes", "1024", "1048576"]
    made = materialize_appdef(component.fn, ["-j", "2x8", "--image", "x", "--", *options])
    assert made == application("preflight", options, JobOptions(j="2x8", image="x"))
    assert made.roles[0].num_replicas == 2


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["bench", "--preflight", "--", "t2diff"], "--preflight is for train and evaluate"),
        (["plan", "--preflight", "--recipe", "x", "--", "show"], "and not for plan"),
        (["preflight", "--preflight"], "and not for preflight"),
        (
            ["preflight", "--recipe", "dcnv2"],
            "recipe is 'dcnv2', and preflight has none: it trains",
        ),
        (["preflight", "-j", "2x8", "--", "--size", "1"], "did you mean --sizes?"),
        (["preflight", "-j", "2x8", "--", "--repeats", "0"], "repeats is 0, must be at least 1"),
    ],
)
def test_what_is_refused(mistake, arguments, expected):
    assert expected in mistake("launch", *arguments)


@pytest.fixture(scope="module")
def too_slow(tmp_path_factory) -> tuple[subprocess.CompletedProcess[str], Path]:
    """A real job of two nodes that asks for more than this machine's memory can do."""
    out = tmp_path_factory.mktemp("job") / "preflight.json"
    ended = subprocess.run(
        [sys.executable, "-m", "dropdrift", "launch", "preflight", "-j", "2x1", "--",
         "--sizes", "1048576", "--repeats", "2", "--least-bandwidth", "1e6", "--out", str(out)],
        cwd=out.parent,
        env={
            **os.environ,
            "PYTHONPATH": str(Path(dropdrift.__file__).parents[1]),
            "CUDA_VISIBLE_DEVICES": "",
        },
        capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    return ended, out


def test_a_job_of_two_nodes_measures_and_judges(too_slow):
    ended, _ = too_slow
    assert ended.returncode == 2, ended.stdout + ended.stderr
    assert "Preflight of 2 ranks on 1 host, " in ended.stdout
    lines = (ended.stdout + ended.stderr).splitlines()
    (line, *_) = [line for line in lines if "least_bandwidth" in line]
    assert "all-reduce of 1 MiB a rank reaches" in line
    assert "GB/s, less than least_bandwidth 1e+06; the slowest link is between rank" in line
    assert "Traceback" not in ended.stdout + ended.stderr


def test_what_was_measured_is_kept_all_the_same(too_slow):
    document = json.loads(too_slow[1].read_text())
    assert [exchange["collective"] for exchange in document["exchanges"]] == [
        "all-reduce",
        "all-to-all",
    ]
    assert document["provenance"]["world_size"] == 2
