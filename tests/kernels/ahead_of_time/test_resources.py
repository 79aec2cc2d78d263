"""Occupancy as CUDA's occupancy calculator has it."""

from __future__ import annotations

import pytest

from dropdrift.kernels.ahead_of_time.resources import GPUS, resident_programs


@pytest.mark.parametrize(
    ("capability", "registers", "shared_bytes", "warps", "programs", "limit"),
    [
        (80, 32, 0, 4, 16, "64 warps"),
        (80, 32, 0, 1, 32, "32 programs"),
        (80, 168, 0, 4, 3, "registers: 12 warps of 5,376"),
        (80, 161, 0, 4, 3, "registers are given out by eights"),
        (80, 255, 0, 8, 1, "registers: 8 warps of 8,192"),
        (80, 128, 0, 6, 2, "registers: 16 warps of 4,096"),
        (80, 32, 166_912, 4, 1, "shared memory: all that a program can have"),
        (80, 32, 82_944, 4, 2, "shared memory: two programs with 1,024 reserved each"),
        (80, 32, 82_945, 4, 1, "shared memory: a byte too much for two"),
        (90, 32, 115_712, 4, 2, "shared memory: half of 228 KB less 1 KB"),
        (90, 32, 115_713, 4, 1, "shared memory: a byte too much for two"),
        (90, 134, 213_000, 8, 1, "shared memory"),
    ],
)
def test_programs_on_a_multiprocessor(
    capability: int, registers: int, shared_bytes: int, warps: int, programs: int, limit: str
) -> None:
    resident = resident_programs(GPUS[capability], registers, shared_bytes, warps)
    assert resident == programs, limit


def test_a_program_that_asks_for_more_than_there_is_fits_not_once() -> None:
    assert resident_programs(GPUS[80], 32, 170_000, 4) == 0
