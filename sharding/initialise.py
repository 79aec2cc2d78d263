"""Initial values that do not depend on how the tables are sharded.

Each block of rows of a table has a random generator of its own, keyed by (seed, table, block), so
any shard is filled without making the table as a whole: the same weights for every plan.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn
from torch.distributed._shard.sharded_tensor.api import ShardedTensor

from dropdrift.sharding.shard import is_table

BLOCK_ROWS = 4_096


def initialise_tables(model: nn.Module, std: float, seed: int) -> None:
    """Fill this rank's part of every table, or its copy, with Normal(0, ``std``).

    The values of an fp16 table are those of an fp32 one, rounded.
    """
    for name, weight in model.state_dict().items():
        if not is_table(name):
            continue
        key, width = f"{seed}/{name.split('.')[-2]}", weight.size()[1]
        if not isinstance(weight, ShardedTensor):
            fill_shard(weight, 0, 0, width, std, key)
            continue
        for shard in weight.local_shards():
            row, column = shard.metadata.shard_offsets
            fill_shard(shard.tensor, row, column, width, std, key)


def fill_shard(shard: Tensor, row: int, column: int, width: int, std: float, key: str) -> None:
    """Fill ``shard``, whose first number is at (``row``, ``column``) of a table ``width`` wide."""
    end = row + shard.shape[0]
    for block in range(row // BLOCK_ROWS, (end + BLOCK_ROWS - 1) // BLOCK_ROWS):
        values = _block(key, block, width) * std
        first = block * BLOCK_ROWS
        low, high = max(row, first), min(end, first + BLOCK_ROWS)
        part = values[low - first : high - first, column : column + shard.shape[1]]
        with torch.no_grad():
            shard[low - row : high - row].copy_(part)


def _block(key: str, block: int, width: int) -> Tensor:
    digest = hashlib.sha256(f"{key}/{block}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
    return torch.randn(BLOCK_ROWS, width, generator=generator)
