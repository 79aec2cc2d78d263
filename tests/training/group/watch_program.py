"""Groups of processes whose ranks end, hang or never come; run by test_watch.py.

    python watch_program.py FOLDER

All groups at once. Every rank is a process of its own, forked from this one so that torch is loaded
only once. What rank R of group G says goes to ``FOLDER/G-R.txt``, how all ended to
``FOLDER/ends.json``. A process that is stopped goes on when the others of its group have ended.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import queue
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import TCPStore
from torch.distributed.distributed_c10d import _set_pg_timeout

from dropdrift.training.distributed import Ranks, process_group

TIMEOUT = 8.0
# Of groups that come whole, and of others: a busy machine needs it.
JOINING, ABSENT = 60.0, 20.0
STEPS, FAULT = 60, 30  # the watch has had some beats before the fault
MISTAKE = 2

Fault = Callable[[], None]


def train(ranks: Ranks, fault: Fault) -> None:
    for step in range(STEPS):
        ranks.activity.at(step=step, doing="training")
        if step == FAULT:
            fault()
        dist.all_reduce(torch.ones(4))
        time.sleep(0.05)


def stop() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def make_a_mistake() -> None:
    raise ValueError("part-00007.parquet holds no rows")


def read_a_dead_file() -> None:
    read: queue.SimpleQueue[int] = queue.SimpleQueue()

    def reads_for_ever() -> None:
        while True:
            time.sleep(0.1)

    threading.Thread(target=reads_for_ever, name="reader", daemon=True).start()
    read.get()


def hold_the_interpreter() -> None:
    re.match(r"(a+)+$", "a" * 60 + "b")


def wait_for_something_else() -> None:
    dist.recv(torch.ones(4), src=0)


def nothing() -> None:
    """Some other rank has the fault."""


# Name of a group: what each of its ranks does; None never comes.
GROUPS: dict[str, list[Fault | None]] = {
    "undisturbed": [nothing, nothing],
    "stopped": [nothing, stop],
    "stopped-first": [stop, nothing],
    "killed": [nothing, kill],
    "killed-first": [kill, nothing],
    "reads": [nothing, read_a_dead_file, nothing],
    "holds": [nothing, hold_the_interpreter],
    "waits": [nothing, wait_for_something_else],
    "mistaken": [nothing, make_a_mistake],
    "mistaken-first": [make_a_mistake, nothing, nothing],
    "absent": [nothing, None, nothing],
    "absent-first": [None, nothing],
    "torchruns-store": [stop, nothing, nothing],
}


def be_a_rank(name: str, rank: int, fault: Fault, port: int, output: Path) -> int:
    stream = os.open(output, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(stream, 1)
    os.dup2(stream, 2)
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": str(len(GROUPS[name])),
        "LOCAL_RANK": str(rank),
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": str(name == "torchruns-store"),
    }
    try:
        with process_group(ABSENT if None in GROUPS[name] else JOINING) as ranks:
            dist.barrier()
            _set_pg_timeout(timedelta(seconds=TIMEOUT))
            train(ranks, fault)
    except ValueError as error:
        print(f"rank {rank}: {error}", flush=True)
        return MISTAKE
    return 0


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("localhost", 0))
        return [each.getsockname()[1] for each in sockets]


def ends(running: dict[int, tuple[str, int]]) -> Iterator[tuple[str, int, int]]:
    """Group, rank and exit code of each process, as they end."""
    stopped: dict[str, int] = {}
    while running:
        pid, status = os.waitpid(-1, os.WUNTRACED)
        name, rank = running[pid]
        if os.WIFSTOPPED(status):
            stopped[name] = pid
            continue
        del running[pid]
        yield name, rank, os.waitstatus_to_exitcode(status)
        left = [pid for pid, (group, _) in running.items() if group == name]
        if len(left) == 1 and GROUPS[name][running[left[0]][1]] is hold_the_interpreter:
            os.kill(left[0], signal.SIGKILL)  # as torchrun does in the end
        elif len(left) == 1 and name in stopped:
            os.kill(stopped[name], signal.SIGCONT)


def main(folder: Path) -> int:
    running: dict[int, tuple[str, int]] = {}
    stores = []  # held until all have ended
    gc.freeze()  # what is here already is not looked at again by every process that ends
    for (name, faults), port in zip(GROUPS.items(), free_ports(len(GROUPS)), strict=True):
        for rank, fault in enumerate(faults):
            if fault is None:
                continue
            pid = os.fork()
            if pid == 0:
                return be_a_rank(name, rank, fault, port, folder / f"{name}-{rank}.txt")
            running[pid] = (name, rank)
        if name == "torchruns-store":
            # torchrun has it in its own process: here, after the last fork, as it has threads.
            stores.append(TCPStore("localhost", port, is_master=True, wait_for_workers=False))
    (folder / "ends.json").write_text(json.dumps(list(ends(running))), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
