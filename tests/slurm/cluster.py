"""Two Slurm nodes on this host, for as long as a block lasts, in a folder of their own.

Debian's packages slurmctld, slurmd, slurm-client and munge, root, and nothing of the host's own
configuration: munge has a key and a socket of its own, every daemon its own folder and port. There
is no accounting, as on many small clusters.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge")
NODES = 2
SECONDS_TO_START = 60
PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged")

CONFIGURATION = """\
ClusterName=dropdrift
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,batch_sched_delay=1,sched_min_interval=0
SlurmdParameters=config_overrides
ReturnToService=2
SlurmdTimeout=30
KillWait=10
MinJobAge={job_age}
MpiDefault=none
NodeName=node[1-{nodes}] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{first_port}-{last_port}] \
CPUs=4 RealMemory=4000 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def install() -> None:
    """Install what is missing of Slurm; a line of what is wrong where that cannot be."""
    if os.geteuid() != 0:
        raise SystemExit("make test-slurm starts Slurm's daemons and must be run as root")
    if all(map(shutil.which, PROGRAMS)):
        return
    if shutil.which("apt-get") is None:
        raise SystemExit(
            f"make test-slurm installs Debian's packages {' '.join(PACKAGES)} with apt-get, which "
            "this system does not have: install Slurm and munge by hand"
        )
    command = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *PACKAGES]
    # The packages would start daemons of the host's own, where there is an init system.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    subprocess.run(["apt-get", "update", "--quiet"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)


@contextmanager
def two_nodes(folder: Path, job_age: int = 300) -> Iterator[dict[str, str]]:
    """Start the daemons, and end them after the block.

    Args:
        folder: for their files; it is made.
        job_age: seconds that the controller remembers a job after its end.

    Yields:
        The environment in which Slurm's commands talk to these daemons.
    """
    folder.mkdir(parents=True)
    with ExitStack() as daemons:
        _start_munge(daemons, folder / "munge")
        environment = {**os.environ, "SLURM_CONF": str(_configure(folder, job_age))}
        _start(daemons, ["slurmctld", "-D"], environment)
        for number in range(1, NODES + 1):
            # In a session of its own, so that it has no controlling terminal to lose.
            _start(daemons, ["slurmd", "-D", "-N", f"node{number}"], environment)
        _await_nodes(folder, environment)
        try:
            yield environment
        finally:
            subprocess.run(["scancel", "--user=root"], env=environment, check=False)


def _start_munge(daemons: ExitStack, folder: Path) -> None:
    folder.mkdir(mode=0o755)
    key = folder / "key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    files = {"socket": "socket", "key-file": "key", "pid-file": "pid", "seed-file": "seed"}
    options = [f"--{option}={folder / name}" for option, name in files.items()]
    command = ["munged", "--foreground", "--force", f"--log-file={folder / 'log'}", *options]
    _start(daemons, command, dict(os.environ))
    _await("munge's socket", (folder / "socket").exists)


def _configure(folder: Path, job_age: int) -> Path:
    controller, *nodes = _free_ports(NODES + 1)
    for name in ("state", *(f"spool-node{number}" for number in range(1, NODES + 1))):
        (folder / name).mkdir()
    path = folder / "slurm.conf"
    path.write_text(
        CONFIGURATION.format(
            host=socket.gethostname().split(".")[0],
            folder=folder,
            nodes=NODES,
            controller_port=controller,
            first_port=nodes[0],
            last_port=nodes[-1],
            job_age=job_age,
        )
    )
    return path


def _free_ports(count: int) -> list[int]:
    """So many in a row."""
    for first in range(17_000, 19_000, count):
        ports = list(range(first, first + count))
        if all(map(_is_free, ports)):
            return ports
    raise SystemExit("no free TCP ports between 17000 and 19000")


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        return listener.connect_ex(("127.0.0.1", port)) != 0


def _start(daemons: ExitStack, command: list[str], environment: dict[str, str]) -> None:
    daemon = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    daemons.callback(_end, daemon)


def _end(daemon: subprocess.Popen[bytes]) -> None:
    daemon.terminate()
    try:
        daemon.wait(timeout=20)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()


def _await_nodes(folder: Path, environment: dict[str, str]) -> None:
    def idle() -> bool:
        listed = subprocess.run(
            ["sinfo", "--noheader", "--Node", "--format=%T"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return listed.stdout.split() == ["idle"] * NODES

    _await(f"idle nodes; see the logs in {folder}", idle)


def _await(what: str, there: object) -> None:
    assert callable(there)
    end = time.monotonic() + SECONDS_TO_START
    while not there():
        if time.monotonic() > end:
            raise SystemExit(f"after {SECONDS_TO_START} seconds there is no {what}")
        time.sleep(0.5)
