"""Options of planning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ShardingType = Literal[
    "table_wise",
    "column_wise",
    "table_column_wise",
    "row_wise",
    "table_row_wise",
    "grid_shard",
]


@dataclass(frozen=True)
class ShardingConfig:
    """How TorchRec's planner may place the tables.

    Attributes:
        types: Sharding types it may choose from. Row-wise kinds exist on CUDA alone. Data-parallel
            is not offered: an optimizer in the backward does not train such tables.
        hbm_gb: Memory of a rank's device that the planner may fill, in GiB.
        host_memory_gb: Host memory of a rank that the planner may fill, in GiB.
    """

    types: tuple[ShardingType, ...] = ("table_wise", "row_wise")
    hbm_gb: float = 64.0
    host_memory_gb: float = 64.0

    def __post_init__(self) -> None:
        if not self.types:
            raise ValueError("sharding.types is empty, name at least one sharding type")
        for name in ("hbm_gb", "host_memory_gb"):
            if getattr(self, name) <= 0:
                raise ValueError(f"sharding.{name} is {getattr(self, name)}, must be positive")
