"""What torchrun says of ranks that fail, and its exit code, with real processes."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

import dropdrift

pytestmark = pytest.mark.timeout(120)

PROGRAM = Path(__file__).with_name("failing_program.py")
HOST = socket.gethostname()


def start(
    folder: Path,
    *ranks: str,
    options: Sequence[str] = (),
    module: str = "dropdrift.launchers",
    under: Sequence[str] = (),
) -> subprocess.Popen[str]:
    """torchrun with two ranks, which end as ``ranks`` say, started by the command ``under``."""
    torchrun = "torchrun" if module == "dropdrift.launchers" else "run"
    where = options or ("--standalone", "--nproc-per-node=2")
    return subprocess.Popen(
        [*under, sys.executable, "-m", f"{module}.{torchrun}", *where, str(PROGRAM), *ranks],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(Path(dropdrift.__file__).parents[1]),
            "OMP_NUM_THREADS": "1",
            "TORCH_CPP_LOG_LEVEL": "ERROR",
            "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "3",
            "TMPDIR": str(folder),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ended(torchrun: subprocess.Popen[str]) -> tuple[int, list[str]]:
    """Its exit code, and the lines that were said."""
    try:
        said = torchrun.communicate(timeout=100)[0]
    finally:
        torchrun.kill()
    return torchrun.returncode, said.splitlines()


def wait_for(folder: Path, *names: str) -> None:
    while not all((folder / name).exists() for name in names):
        time.sleep(0.05)


MISTAKE = "part-00000.parquet: field item_id: id 1000000"
FIRST = rf"dropdrift: rank 1 on host {re.escape(HOST)} failed first \(process \d+, "


@pytest.mark.parametrize(
    ("how", "code", "line"),
    [
        # Rank 0 leaves its reason, and ends, before rank 1 does.
        ("late_mistake", 2, rf"exit code 2\): {re.escape(MISTAKE)}"),
        # It leaves nothing.
        ("killed", 137, r"SIGKILL\): killed from outside, as the system does where .*"),
    ],
)
def test_the_first_failure_is_the_one_line(tmp_path, how, code, line):
    got, said = ended(start(tmp_path, "0=lost", f"1={how}"))
    assert got == code
    assert len(said) == 1
    assert re.fullmatch(FIRST + line, said[0]), said


def test_a_bugs_traceback_is_shown_once_and_in_full(tmp_path):
    code, said = ended(start(tmp_path, "0=bug", "1=bug"))
    assert code == 1
    assert said.count("Traceback (most recent call last):") == 1
    assert said[0] == "Traceback (most recent call last):"
    assert said[-2:-1] == ["KeyError: 'a bug'"]
    assert said[-1].endswith(", exit code 1): KeyError: 'a bug'")


def test_each_attempt_says_why_it_is_not_the_last(tmp_path):
    options = ("--standalone", "--nproc-per-node=2", "--max-restarts=1")
    code, said = ended(start(tmp_path, "0=waits", "1=late_mistake", options=options))
    assert code == 2
    assert len(said) == 2
    assert re.fullmatch(FIRST + rf".*{MISTAKE}; starting again \(1 of 1\)", said[0])
    assert re.fullmatch(FIRST + rf".*{MISTAKE}", said[1])


def test_ranks_have_time_to_save_and_say_so_once(tmp_path):
    torchrun = start(tmp_path, "0=saves", "1=saves")
    wait_for(tmp_path, "ready-0", "ready-1")
    torchrun.send_signal(signal.SIGTERM)
    line = "dropdrift: runs/x ended by SIGTERM: saved step 7; go on with --resume"
    assert ended(torchrun) == (143, [line])


def test_ranks_that_do_not_end_in_time_are_killed(tmp_path):
    torchrun = start(tmp_path, "0=saves", "1=stopped")
    wait_for(tmp_path, "ready-0", "ready-1")
    torchrun.send_signal(signal.SIGTERM)
    code, said = ended(torchrun)
    assert code == 143
    assert said[0].startswith("dropdrift: torchrun: Unable to shutdown process ")
    assert said[1] == "dropdrift: runs/x ended by SIGTERM: saved step 7; go on with --resume"


# As dropdrift launch starts it on this machine.
LAUNCH = """
import os, subprocess, sys
told = {"DROPDRIFT_TELLER": str(os.getpid()), "TORCHELASTIC_ERROR_FILE": "error.json"}
subprocess.run(sys.argv[1:], env=os.environ | told)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the system cannot end them")
@pytest.mark.parametrize("under", [(), (sys.executable, "-c", LAUNCH)], ids=["itself", "launch"])
def test_ranks_end_with_a_torchrun_that_is_killed(tmp_path, under):
    """They would train on beside the job that the scheduler starts in its place."""
    torchrun = start(tmp_path, "0=saves", "1=saves", under=under)
    wait_for(tmp_path, "ready-0", "ready-1")
    torchrun.kill()
    torchrun.communicate(timeout=30)  # which ends when no process holds the pipe any more
    assert torchrun.returncode == -signal.SIGKILL


def test_both_nodes_say_what_failed_on_one(tmp_path, free_port):
    options = (
        "--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d", "--rdzv-id=two",
        f"--rdzv-endpoint=localhost:{free_port}",
    )  # fmt: skip
    nodes = [start(tmp_path, "0=lost", "1=late_mistake", options=options) for _ in range(2)]
    (code, said), other = (ended(node) for node in nodes)
    assert other == (code, said)
    assert code == 2
    assert len(said) == 1
    assert re.fullmatch(FIRST + rf"exit code 2\): {re.escape(MISTAKE)}", said[0])


def test_a_node_whose_rank_stands_still_ends_with_the_job(tmp_path, free_port):
    options = (
        "--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d", "--rdzv-id=two",
        f"--rdzv-endpoint=localhost:{free_port}",
    )  # fmt: skip
    nodes = [start(tmp_path, "0=stopped", "1=late_mistake", options=options) for _ in range(2)]
    both = [ended(node) for node in nodes]
    assert [code for code, _ in both] == [2, 2]
    for _, said in both:
        assert re.fullmatch(FIRST + rf".*{MISTAKE}", said[-1]), said


def test_nodes_that_do_not_meet(tmp_path, free_port):
    options = (
        "--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d", "--rdzv-id=two",
        f"--rdzv-endpoint=localhost:{free_port}", "--rdzv-conf=join_timeout=2",
    )  # fmt: skip
    code, said = ended(start(tmp_path, options=options))
    assert code == 1
    assert len(said) == 1
    assert said[0].startswith("dropdrift: the nodes have not met: ")


def test_plain_torchrun_finds_the_reason_too(tmp_path):
    torchrun = start(tmp_path, "0=lost", "1=late_mistake", module="torch.distributed")
    code, said = ended(torchrun)
    assert code == 1
    assert f"dropdrift rank 1: {MISTAKE}" in said
    cause = said[next(n for n, line in enumerate(said) if line.startswith("Root Cause")) :]
    assert any(line.endswith(f": {MISTAKE}") for line in cause)


@pytest.fixture
def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port
