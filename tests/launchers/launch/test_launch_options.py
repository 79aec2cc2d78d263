"""What ``dropdrift launch`` refuses, on the machine that submits and before anything is asked."""

from __future__ import annotations

import configparser
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dropdrift.launchers.launch import torchx_installed
from dropdrift.launchers.launch.config import JobOptions, LaunchConfig, Shape

pytest.importorskip("torchx")

DEMO = ("--recipe", "dcnv2-demo")


@pytest.mark.parametrize(("text", "shape"), [("1x1", Shape(1, 1)), ("12x8", Shape(12, 8))])
def test_nodes_and_processes(text, shape):
    assert Shape.parse(text) == shape


@pytest.mark.parametrize(
    "text",
    ["2", "x8", "2x", "0x2", "2x0", "2X2", "1:2x2", " 2x2", "2x2x2", "", "10000x1", "1x10000"],
)
def test_a_shape_of_the_wrong_form(text):
    with pytest.raises(ValueError, match=f"-j is {text!r}, must be NODESxPROCESSES"):
        JobOptions(j=text)


@pytest.mark.parametrize("given", [("-j", "2by1"), ("-j2by1",), ("-j=2by1",), ("--j", "2by1")])
def test_every_spelling_of_j_is_read(mistake, given):
    assert mistake("launch", "train", *given, *DEMO).startswith("-j is '2by1', must be")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["train", "--recipe", "nope"], "unknown recipe 'nope'"),
        (["train", *DEMO, "--", "--loop.epoch", "3"], "did you mean --loop.epochs?"),
        (["train", *DEMO, "--", "--loop.epochs", "x"], "--loop.epochs is 'x', must be a whole"),
        (["train", *DEMO, "--", "--loop.epochs", "0"], "loop.epochs is 0, must be positive"),
        (["train", "nonsense"], "unexpected argument 'nonsense'"),
        (["train", *DEMO, "--epochs", "3"], "unknown option --epochs; dropdrift launch train"),
        (["train", *DEMO, "--data.path", "x"], "; options of train itself come after --"),
        (["train", *DEMO, "--hardware", "H1"], "unknown hardware 'H1'; did you mean H100?"),
        (["train", *DEMO, "-j", "1x9", "--hardware", "H100"], "H100 has 8 GPUs: one process each"),
        (["evaluate"], "required option --run-folder is missing"),
        (["evaluate", *DEMO], "recipe is 'dcnv2-demo', and evaluate has none"),
        (["evaluate", "--", "--run-folder", "x", "--part", "y"], "--part is 'y', must be one of"),
        (["bench", "-j", "1x2"], "-j asks for 2 processes, and bench runs on one"),
        (["bench", "--", "nope"], "unknown benchmark 'nope'"),
        (["bench", "--", "training-step", "--steps", "x"], "--steps is 'x', must be a whole"),
        (["plan"], "needs a subcommand of plan"),
        (["plan", "--", "sho"], "unknown subcommand 'sho' of plan; did you mean show?"),
        (["plan", "--", "show", "nope"], "unknown CONFIG 'nope'"),
        (["trian"], "unknown subcommand 'trian' of launch; did you mean train?"),
        (["train", *DEMO, "--env", "A"], "env has 'A', must be NAME=VALUE"),
        (["train", *DEMO, "--env", "A-B=c"], "env has 'A-B=', must be NAME=VALUE"),
        (["train", *DEMO, "--env", "HF_TOKEN=x"], "env HF_TOKEN looks like a secret by its name"),
        (["train", *DEMO, "--max-restarts", "-1"], "max_restarts is -1, must be at least 0"),
        (["train", *DEMO, "--port", "70000"], "port is 70000, must be at most 65535"),
        (["train", *DEMO, "--name", "My job"], "name is 'My job', must be at most 30"),
        (["train", *DEMO, "--max-requeues", "1"], "--max-requeues is for a cluster"),
        (["train", *DEMO, "--scheduler", "kubernetes"], "needs an --image that holds Dropdrift"),
        (["train", *DEMO, "--image", "x"], "--image is for containers, and --scheduler local_cwd"),
        (["train", *DEMO, "--scheduler-args", "a"], "scheduler_args has 'a', must be KEY=VALUE"),
        (
            ["train", *DEMO, "--scheduler", "slurm", "--scheduler-args", "partitoin=a"],
            "scheduler_args has 'partitoin', which slurm does not know; did you mean partition?",
        ),
        (
            ["train", *DEMO, "--scheduler", "slurm", "--scheduler-args", "time=noon"],
            "time is 'noon', must be minutes",
        ),
        (
            ["train", *DEMO, "--scheduler", "slurm", "--scheduler-args", "warning=soon"],
            "scheduler_args has 'warning=soon': invalid literal for int()",
        ),
        (
            ["train", *DEMO, "--scheduler", "docker", "--image", "x", "--mounts", "type=bnd"],
            "invalid mount type 'bnd'",
        ),
        (
            ["train", *DEMO, "--scheduler", "docker", "--image", "x", "--mounts", "typ=bind"],
            "unknown mount option typ",
        ),
        (["status"], "launch status needs the HANDLE"),
        (["log", "slurm:/x/1"], "found 'slurm:/x/1'"),
        (["cancel", "slurm://dropdrift/--user=me"], "launch cancel needs the HANDLE"),
        (["cancel", "slurm://dropdrift/1", "--force"], "unknown option --force"),
    ],
)  # fmt: skip
def test_one_line_and_exit_code_2(mistake, arguments, expected):
    assert expected in mistake("launch", *arguments)


def test_mounts_without_what_they_need(mistake):
    line = mistake("launch", "train", *DEMO, "--scheduler", "docker", "--image", "x",
                   "--mounts", "type=bind,src=/a")  # fmt: skip
    assert "mounts is 'type=bind,src=/a': dst" in line


def test_several_pairs_of_the_environment():
    options = JobOptions(env=("A=1", "B=x=y", "C="))
    assert options.environment == {"A": "1", "B": "x=y", "C": ""}


def test_containers_and_the_rest():
    assert LaunchConfig(scheduler="docker", image="x", max_requeues=2).max_requeues == 2
    with pytest.raises(ValueError, match="--mounts is for containers"):
        LaunchConfig(scheduler="slurm", mounts=("type=bind,src=/a,dst=/b",))


def test_without_torchx_a_line_says_how_to_install_it(mistake, monkeypatch):
    monkeypatch.setattr(torchx_installed.importlib.util, "find_spec", lambda _: None)
    line = mistake("launch", "train", *DEMO)
    assert "TorchX, which is not installed: run: " in line
    assert torchx_installed.REQUIREMENT in line


@pytest.mark.parametrize("arguments", [[], ["train"], ["log"]])
def test_the_help_needs_neither_torch_nor_torchx(arguments):
    program = (
        "import sys; from dropdrift.launchers.main import main\n"
        "try: main(['launch', *sys.argv[1:], '--help'])\n"
        "except SystemExit as leave: code = leave.code\n"
        "assert code == 0 and not {'torch', 'torchx'} & sys.modules.keys()"
    )
    started = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 0, ended.stderr
    assert "usage: dropdrift launch" in ended.stdout
    assert time.monotonic() - started < 10  # a second on a machine that has nothing else to do


def test_the_commands_own_help_comes_after_the_dashes(succeed):
    assert "usage: dropdrift evaluate" in succeed("launch", "evaluate", "--", "--help").output


def test_the_example_of_a_site_names_options_that_there_are():
    from dropdrift.launchers.launch.runner import dropdrift_runner

    example = Path(__file__).resolve().parents[3] / "docs" / "torchxconfig.example"
    config = configparser.ConfigParser()
    # What is commented out too.
    config.read_string(re.sub(r"^# (\w+ = )", r"\1", example.read_text(), flags=re.MULTILINE))
    assert set(config.sections()) == {"slurm", "kubernetes", "local_cwd"}
    with dropdrift_runner() as runner:
        for section in ("slurm", "kubernetes"):  # local_cwd's takes over this process's signals
            known = {name for name, _ in runner.scheduler_run_opts(section)}
            assert config[section].keys() <= known
