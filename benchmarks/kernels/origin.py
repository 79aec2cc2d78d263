"""Where a run of the kernels' benchmark comes from, in words. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dropdrift.benchmarks.kernels.record import KernelRun

# Of a git revision, as much as tells it apart.
REVISION_DIGITS = 10


@dataclass(frozen=True)
class Origin:
    """What decides whether two runs can be compared.

    Attributes:
        hardware: processor, cores, threads and GPUs.
        revision: the git revision, shortened; ``unknown`` outside a checkout.
        changed: whether files differed from that revision.
        versions: of Python and the packages, by name.
        date: when it was measured, UTC, ISO 8601.
        command: that measured it.
    """

    hardware: str
    revision: str
    changed: bool
    versions: Mapping[str, str]
    date: str
    command: str

    @staticmethod
    def of(run: KernelRun) -> Origin:
        """The origin of a run.

        Raises:
            ValueError: its provenance lacks something.
        """
        origin = run.provenance
        try:
            git = origin["git"] or {"revision": "unknown", "dirty": False}
            return Origin(
                hardware=_hardware(origin["hardware"], run.clocks.threads),
                revision=str(git["revision"])[:REVISION_DIGITS],
                changed=bool(git["dirty"]),
                versions={str(name): str(text) for name, text in origin["versions"].items()},
                date=str(origin["date"]),
                command=str(origin["command"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"run {run.run}: its provenance lacks or spoils {error}") from error

    @property
    def code(self) -> str:
        """The revision, and whether it was changed."""
        return f"{self.revision}, with changes" if self.changed else self.revision


def _hardware(hardware: Mapping[str, Any], threads: int) -> str:
    gpus = [str(gpu["name"]) for gpu in hardware["gpus"]]
    cpu = f"{hardware['cpu']}, {hardware['cores']} cores, {threads} threads"
    return ", ".join([cpu, *gpus])
