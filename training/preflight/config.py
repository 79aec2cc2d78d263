"""Options of the check of all ranks. Needs no torch, so that the command line's help is quick."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dropdrift.training.config import MAX_TIMEOUT


@dataclass(frozen=True)
class PreflightConfig:
    """The check of all ranks before the first step.

    Attributes:
        sizes: Bytes that each rank puts into an exchange. The largest is sent over single links
            too.
        repeats: Timed repetitions of everything, of which the median counts.
        timeout: Seconds that a rank waits for another: to come, and in each exchange. Within train
            and evaluate, loop.timeout counts.
        least_bandwidth: GB/s of bus bandwidth that all-reduce and all-to-all of the largest size
            must reach; less is an error. 0: none.
        out: JSON file to write; none: only the table is printed.
    """

    sizes: tuple[int, ...] = (1 << 10, 1 << 20, 1 << 24)
    repeats: int = 5
    timeout: float = 60.0
    least_bandwidth: float = 0.0
    out: Path | None = None

    def __post_init__(self) -> None:
        if not self.sizes or min(self.sizes) < 1:
            shown = " ".join(map(str, self.sizes)) or "empty"
            raise ValueError(f"sizes is {shown}, must be bytes, each at least 1")
        if self.repeats < 1:
            raise ValueError(f"repeats is {self.repeats}, must be at least 1")
        if not 0 < self.timeout <= MAX_TIMEOUT:
            raise ValueError(
                f"timeout is {self.timeout}, must be positive and at most {MAX_TIMEOUT:.0f}"
            )
        if self.least_bandwidth < 0:
            raise ValueError(f"least_bandwidth is {self.least_bandwidth}, must not be negative")
