"""Two Slurm nodes on this host, for as long as a block lasts, in a folder of their own.

Debian's packages slurmctld, slurmd, slurm-client and munge, root, and nothing of the host's own
configuration: munge has a key and a socket of its own, every daemon its own folder and port, every
node a network of its own where the kernel permits that. There is no accounting, as on many small
clusters.
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
from dataclasses import dataclass
from pathlib import Path

from network import Network

PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge", "iproute2")
NODES = ["node1", "node2"]
SECONDS_TO_START = 60
PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged", "ip")

CONFIGURATION = """\
ClusterName=dropdrift
SlurmctldHost={host}({address})
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
NodeName=DEFAULT CPUs=4 RealMemory=4000 State=UNKNOWN
{nodes}
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


@dataclass(frozen=True)
class Cluster:
    """Daemons that run.

    Attributes:
        environment: In which Slurm's commands talk to them.
        network: Of the nodes; a line of why there is none where the kernel permits none, and they
            share this host's.
    """

    environment: dict[str, str]
    network: Network | str


@contextmanager
def two_nodes(folder: Path, job_age: int = 300) -> Iterator[Cluster]:
    """Start the daemons, and end them after the block.

    Args:
        folder: for their files; it is made.
        job_age: seconds that the controller remembers a job after its end.
    """
    folder.mkdir(parents=True)
    with ExitStack() as daemons:
        network = _network(daemons, folder)
        _start_munge(daemons, folder / "munge")
        environment = {**os.environ, "SLURM_CONF": str(_configure(folder, job_age, network))}
        _start(daemons, ["slurmctld", "-D"], environment)
        for name in NODES:
            inside = network.inside(name) if isinstance(network, Network) else []
            _start(daemons, [*inside, "slurmd", "-D", "-N", name], environment)
        _await_nodes(folder, environment)
        try:
            yield Cluster(environment, network)
        finally:
            subprocess.run(["scancel", "--user=root"], env=environment, check=False)


def _network(daemons: ExitStack, folder: Path) -> Network | str:
    try:
        return Network(folder, NODES, _host(), daemons)
    except (OSError, subprocess.CalledProcessError) as error:
        return f"no network of the nodes' own can be made here: {error}"


def _host() -> str:
    return socket.gethostname().split(".")[0]


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


def _configure(folder: Path, job_age: int, network: Network | str) -> Path:
    controller, *ports = _free_ports(len(NODES) + 1)
    for name in ("state", *(f"spool-{node}" for node in NODES)):
        (folder / name).mkdir()
    if isinstance(network, Network):
        address = network.address
        places = [f"NodeHostname={name} NodeAddr={network.addresses[name]}" for name in NODES]
    else:
        address = "127.0.0.1"
        places = [f"NodeHostname={_host()} NodeAddr={address}" for _ in NODES]
    nodes = [
        f"NodeName={name} {place} Port={port}"
        for name, place, port in zip(NODES, places, ports, strict=True)
    ]
    path = folder / "slurm.conf"
    path.write_text(
        CONFIGURATION.format(
            host=_host(),
            address=address,
            folder=folder,
            nodes="\n".join(nodes),
            controller_port=controller,
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
    # In a session of its own, so that it has no controlling terminal to lose.
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
        return listed.stdout.split() == ["idle"] * len(NODES)

    _await(f"idle nodes; see the logs in {folder}", idle)


def _await(what: str, there: object) -> None:
    assert callable(there)
    end = time.monotonic() + SECONDS_TO_START
    while not there():
        if time.monotonic() > end:
            raise SystemExit(f"after {SECONDS_TO_START} seconds there is no {what}")
        time.sleep(0.5)
