"""Checks the ranks of a group, one of which is stopped nine tenths of the time.

``python slow_rank_program.py RANK OUT``, under torchrun.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from dropdrift.training.distributed import process_group
from dropdrift.training.preflight.check import check_ranks
from dropdrift.training.preflight.config import PreflightConfig

# In a process of its own, as a stopped one cannot let itself go on. It ends with the other.
STOP_AND_GO = """
import os, signal, sys, time
rank = int(sys.argv[1])
while os.getppid() == rank:
    os.kill(rank, signal.SIGSTOP)
    time.sleep(0.045)
    os.kill(rank, signal.SIGCONT)
    time.sleep(0.005)
"""


def main(slow: int, out: Path) -> None:
    with process_group(200) as ranks:
        if ranks.rank == slow:
            subprocess.Popen([sys.executable, "-c", STOP_AND_GO, str(os.getpid())])
        report = check_ranks(ranks, PreflightConfig(sizes=(1 << 20, 1 << 24), timeout=200))
        if ranks.is_first:
            report.save(out)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
