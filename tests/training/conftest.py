"""Runs programs of the tests on one or several ranks, as torchrun does for users."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import dropdrift

Launch = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def launch() -> Launch:
    """``launch(world_size, *command)``: python's arguments, on so many ranks; output is kept."""

    def run(world_size: int, *command: str | Path) -> subprocess.CompletedProcess[str]:
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
        launcher = [*torchrun, str(world_size)] if world_size > 1 else []
        environment = {
            **os.environ,
            "PYTHONPATH": str(Path(dropdrift.__file__).parents[1]),
            "OMP_NUM_THREADS": "1",
            # Two ranks need two GPUs; the CPU is everywhere.
            "CUDA_VISIBLE_DEVICES": "",
            # The rendezvous of a torchrun that shares the workers' store can fail on gloo.
            "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        }
        return subprocess.run(
            [sys.executable, *launcher, *map(str, command)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    return run
