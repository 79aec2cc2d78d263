"""What TorchX is asked to run."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

pytest.importorskip("torchx")

from torchx.schedulers import DEFAULT_SCHEDULER_MODULES
from torchx.specs import AppDef, macros, materialize_appdef
from torchx.specs.finder import get_component

from dropdrift.launchers.launch.application import application
from dropdrift.launchers.launch.config import JobOptions
from dropdrift.sharding.hardware import load_hardware

ROOT = Path(__file__).resolve().parents[3]
COMPONENTS = ROOT / "launchers" / "components.py"
NASTY = [
    "a b",
    "$HOME",
    "$$",
    "${app_id}",
    "${rank0_env}",
    "it's",
    '"',
    "`id`",
    "$(id)",
    "\\",
    "*",
    "ü",
]


def words_that_bash_runs(app: AppDef, tmp_path: Path, **environment: str) -> list[str]:
    """What the program of a role gets on a node, where a stub stands for Python."""
    stub = tmp_path / "python"
    stub.write_text(f"#!/bin/sh\nexec {sys.executable} -c 'import json, sys; "
                    "print(json.dumps(sys.argv[1:]))' \"$@\"\n")  # fmt: skip
    stub.chmod(0o755)
    values = macros.Values(img_root="", app_id="job-7", replica_id="1", rank0_env="FIRST")
    role = values.apply(app.roles[0])
    ended = subprocess.run(
        [role.entrypoint, *role.args],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    words: list[str] = json.loads(ended.stdout)
    return words


def test_arguments_arrive_as_they_are_whatever_they_hold(tmp_path):
    arguments = ["--sharding.tables", *(f"{text}=row_wise" for text in NASTY)]
    app = application("train", arguments, JobOptions(recipe="dcnv2", image="x"))
    words = words_that_bash_runs(app, tmp_path)
    assert words[words.index("--") + 1 :] == ["dropdrift", "train", "--recipe", "dcnv2", *arguments]
    assert words[words.index("--") - 1] == "-m"


def test_environment_arrives_as_it_is():
    options = JobOptions(recipe="dcnv2", env=("A=${app_id} $HOME $$",))
    role = macros.Values("", "job-7", "0", "FIRST").apply(
        application("train", [], options).roles[0]
    )
    assert role.env["A"] == "${app_id} $HOME $$"


def test_nodes_meet_on_the_first(tmp_path):
    app = application("train", [], JobOptions(recipe="dcnv2", j="4x4", image="x", join_timeout=50))
    words = words_that_bash_runs(app, tmp_path, FIRST="node-a")
    assert words[:2] == ["-m", "dropdrift.launchers.torchrun"]
    expected = [
        "--nnodes=4", "--nproc-per-node=4", "--rdzv-backend=c10d", "--rdzv-id=job-7",
        "--rdzv-endpoint=node-a:29500", "--rdzv-conf=join_timeout=50,read_timeout=50",
    ]  # fmt: skip
    assert set(expected) <= set(words)
    assert app.roles[0].num_replicas == 4
    assert app.roles[0].port_map == {"c10d": 29500}


@pytest.mark.parametrize(("task", "is_host"), [("0", "1"), ("2", "0")])
def test_on_slurm_the_first_task_is_the_host(tmp_path, task, is_host):
    app = application("train", [], JobOptions(recipe="dcnv2", j="4x1", image="x"))
    words = words_that_bash_runs(
        app, tmp_path, FIRST="a", SLURM_PROCID=task, DROPDRIFT_RENDEZVOUS_PORT="20001"
    )
    assert "--rdzv-endpoint=a:20001" in words
    assert f"--rdzv-conf=join_timeout=600,read_timeout=600,is_host={is_host}" in words


def test_one_node_meets_itself_on_a_free_port(tmp_path):
    app = application("train", [], JobOptions(recipe="dcnv2", j="1x4", image="x"))
    assert "--rdzv-endpoint=localhost:0" in words_that_bash_runs(app, tmp_path)


def test_what_torchrun_needs_is_set():
    app = application("train", [], JobOptions(recipe="dcnv2", j="1x4", cpus=18, env=("A=b",)))
    assert app.roles[0].env == {
        "TORCH_CPP_LOG_LEVEL": "ERROR",
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "90",
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        "PYTHONSAFEPATH": "1",
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": "4",
        "A": "b",
    }
    assert sys.executable in app.roles[0].args[1]


def test_resources_are_the_hardwares():
    resource = application(
        "train", [], JobOptions(recipe="dcnv2", j="2x4", hardware="h100", cpus=96)
    ).roles[0].resource  # fmt: skip
    host_memory = load_hardware("H100").host_memory_gib
    assert (resource.cpu, resource.gpu) == (96, 4)
    assert resource.memMB == int(host_memory / 2 * 0.9 * 1024)
    on_cpu = application("train", [], JobOptions(recipe="dcnv2", j="1x4", hardware="CPU"))
    assert (on_cpu.roles[0].resource.cpu, on_cpu.roles[0].resource.gpu) == (4, 0)
    assert on_cpu.roles[0].resource.memMB == int(64 * 0.9 * 1024)  # not more than a node has
    unknown = application("train", [], JobOptions(recipe="dcnv2", j="1x4")).roles[0].resource
    assert (unknown.cpu, unknown.gpu, unknown.memMB) == (4, 0, -1)


def test_a_plan_is_made_by_one_process_for_the_cluster(tmp_path):
    options = JobOptions(recipe="asymdiffrec-200", j="2x8", hardware="H100", image="x")
    app = application("plan", ["show", "--all-tables"], options)
    words = words_that_bash_runs(app, tmp_path)
    assert words == [
        "-m", "dropdrift", "plan", "show", "asymdiffrec-200", "--all-tables",
        "--nodes", "2", "--gpus-per-node", "8", "--hardware", "H100",
    ]  # fmt: skip
    assert (app.roles[0].num_replicas, app.roles[0].resource.gpu) == (1, 0)


def test_a_calibration_runs_on_all_processes(tmp_path):
    options = JobOptions(recipe="asymdiffrec-200", j="2x2", image="x")
    words = words_that_bash_runs(application("plan", ["calibrate"], options), tmp_path)
    assert {"--nnodes=2", "--nproc-per-node=2"} <= set(words)
    assert words[words.index("--") + 1 :] == ["dropdrift", "plan", "calibrate", "asymdiffrec-200"]


def test_the_recipe_of_a_benchmark(tmp_path):
    app = application("bench", ["training-step"], JobOptions(recipe="dcnv2-demo", image="x"))
    words = words_that_bash_runs(app, tmp_path)
    assert words == ["-m", "dropdrift", "bench", "training-step", "--recipe", "dcnv2-demo"]


@pytest.mark.parametrize("command", ["train", "evaluate", "bench", "plan"])
def test_components_ask_for_what_the_command_line_asks_for(command):
    component = get_component(f"{COMPONENTS}:{command}")
    assert component.validation_errors == []
    assert component.description
    of_command = {
        "train": ["--loop.epochs", "2"],
        "evaluate": ["--run-folder", "x"],
        "bench": ["training-step"],
        "plan": ["show", "asymdiffrec-200"],
    }[command]
    recipe = {"train": "dcnv2", "bench": "dcnv2-demo"}.get(command, "")
    j = "1x1" if command == "bench" else "2x2"
    restarts = 3 if command in ("train", "evaluate") else 0  # the others run without torchrun
    given = ["-j", j, "--hardware", "H100", "--cpus", "4", "--env", "A=b,C=d", "--image", "x",
             "--mounts", "type=bind,src=/a,dst=/b,readonly,type=volume,src=v,dst=/c",
             "--max_restarts", str(restarts), "--max_requeues", "4", "--join_timeout", "5",
             "--port", "6", "--name", "job", *(["--recipe", recipe] if recipe else [])]  # fmt: skip
    options = JobOptions(
        recipe=recipe, j=j, hardware="H100", cpus=4, env=("A=b", "C=d"), image="x", name="job",
        mounts=("type=bind,src=/a,dst=/b,readonly", "type=volume,src=v,dst=/c"),
        max_restarts=restarts, max_requeues=4, join_timeout=5, port=6,
    )  # fmt: skip
    made = materialize_appdef(component.fn, [*given, "--", *of_command])
    assert made == application(command, of_command, options)
    assert [type(mount).__name__ for mount in made.roles[0].mounts] == ["BindMount", "VolumeMount"]


def test_a_component_refuses_what_the_command_refuses():
    component = get_component(f"{COMPONENTS}:train")
    with pytest.raises(ValueError, match=r"did you mean --loop\.epochs"):
        materialize_appdef(component.fn, ["--recipe", "dcnv2", "--", "--loop.epoch", "2"])


def test_torchx_keeps_its_schedulers_and_gets_ours():
    """It forgets all of its own where a package names one."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = project["entry-points"]["torchx.schedulers"]
    assert named.keys() == DEFAULT_SCHEDULER_MODULES.keys()
    for name, target in named.items():
        module = target.removesuffix(":create_scheduler")
        if name == "slurm":
            point = importlib.metadata.EntryPoint(name, target, "torchx.schedulers")
            assert point.load()("session").backend == "slurm"
        else:
            assert module == DEFAULT_SCHEDULER_MODULES[name]
