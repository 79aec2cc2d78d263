"""What a run needs of the machine: disk, memory, ports, a name that others find it by."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from pathlib import Path

from dropdrift.launchers.doctor.check import Check
from dropdrift.training.preflight.memory import available_memory

RENDEZVOUS_PORT = 29500  # torchrun's default, and that of dropdrift launch
LOW_DISK_GIB = 10
LOW_MEMORY_GIB = 4
LOW_SHARED_MEMORY_GIB = 1
INTERFACE_VARIABLE = "GLOO_SOCKET_IFNAME"

_PORT_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_OTHERS = "processes on other machines do not find this one by it"


def check_disk(folder: Path) -> Check:
    """Free space where a run would be written, and whether it may be written there."""
    there = folder.absolute()
    while not os.path.lexists(there):
        there = there.parent
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        reason = f"{there} cannot be written: {error.strerror}"
        return Check("disk", "error", reason, "choose another --out, and give it to --folder")
    free = shutil.disk_usage(there).free / 2**30
    detail = f"{free:.0f} GiB free in {there}"
    if free >= LOW_DISK_GIB:
        return Check("disk", "ok", detail)
    return Check("disk", "warning", detail, "checkpoints may need more: make room or move --out")


def check_memory() -> Check:
    """Memory that is free, or could be made free."""
    available = available_memory()
    if available is None:
        remedy = f"make sure that {LOW_MEMORY_GIB} GiB are free"
        return Check("memory", "warning", "cannot be read on this system", remedy)
    detail = f"{available / 2**30:.1f} GiB available"
    if available / 2**30 >= LOW_MEMORY_GIB:
        return Check("memory", "ok", detail)
    return Check("memory", "warning", detail, "end other programs, or train smaller tables")


def check_shared_memory(gpus: list[str], folder: Path = Path("/dev/shm")) -> Check:
    """The size of the folder by which the processes of GPUs exchange within a machine."""
    if not folder.is_dir():
        status, detail = "warning" if gpus else "ok", f"{folder} is not there"
        size = 0.0
    else:
        size = shutil.disk_usage(folder).total / 2**30
        detail = f"{size:.1f} GiB in {folder}"
        status = "warning" if gpus and size < LOW_SHARED_MEMORY_GIB else "ok"
    if status == "ok":
        return Check("shared memory", "ok", detail)
    remedy = f"NCCL needs it: docker run --shm-size={LOW_SHARED_MEMORY_GIB}g, or --ipc=host"
    return Check("shared memory", "warning", detail, remedy)


def check_host_name(name: str) -> Check:
    """Whether gloo gets an address by ``name``, this machine's, that others can reach.

    gloo listens at the address that the name has, or at the loopback address where it has none. On
    one machine either works; between machines the ranks then fail with "connection refused".
    """
    remedy = (
        f"give {name} its address in /etc/hosts, or name the network's interface in "
        f"{INTERFACE_VARIABLE}"
    )
    interface = os.environ.get(INTERFACE_VARIABLE)
    if interface is not None:
        return _check_interface(interface)
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return Check("host name", "warning", f"{name} has no address: {_OTHERS}", remedy)
    families = {str(address[0]): family for family, _, _, _, address in found}
    usable = [address for address, family in families.items() if _is_here(address, family)]
    if not usable:
        other = ", ".join(families)
        return Check("host name", "warning", f"{name} is {other}, which is not here", remedy)
    if usable[0].startswith("127.") or usable[0] == "::1":
        return Check("host name", "warning", f"{name} is {usable[0]}: {_OTHERS}", remedy)
    return Check("host name", "ok", f"{name} is {usable[0]}")


def check_port(port: int) -> Check:
    """Whether processes can meet on ``port`` of this machine."""
    elsewhere = "torchrun --standalone takes a free one, dropdrift launch --port another"
    with socket.socket() as listener:
        try:
            listener.bind(("", port))
        except OSError as error:
            return Check("TCP port", "warning", f"{port}: {error.strerror}", elsewhere)
    first, last = _ephemeral_ports()
    if first <= port <= last:
        detail = f"{port} is free, but connections of other programs take {first}-{last}"
        return Check("TCP port", "warning", detail, elsewhere)
    return Check("TCP port", "ok", f"{port} is free")


def _check_interface(interface: str) -> Check:
    known = [name for _, name in socket.if_nameindex()]
    asked = interface.split(",")
    missing = [name for name in asked if name not in known]
    if missing:
        detail = f"{INTERFACE_VARIABLE} is {interface!r}, and there is no {', '.join(missing)}"
        return Check("host name", "error", detail, f"unset it, or name one of {', '.join(known)}")
    return Check("host name", "ok", f"gloo uses {interface} ({INTERFACE_VARIABLE})")


def _is_here(address: str, family: int) -> bool:
    """Whether this machine has the address: what is elsewhere cannot be listened at."""
    try:
        with socket.socket(family, socket.SOCK_STREAM) as listener:
            listener.bind((address, 0))
    except OSError:
        return False
    return True


def _ephemeral_ports() -> tuple[int, int]:
    """First and last port of outgoing connections; none where the system does not tell."""
    try:
        first, last = _PORT_RANGE.read_text(encoding="ascii").split()
        return int(first), int(last)
    except (OSError, ValueError):
        return 0, -1
