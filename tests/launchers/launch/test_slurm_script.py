"""The batch script: what is in it, and what it does between Slurm's commands, which are stubs here.

Real ones run it in ``make test-slurm``.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("torchx")

from dropdrift import __version__
from dropdrift.launchers.slurm.script import APP_ID, Submission, sbatch_script

GOLDEN = Path(__file__).with_name("golden")
ON_SLURM = ("--recipe", "dcnv2-demo", "--scheduler", "slurm", "--dryrun")

REQUESTS = {
    "slurm-1x1": ("-j", "1x1"),
    "slurm-2x1": ("-j", "2x1", "--scheduler-args", "time=10", "warning=30", "log_dir=logs"),
    "slurm-4x8": (
        "-j", "4x8", "--hardware", "H100", "--cpus", "96", "--max-requeues", "3", "--env", "A=b c",
        "NCCL_DEBUG=INFO", "--name", "night", "--scheduler-args", "account=me", "qos=high",
        "partition=gpu", "time=1-12:00:00", "mail-user=me@example.org", "mail-type=FAIL,END",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REQUESTS)
def test_scripts_are_the_golden_ones(succeed, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    of_command = ("--", "--data.path", "a b", "--out", "runs/x")
    printed = succeed("launch", "train", *REQUESTS[name], *ON_SLURM, *of_command).output
    printed = printed.replace(sys.executable, "/venv/bin/python").replace(str(tmp_path), "/here")
    printed = printed.replace(f"dropdrift {__version__}.", "dropdrift VERSION.")
    golden = GOLDEN / f"{name}.sh"
    if os.environ.get("DROPDRIFT_WRITE_GOLDEN"):
        golden.write_text(printed)
    assert printed == golden.read_text()


@pytest.mark.parametrize("name", REQUESTS)
def test_golden_scripts_are_sound(name):
    path = GOLDEN / f"{name}.sh"
    subprocess.run(["bash", "-n", path], check=True)
    lines = path.read_text().splitlines()
    assert lines[0] == "#!/bin/bash"
    # Slurm reads options up to the first line that is neither empty nor a comment.
    commands = [number for number, line in enumerate(lines) if line and not line.startswith("#")]
    options = [number for number, line in enumerate(lines) if line.startswith("#SBATCH ")]
    assert options
    assert max(options) < min(commands)
    nodes, processes = map(int, re.fullmatch(r"slurm-(\d+)x(\d+)", name).groups())
    given = {lines[n].split("--", 1)[1].partition("=")[::2] for n in options}
    assert {("nodes", str(nodes)), ("ntasks", str(nodes)), ("ntasks-per-node", "1")} <= given
    assert f"--nproc-per-node={processes}" in path.read_text()
    assert sum(line.startswith("srun ") for line in lines) == 1
    assert "hetjob" not in path.read_text()


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
@pytest.mark.parametrize("name", REQUESTS)
def test_golden_scripts_pass_shellcheck(name):
    # The task's shell, and not the script's, knows what stands in quotes there.
    command = ["shellcheck", "--exclude=SC2016", GOLDEN / f"{name}.sh"]
    checked = subprocess.run(command, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


class Stubs:
    """Slurm's commands on a path of their own; what they are called with is kept."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.calls = folder, folder / "calls"
        self.add("scontrol", 'case "$2" in hostnames) echo node1; echo node2;; '
                 'node) echo "NodeName=node1 NodeAddr=10.0.0.7 NodeHostName=x";; esac')  # fmt: skip
        self.add("getent", "exit 2")
        self.add("scancel", "")
        self.add("srun", "true")

    def add(self, name: str, body: str) -> None:
        path = self.folder / name
        path.write_text(f'#!/bin/bash\necho "{name} $*" >> {self.calls}\n{body}\n')
        path.chmod(0o755)

    def start(self, script: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", "-c", script],
            env={
                "PATH": f"{self.folder}:{os.environ['PATH']}",
                "SLURM_JOB_ID": "31234",
                "SLURM_JOB_NODELIST": "node[1-2]",
                **environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def called(self, beginning: str) -> list[str]:
        lines = self.calls.read_text().splitlines() if self.calls.exists() else []
        return [line for line in lines if line.startswith(beginning)]


@pytest.fixture
def stubs(tmp_path: Path) -> Stubs:
    (tmp_path / "bin").mkdir()
    return Stubs(tmp_path / "bin")


@pytest.fixture
def submission(tmp_path: Path) -> Callable[..., Submission]:
    def make(**given: object) -> Submission:
        whole: dict[str, object] = {"name": "job", "nodes": 2, "command": ["prog"]}
        whole |= {"environment": {}, "log_folder": tmp_path}
        return Submission(**(whole | given))  # type: ignore[arg-type]  # of any field's type

    return make


@pytest.mark.parametrize(
    ("code", "before", "most", "requeued"),
    [(0, 0, 2, False), (3, 0, 2, True), (3, 1, 2, True), (3, 2, 2, False), (3, 0, 0, False)],
)
def test_a_failed_job_goes_back_into_the_queue_so_often(
    stubs, submission, code, before, most, requeued
):
    stubs.add("srun", f"exit {code}")
    restarts = {"SLURM_RESTART_COUNT": str(before)} if before else {}
    job = stubs.start(sbatch_script(submission(max_requeues=most)), **restarts)
    said, _ = job.communicate(timeout=30)
    assert job.returncode == code
    assert bool(stubs.called("scontrol requeue 31234")) == requeued
    assert f"job 31234: exit code {code}, time limit near: 0, requeued {before} of {most}" in said


def test_a_mistake_of_the_users_is_not_made_again(stubs, submission):
    stubs.add("srun", "exit 2")
    job = stubs.start(sbatch_script(submission(max_requeues=2)))
    said, _ = job.communicate(timeout=30)
    assert job.returncode == 2
    assert not stubs.called("scontrol requeue")
    assert "job 31234: not requeued, as the same mistake would end it again\n" in said


def test_the_environment_and_the_meeting_place_reach_the_tasks(stubs, submission):
    stubs.add("srun", 'echo "$A|$B|$TORCHX_RANK0_HOST|$DROPDRIFT_RENDEZVOUS_PORT"')
    environment = {"A": "it's $HOME `id` \"", "B": f"job {APP_ID}!"}
    said, _ = stubs.start(sbatch_script(submission(environment=environment))).communicate()
    assert said.splitlines()[0] == "it's $HOME `id` \"|job 31234!|10.0.0.7|21234"
    assert "it's" not in "".join(stubs.called("srun"))  # others see command lines


def test_a_first_node_whose_name_resolves_is_called_by_it(stubs, submission):
    stubs.add("getent", "exit 0")
    stubs.add("srun", 'echo "$TORCHX_RANK0_HOST"')
    said, _ = stubs.start(sbatch_script(submission())).communicate()
    assert said.splitlines()[0] == "node1"


def test_words_of_the_command_are_the_tasks(stubs, submission):
    words = ["bash", "-c", f"echo $0 '{APP_ID}' \"{APP_ID}\"", "", "a b", "$(id)", APP_ID]
    script = sbatch_script(submission(command=words))
    stubs.add("srun", 'for word in "$@"; do echo "<$word>"; done')
    said, _ = stubs.start(script).communicate()
    expected = [f"<{word.replace(APP_ID, '31234')}>" for word in words]
    after_options = [line for line in said.splitlines() if not line.startswith("<--")]
    assert after_options[: len(words)] == expected


@pytest.mark.timeout(60)
def test_the_warning_of_the_time_limit_is_passed_on_and_the_job_requeued(
    stubs, submission, tmp_path
):
    begun, told = tmp_path / "begun", tmp_path / "told"
    stubs.add("srun", f"touch {begun}; for i in $(seq 200); do [ -e {told}2 ] && exit 143; "
              "sleep 0.1; done; exit 9")  # fmt: skip
    stubs.add("scancel", f"[ -e {told} ] && touch {told}2; touch {told}")
    job = stubs.start(sbatch_script(submission(max_requeues=1)))
    await_file(begun)
    job.send_signal(10)  # SIGUSR1, as --signal=B:USR1 sends it
    await_file(told)
    job.send_signal(10)  # and as a user may send it again
    said, _ = job.communicate()
    assert job.returncode == 143
    assert stubs.called("scancel") == ["scancel --signal=TERM 31234"] * 2
    assert stubs.called("scontrol requeue") == ["scontrol requeue 31234"]
    assert "exit code 143, time limit near: 2" in said


def await_file(path: Path) -> None:
    while not path.exists():
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"options": {"time": "soon"}}, "time is 'soon', must be minutes"),
        ({"options": {"account": "a b"}}, "account is 'a b', must be one word"),
        ({"options": {"qos": "a\n#SBATCH --uid=0"}}, "must be one word"),
        ({"options": {"partition": ""}}, "partition is '', must be one word"),
        ({"log_folder": Path("/a b")}, "log_dir is '/a b', must be one word"),
        ({"log_folder": Path("/a%j")}, "% stands for more in Slurm"),
        ({"warning_seconds": -1}, "warning is -1, must not be negative"),
    ],
)
def test_what_sbatch_would_misread(submission, given, line):
    with pytest.raises(ValueError, match=re.escape(line)):
        submission(**given)


@pytest.mark.parametrize("time_limit", ["90", "10:30", "1:00:00", "2-12", "2-12:30", "2-12:30:00"])
def test_times_that_slurm_knows(submission, time_limit):
    job = submission(options={"time": time_limit})
    assert f"#SBATCH --time={time_limit}\n" in sbatch_script(job)
