"""Checks the ranks of a group, one of which is stopped most of the time, or for good.

``python slow_rank_program.py RANK OUT`` or ``python slow_rank_program.py RANK``.
"""

from __future__ import annotations

import os
import signal
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
    time.sleep(0.057)
    os.kill(rank, signal.SIGCONT)
    time.sleep(0.003)
"""


def main(slow: int, out: Path | None) -> None:
    with process_group(200 if out else 7) as ranks:
        if ranks.rank == slow and out is None:
            os.kill(os.getpid(), signal.SIGSTOP)
        if ranks.rank == slow:
            subprocess.Popen([sys.executable, "-c", STOP_AND_GO, str(os.getpid())])
        report = check_ranks(ranks, PreflightConfig(sizes=(1 << 20, 1 << 24), repeats=3))
        if ranks.is_first and out is not None:
            report.save(out)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
