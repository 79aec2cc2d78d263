"""Jobs that end in every way; a module, so that other processes can import it."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Job:
    name: str
    log: Path


def perform(job: Job) -> None:
    print("begun", job.name)
    if job.name == "mistake":
        raise ValueError("the option\nis wrong")
    if job.name == "bug":
        raise RuntimeError("index out of range")
    if job.name == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if job.name == "left":
        sys.stdout.flush()
        os._exit(3)
    if job.name == "long":
        time.sleep(60)
    job.log.with_suffix(".pid").write_text(f"{os.getpid()} {os.environ['OMP_NUM_THREADS']}")
