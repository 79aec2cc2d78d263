"""torchrun starts ranks again that share its store: this file is also the program of each."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch.distributed as dist

import dropdrift
from dropdrift.training.distributed import process_group

LOST = 9


@pytest.mark.timeout(200)
def test_ranks_meet_again_by_the_store_of_the_attempt_before(tmp_path):
    ended = subprocess.run(
        [
            sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2",
            "--max-restarts=1", "--monitor-interval=0.1", __file__, tmp_path / "lost",
        ],
        env={
            **os.environ,
            "PYTHONPATH": str(Path(dropdrift.__file__).parents[1]),
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
        },
        capture_output=True,
        text=True,
        timeout=180,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split("\n") == ["torchrun's store: True"] * 2 + [""]


def be_a_rank(lost: Path) -> None:
    with process_group(timeout=60) as ranks:
        dist.barrier()
        if not ranks.is_first and not lost.exists():
            lost.touch()
            os._exit(LOST)
        dist.barrier()
        # One write each, so that the lines do not run into each other.
        print(
            f"torchrun's store: {os.environ['TORCHELASTIC_USE_AGENT_STORE']}\n", end="", flush=True
        )


if __name__ == "__main__":
    be_a_rank(Path(sys.argv[1]))
