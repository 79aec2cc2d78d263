"""Small catalogues and batches of sequences for tests of matching models."""

from __future__ import annotations

import dataclasses

import torch
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from dropdrift.data.batch import SequenceBatch
from dropdrift.data.schema import Encoding, Field, Schema, Table

ITEMS = 30
SCHEMA = Schema(
    name="films",
    fields=(
        Field("item_id", "categorical", "item_id", group="item", identifier=True),
        Field("genres", "multi", "genres", group="item", max_length=6),
        Field("tags", "multi", "genres", group="item", max_length=6),
    ),
    tables=(
        Table("item_id", ITEMS + 1, 8, Encoding("vocabulary")),
        Table("genres", 6, 8, Encoding("vocabulary"), pooling="mean"),
    ),
    labels=(),
    has_user=True,
    has_time=True,
    kind="interactions",
)


def make_catalogue(items: int = ITEMS) -> KeyedJaggedTensor:
    """Item i has id i + 1, i mod 3 genres and, if it is odd, one tag."""
    values = [torch.arange(1, items + 1)]
    lengths = [torch.ones(items, dtype=torch.int64)]
    genres = [list(range(1, 1 + item % 3)) for item in range(items)]
    tags = [[1 + item % 5] if item % 2 else [] for item in range(items)]
    for bags in (genres, tags):
        values.append(torch.tensor([value for bag in bags for value in bag]))
        lengths.append(torch.tensor([len(bag) for bag in bags]))
    # Not in the schema's order.
    order = [2, 0, 1]
    names = ["item_id", "genres", "tags"]
    return KeyedJaggedTensor(
        keys=[names[i] for i in order],
        values=torch.cat([values[i] for i in order]),
        lengths=torch.cat([lengths[i] for i in order]),
    )


def make_batch(lengths: list[int], positions: int, seed: int = 0) -> SequenceBatch:
    """Random sequences of these lengths, each position's target the item that comes next."""
    generator = torch.Generator().manual_seed(seed)
    rows = len(lengths)
    items = torch.randint(0, ITEMS, (rows, positions), generator=generator)
    following = torch.randint(0, ITEMS, (rows, 1), generator=generator)
    targets = torch.cat([items[:, 1:], following], dim=1)
    pauses = torch.randint(1, 3000, (rows, positions), generator=generator)
    absent = torch.arange(positions) < positions - torch.tensor(lengths).unsqueeze(1)
    return SequenceBatch(
        catalogue=make_catalogue(),
        items=items.masked_fill(absent, -1),
        times=(pauses.cumsum(1) + 10**9).masked_fill(absent, 0),
        targets=targets.masked_fill(absent, -1),
        target_share=float((~absent).sum().clamp(min=1)),
        negatives=ITEMS,
        log_expected=torch.zeros(ITEMS),
        first_row=0,
        step=0,
        size=rows,
    )


def cut(batch: SequenceBatch, end: int, window: int) -> SequenceBatch:
    """The batch as it was before position ``end``, no more than ``window`` positions of it."""
    part = slice(max(0, end - window), end)
    return dataclasses.replace(
        batch,
        items=batch.items[:, part],
        times=batch.times[:, part],
        targets=batch.targets[:, part],
    )
