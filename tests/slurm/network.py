"""A network for the nodes alone: a namespace each, and a cable each to a switch.

This process moves into a network of its own, in which it is the machine with the switch, so that
nothing of the host's network is changed and the kernel takes all away when the processes end.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from contextlib import ExitStack
from pathlib import Path

SWITCH = "switch"
_CLONE_NEWNS, _CLONE_NEWNET = 0x0002_0000, 0x4000_0000


class Network:
    """A switch, and nodes that are plugged into it.

    Attributes:
        address: Of this process.
        addresses: Of the nodes, by their names.
    """

    def __init__(self, folder: Path, names: list[str], host: str, stack: ExitStack) -> None:
        """Move this process into it.

        Raises:
            OSError: the kernel, or the rights here, permit no namespaces.
            subprocess.CalledProcessError: or no bridge, or no cable.
        """
        self.address = "10.99.0.254"
        self.addresses = {name: f"10.99.0.{number}" for number, name in enumerate(names, 1)}
        self._namespaces: dict[str, int] = {}
        _leave_the_hosts_network()
        _run("ip", "link", "add", SWITCH, "type", "bridge")
        _run("ip", "address", "add", f"{self.address}/24", "dev", SWITCH)
        _run("ip", "link", "set", SWITCH, "up")
        for name in names:
            self._plug_in(name, stack)
        _resolve_names(folder / "hosts", {host: self.address, **self.addresses})

    def inside(self, name: str) -> list[str]:
        """What stands before a command that is to run on a node."""
        return ["nsenter", f"--target={self._namespaces[name]}", "--net", "--uts"]

    def cut(self, name: str) -> None:
        """Take a node's link down, at the switch."""
        _run("ip", "link", "set", name, "down")

    def mend(self, name: str) -> None:
        """Bring it up again."""
        _run("ip", "link", "set", name, "up")

    def _plug_in(self, name: str, stack: ExitStack) -> None:
        # It does nothing, and the node's namespaces are there for as long as it does it.
        script = f"hostname {name} && echo && exec sleep infinity"
        keeper = subprocess.Popen(
            ["unshare", "--net", "--uts", "sh", "-c", script], stdout=subprocess.PIPE
        )
        stack.callback(keeper.wait)
        stack.callback(keeper.kill)
        assert keeper.stdout is not None
        keeper.stdout.readline()
        self._namespaces[name] = keeper.pid
        peer = ("peer", "name", "eth0", "netns", str(keeper.pid))
        _run("ip", "link", "add", name, "type", "veth", *peer)
        _run("ip", "link", "set", name, "master", SWITCH, "up")
        _run(*self.inside(name), "ip", "link", "set", "lo", "up")
        address = f"{self.addresses[name]}/24"
        _run(*self.inside(name), "ip", "address", "add", address, "dev", "eth0")
        _run(*self.inside(name), "ip", "link", "set", "eth0", "up")


def _leave_the_hosts_network() -> None:
    # os.unshare is there from Python 3.12.
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS | _CLONE_NEWNET):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    _run("ip", "link", "set", "lo", "up")
    # Mounts would else reach the host.
    _run("mount", "--make-rprivate", "/")


def _resolve_names(path: Path, addresses: dict[str, str]) -> None:
    lines = ["127.0.0.1 localhost", *(f"{address} {name}" for name, address in addresses.items())]
    path.write_text("".join(f"{line}\n" for line in lines))
    _run("mount", "--bind", str(path), "/etc/hosts")


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
