"""Options of calibrating. Needs no torch, so that the command line's help is quick."""

from __future__ import annotations

from dataclasses import dataclass

# Of an fp32 number, which exchanges are made of.
NUMBER_BYTES = 4


@dataclass(frozen=True)
class CalibrationConfig:
    """How much is measured.

    Attributes:
        repeats: Timed repetitions of each lookup and each exchange, of which the median counts.
        max_rows: Rows above which a table is cut while it is measured, so that it fits in memory; a
            million of width 128 takes 512 MB.
        sizes: Bytes that each rank puts into an exchange, at least two different sizes: latency and
            bandwidth are told apart by them.
        seed: Of the ids that are looked up.
    """

    repeats: int = 10
    max_rows: int = 1_000_000
    sizes: tuple[int, ...] = (1 << 16, 1 << 18, 1 << 20, 1 << 22, 1 << 24)
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("repeats", "max_rows"):
            if getattr(self, name) < 1:
                raise ValueError(f"calibration.{name} is {getattr(self, name)}, must be at least 1")
        if len(set(self.sizes)) < 2:
            raise ValueError(
                f"calibration.sizes is {', '.join(map(str, self.sizes)) or 'empty'}, must be at "
                "least two different sizes"
            )

    def whole_sizes(self, ranks: int) -> list[int]:
        """The sizes, rounded down to whole fp32 numbers for every rank; ascending, each once.

        Raises:
            ValueError: a size is too small for a number for each rank, or all become the same.
        """
        unit = NUMBER_BYTES * ranks
        whole = sorted({size // unit * unit for size in self.sizes})
        if whole[0] < unit or len(whole) < 2:
            raise ValueError(
                f"calibration.sizes is {', '.join(map(str, self.sizes))}: sizes must differ and be "
                f"at least {unit} bytes, a number for each of {ranks} ranks"
            )
        return whole
