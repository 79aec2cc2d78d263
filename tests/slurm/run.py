"""``make test-slurm``: jobs of ``dropdrift launch`` on a real Slurm of two nodes on this host.

As root on Debian: installs Slurm's packages where they are missing (cluster.py), starts its
daemons in a temporary folder, and ends them. The first check (checks.py) that fails ends the
script with exit code 1, and its folder is kept.
"""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
from pathlib import Path

from checks import (
    say,
    test_a_cancelled_job,
    test_a_killed_torchrun,
    test_a_killed_worker,
    test_a_link_that_is_down,
    test_a_mistake_in_a_job,
    test_an_undisturbed_run,
    test_the_time_limit,
    test_what_slurm_or_the_command_refuses,
)
from client import Client
from cluster import install, two_nodes
from network import Network


def main() -> None:
    """Run all checks."""
    install()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # and so the daemons
    folder = Path(tempfile.mkdtemp(prefix="dropdrift-slurm-"))
    say(f"Slurm's daemons and the jobs are in {folder}")
    with two_nodes(folder / "slurm") as cluster:
        client = Client(folder, cluster.environment)
        say(client.run("sinfo", "--version").stdout.strip())
        client.dropdrift("prepare", "synthetic", "--out", "data", "--rows", "4000")
        for check in (
            test_what_slurm_or_the_command_refuses,
            test_an_undisturbed_run,
            test_a_killed_worker,
            test_a_killed_torchrun,
            test_the_time_limit,
            test_a_mistake_in_a_job,
            test_a_cancelled_job,
        ):
            check(client)
        if isinstance(cluster.network, Network):
            test_a_link_that_is_down(client, cluster.network)
        else:
            say(f"NOT CHECKED: a link that is down, as {cluster.network}")
    shutil.rmtree(folder)
    say("all is well, and Slurm's daemons have ended")


if __name__ == "__main__":
    main()
