"""Requests to Kubernetes and Docker, as far as they can be judged without either."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

pytest.importorskip("torchx")
pytest.importorskip("kubernetes")

from docker.models.containers import _create_container_args
from kubernetes.client import ApiClient

from dropdrift.launchers.launch.application import application
from dropdrift.launchers.launch.config import JobOptions
from dropdrift.launchers.launch.runner import dropdrift_runner

GOLDEN = Path(__file__).with_name("golden")
KUBERNETES = (
    "launch", "train", "--recipe", "dcnv2-demo", "-j", "2x8", "--hardware", "H100", "--cpus", "96",
    "--scheduler", "kubernetes", "--image", "registry.example/dropdrift:1", "--env", "A=b c",
    "--mounts", "type=volume,src=data,dst=/data", "--scheduler-args", "queue=default",
)  # fmt: skip
# What a Volcano job holds, of its own definition (batch.volcano.sh/v1alpha1).
OF_JOB = {
    "schedulerName",
    "queue",
    "tasks",
    "maxRetry",
    "plugins",
    "minAvailable",
    "priorityClassName",
}
OF_TASK = {"name", "replicas", "template", "maxRetry", "policies", "minAvailable"}


@pytest.fixture
def kubernetes_request(succeed) -> str:
    command = ("--dryrun", "--", "--data.path", "/data/x", "--out", "/data/$run")
    printed: str = succeed(*KUBERNETES, *command).output
    return re.sub(r"\btrain-[a-z0-9]{8,}\b", "train-ID", printed)


def test_kubernetes_yaml_is_the_golden_one(kubernetes_request):
    golden = GOLDEN / "kubernetes-2x8.yaml"
    if os.environ.get("DROPDRIFT_WRITE_GOLDEN"):
        golden.write_text(kubernetes_request)
    assert kubernetes_request == golden.read_text()


def test_kubernetes_knows_every_field(kubernetes_request):
    job = yaml.safe_load(kubernetes_request)
    assert (job["apiVersion"], job["kind"]) == ("batch.volcano.sh/v1alpha1", "Job")
    assert job["spec"].keys() <= OF_JOB
    client = ApiClient()
    assert len(job["spec"]["tasks"]) == 2
    for task in job["spec"]["tasks"]:
        assert task.keys() <= OF_TASK
        answer = SimpleNamespace(data=json.dumps(task["template"]))
        template = client.deserialize(answer, "V1PodTemplateSpec")
        # What the client's model does not know is not there any more.
        assert client.sanitize_for_serialization(template) == task["template"]
        container = task["template"]["spec"]["containers"][0]
        assert container["resources"]["limits"]["nvidia.com/gpu"] == "8"
        assert "--out '/data/$run'" in container["command"][2]
        assert {"name": "A", "value": "b c"} in container["env"]


def test_on_kubernetes_the_others_find_the_first(kubernetes_request):
    first, second = (
        task["template"]["spec"]["containers"][0]["command"][2]
        for task in yaml.safe_load(kubernetes_request)["spec"]["tasks"]
    )
    assert "${TORCHX_RANK0_HOST:-localhost}" in first
    assert "${VC_TRAIN_0_HOSTS:-localhost}" in second  # of Volcano's plug-in `svc`


def test_docker_knows_every_argument():
    options = JobOptions(
        recipe="dcnv2-demo", j="2x1", hardware="H100", image="dropdrift:1", max_requeues=2,
        mounts=("type=bind,src=/data,dst=/data,readonly",), env=("A=b",),
    )  # fmt: skip
    with dropdrift_runner() as runner:
        request = runner.dryrun(application("train", [], options), "local_docker").request
    assert len(request.containers) == 2
    names = [container.kwargs["name"] for container in request.containers]
    for container in request.containers:
        given = {"image": container.image, "command": container.command, "version": "1.44"}
        asked = _create_container_args(container.kwargs | given)  # TypeError for an unknown one
        assert asked["image"] == "dropdrift:1"
        assert asked["environment"]["A"] == "b"
        assert asked["environment"]["TORCHX_RANK0_HOST"] == names[0]
        host = asked["host_config"]
        assert host["DeviceRequests"][0]["Count"] == 1
        assert host["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 2}
        assert host["Mounts"] == [
            {"Target": "/data", "Source": "/data", "Type": "bind", "ReadOnly": True}
        ]


def test_secrets_of_the_schedulers_own_options_are_not_shown(succeed):
    shown = succeed(
        "launch", "train", "--recipe", "dcnv2-demo", "--scheduler", "docker", "--image", "x",
        "--scheduler-args", "env=HF_TOKEN:hunter2", "--dryrun",
    ).output  # fmt: skip
    assert "HF_TOKEN: [hidden]" in shown
    assert "hunter2" not in shown


@pytest.mark.parametrize(
    ("scheduler", "line"),
    [("docker", "local_docker: "), ("kubernetes", "kubernetes: ")],
)
def test_a_server_that_is_not_there_is_one_line(tmp_path, scheduler, line):
    """In a process of its own: the clients leave sockets behind."""
    arguments = ["--scheduler-args", "queue=x"] if scheduler == "kubernetes" else []
    ended = subprocess.run(
        [sys.executable, "-m", "dropdrift", "launch", "train", "--recipe", "dcnv2-demo",
         "--scheduler", scheduler, "--image", "x", *arguments],
        env={
            "PATH": os.environ["PATH"],
            "DOCKER_HOST": f"unix://{tmp_path}/none",
            "KUBECONFIG": f"{tmp_path}/none",
        },
        capture_output=True,
        text=True,
        timeout=60,
    )  # fmt: skip
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.splitlines()[-1].startswith(f"dropdrift: {line}")
    assert "Traceback" not in ended.stderr


def test_what_volcano_cannot_do_is_said_in_one_line(command):
    ended = command(*KUBERNETES, "--max-requeues", "1", "--dryrun")
    assert ended.code == 0
    assert ended.messages.count("\n") == 1
    assert "does NOT support retries correctly" in ended.messages
