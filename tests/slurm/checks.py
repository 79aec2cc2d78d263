"""Jobs on the cluster, each with what it must end in. Each says what it has seen.

``run.py`` runs them, and pytest does not.
"""

from __future__ import annotations

import json
import os
import re
import signal

from client import DROPDRIFT, Client, await_true, number, parent
from cluster import NODES
from network import Network

# The run that the others are compared with.
WHOLE = "whole"


def test_what_slurm_or_the_command_refuses(client: Client) -> None:
    job = ("--scheduler", "slurm", "--recipe", "dcnv2-demo")
    absent = ("-j", "2x1", "--scheduler-args", "partition=absent")
    said = client.dropdrift("launch", "train", *job, *absent, code=2)
    assert re.fullmatch(r"dropdrift: sbatch: error: .*\n", said), said
    client.dropdrift("launch", "train", *job, "--", "--loop.epoch", "3", code=2)
    unknown = client.dropdrift("launch", "status", "slurm://dropdrift/999999", code=2)
    assert "is not known any more" in unknown
    assert "not known any more" in client.dropdrift("launch", "log", "slurm://dropdrift/99", code=2)
    say(f"refused in one line: {said.strip()}")


def test_an_undisturbed_run(client: Client) -> None:
    handle = client.train(WHOLE)
    client.await_status(handle, "SUCCEEDED")
    assert client.result(WHOLE, "result.json")["steps"] == 60
    assert client.result(WHOLE, "provenance.json")["world_size"] == 2
    ends = [line for line in client.logs(handle).splitlines() if "validation AUC" in line]
    assert len(ends) == 1, ends
    say(f"{handle} {client.status(handle)}: {ends[0]}")


def test_a_killed_worker(client: Client) -> None:
    """torchrun starts the processes again within the job."""
    handle = client.train("worker", "--max-restarts", "2")
    client.await_steps("worker", 10)
    os.kill(client.processes("worker", "worker")[0], signal.SIGKILL)
    client.await_status(handle, "SUCCEEDED")
    compare(client, "worker")
    say(f"{handle}: a worker was killed; the same losses as the undisturbed run")


def test_a_killed_torchrun(client: Client) -> None:
    """The job fails, and goes back into the queue."""
    handle = client.train("node", "--max-requeues", "1")
    client.await_steps("node", 10)
    torchrun = client.processes("node", "torchrun")[0]
    # And its worker, as a cluster does that holds a task's processes together by cgroups.
    workers = [one for one in client.processes("node", "worker") if parent(one) == torchrun]
    for process in (torchrun, *workers):
        os.kill(process, signal.SIGKILL)
    client.start_again_now(handle)
    client.await_status(handle, "SUCCEEDED")
    compare(client, "node")
    say(f"{handle}: a node's torchrun was killed; requeued, and the same losses")


def test_the_time_limit(client: Client) -> None:
    """Before it, the run saves where it is and goes on from there; no step is lost."""
    # It has no checkpoint before its first validation but the one that is asked for.
    handle = client.train("limit", "--max-requeues", "1", checkpoint_every=0)
    client.await_steps("limit", 10)
    client.run("scancel", "--signal=USR1", "--batch", number(handle))
    client.await_status(handle, "BeginTime")
    trained = [json.loads(line)["step"] for line in client.losses("limit")]
    assert client.steps_saved("limit") == trained[-1:], (client.steps_saved("limit"), trained)
    assert "time limit near: 1" in client.log_of_the_script(handle)

    def has_ended() -> bool:
        assert client.losses("limit")[: len(trained)] == before, "it has begun again"
        return client.status(handle).startswith("SUCCEEDED")

    before = client.losses("limit")
    client.start_again_now(handle)
    await_true(f"{handle} to end", has_ended)
    compare(client, "limit")
    say(f"{handle}: warned of its time limit; saved step {trained[-1]}, and went on from there")


def test_a_mistake_in_a_job(client: Client) -> None:
    """Found by the first rank alone; no requeue would mend it."""
    # The launch cannot know what data the cluster has.
    handle = client.train("mistaken", "--max-requeues", "2", data="absent")
    client.await_status(handle, "FAILED")
    said = client.log_of_the_script(handle)
    assert "exit code 2" in said, said
    assert "not requeued" in said, said
    assert "requeued" not in client.status(handle)
    line = next(line for line in client.logs(handle).splitlines() if "absent" in line)
    say(f"{handle}: a mistake is not requeued: {line}")


def test_a_link_that_is_down(client: Client, network: Network) -> None:
    """Slurm finds that a node does not answer, and starts the job again when it does."""
    # The first node has the first rank, the place where the others meet, and the job's script.
    lost = NODES[0]
    handle = client.train("link", "--max-requeues", "1")
    client.await_steps("link", 10)
    network.cut(lost)
    await_true(f"{lost} to be down", lambda: client.state(lost).startswith("down"))
    client.await_status(handle, "BeginTime")
    network.mend(lost)
    # Slurm may leave a node that is down for two minutes before it asks again.
    client.run("scontrol", "update", f"NodeName={lost}", "State=RESUME")
    await_true(f"{lost} to be back", lambda: client.state(lost) == "idle")
    client.start_again_now(handle)
    client.await_status(handle, "SUCCEEDED")
    compare(client, "link")
    say(f"{handle}: the link of {lost} was down; requeued, and the same losses")


def test_a_cancelled_job(client: Client) -> None:
    handle = client.train("cancelled")
    client.await_status(handle, "RUNNING")
    assert "asked to end" in client.dropdrift("launch", "cancel", handle)
    client.await_status(handle, "CANCELLED")
    assert client.run(*DROPDRIFT, "launch", "status", handle).returncode == 1
    assert "has ended: CANCELLED" in client.dropdrift("launch", "cancel", handle)
    await_true("its processes to end", lambda: not client.processes("cancelled", "worker"))
    say(f"{handle}: cancelled, and no process is left")


def compare(client: Client, out: str) -> None:
    """The same log, whatever happened on the way."""
    assert client.losses(out) == client.losses(WHOLE), f"{client.folder / out} is not as {WHOLE}"


def say(what: str) -> None:
    print(what, flush=True)
