"""Calibrates and writes what each rank found: ``calibration_program.py OUT``, under torchrun.

Beside the calibration stands how many rows each batch had that was looked up.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from datetime import date
from pathlib import Path

import torch
import torch.distributed as dist

from dropdrift.sharding.calibration import lookups
from dropdrift.sharding.calibration.calibrate import calibrate, number_of_steps
from dropdrift.sharding.calibration.config import CalibrationConfig
from dropdrift.sharding.calibration.tables import LookupTable
from dropdrift.sharding.cluster import make_cluster
from dropdrift.sharding.config import ShardingConfig
from dropdrift.sharding.hardware import load_hardware
from dropdrift.training.distributed import process_group

TABLES = [LookupTable("one", 3000, 16), LookupTable("bags", 3000, 32, (1.0, 10.0))]
CONFIG = CalibrationConfig(repeats=5, sizes=(2**14, 2**18, 2**22))


def record_batches(seen: list[int]) -> None:
    """Have the batches made as they are, and their rows written down."""
    made = lookups.random_bags

    def recorded(
        table: LookupTable, rows: int, batch_rows: int, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append(batch_rows)
        return made(table, rows, batch_rows, generator)

    lookups.random_bags = recorded


def main(out: Path) -> None:
    with process_group(timeout=60) as ranks:
        done: list[str] = []
        batches: list[int] = []
        record_batches(batches)
        group = dist.GroupMember.WORLD
        assert group is not None
        found = calibrate(
            make_cluster(ShardingConfig(), load_hardware("CPU"), 1, ranks.world_size),
            TABLES,
            rows_per_rank=256,
            config=CONFIG,
            group=group,
            device=ranks.device,
            name="here",
            machine="the test's machine",
            day=date(2026, 3, 1),
            advance=done.append,
        )
        assert len(done) == number_of_steps(TABLES, CONFIG, ranks.world_size)
        text = json.dumps({**dataclasses.asdict(found), "batches": batches})
        (out / f"{ranks.rank}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
