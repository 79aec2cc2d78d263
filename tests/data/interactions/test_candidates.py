from __future__ import annotations

import time

import numpy as np
import pyarrow as pa

from dropdrift.data.interactions.candidates import SampledItems
from dropdrift.data.interactions.catalogue import Catalogue
from dropdrift.data.loading.bags import Bags
from dropdrift.data.loading.block import ColumnBlock

ITEMS = 1_000_000


def test_a_million_items_make_a_batch_in_milliseconds() -> None:
    generator = np.random.default_rng(0)
    bags = Bags.from_lengths(generator.integers(0, 4, ITEMS), np.zeros(3 * ITEMS, dtype=np.int32))
    block = ColumnBlock(
        ("item_id", "tags"),
        np.arange(ITEMS, dtype=np.int32)[None],
        (bags,),
        np.zeros((ITEMS, 0), dtype=np.float32),
        np.zeros(ITEMS, dtype=np.int64),
    )
    nothing = pa.nulls(ITEMS, pa.string())
    catalogue = Catalogue(nothing, nothing, block)
    counts = generator.integers(0, 5, ITEMS)
    candidates = SampledItems(catalogue, counts, sampled=4096, rows=4096 + 256 * 101, seed=0)
    items = generator.integers(-1, ITEMS, (256, 100))
    best = np.inf
    for step in range(5):
        start = time.perf_counter()
        chosen = candidates.choose(items, items, step=step)
        best = min(best, time.perf_counter() - start)
    assert best < 0.1
    assert chosen.features.stride() == len(chosen.log_expected) == 4096 + 256 * 101
    ids = chosen.features["item_id"].values().numpy()
    here = items >= 0
    assert (ids[chosen.arrays[0][here]] == items[here]).all()
    assert (chosen.arrays[0][~here] == -1).all()
    assert (counts[ids[:4096]] > 0).all()
