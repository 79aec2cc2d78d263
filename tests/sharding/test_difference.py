"""Two plans compared: moved bytes against masks of every number, and what counts as moved."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torchrec.modules.embedding_configs import EmbeddingBagConfig
from torchrec.modules.embedding_modules import EmbeddingBagCollection
from torchrec.optim.rowwise_adagrad import RowWiseAdagrad

from dropdrift.data.schema import Encoding, Field, Schema, Table
from dropdrift.sharding.cluster import make_cluster
from dropdrift.sharding.config import ShardingConfig
from dropdrift.sharding.difference import compare
from dropdrift.sharding.hardware import load_hardware
from dropdrift.sharding.planning import PlanRequest, make_plan
from dropdrift.sharding.saved.document import SavedPlan, document, read_plan
from dropdrift.sharding.shard import fuse_sparse_optimizer

OPTIMIZERS = {
    "rowwise_adagrad": RowWiseAdagrad,
    "adagrad": torch.optim.Adagrad,
    "sgd": torch.optim.SGD,
}
ROWS, WIDTH = {"a": 103, "b": 40}, 256
Plan = Callable[..., SavedPlan]


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """``plan(types...)``: of two tables, read back from a file."""

    def make(
        *types: str,
        nodes: int = 2,
        ranks: int = 2,
        optimizer: str = "adagrad",
        rows: dict[str, int] | None = None,
        hardware: str = "H100",
        change: Callable[[dict[str, Any]], None] | None = None,
        **options: Any,
    ) -> SavedPlan:
        sizes = rows or ROWS
        schema = Schema(
            "example",
            fields=tuple(Field(name, "categorical", name) for name in sizes),
            tables=tuple(Table(n, count, WIDTH, Encoding("hash")) for n, count in sizes.items()),
            labels=("click",),
        )
        model = nn.Module()
        model.collection = EmbeddingBagCollection(
            [
                EmbeddingBagConfig(
                    name=name, num_embeddings=count, embedding_dim=WIDTH, feature_names=[name]
                )
                for name, count in sizes.items()
            ],
            device=torch.device("meta"),
        )
        if optimizer in OPTIMIZERS:
            fuse_sparse_optimizer(model.collection, OPTIMIZERS[optimizer], {"lr": 0.1})
        config = ShardingConfig(types=types or ("table_wise",), **options)
        cluster = make_cluster(config, load_hardware(hardware), nodes, ranks)
        made = document(make_plan(PlanRequest(model, schema, config, cluster, 64, optimizer)), {})
        made = json.loads(json.dumps(made))
        if change is not None:
            change(made)
        path = tmp_path / "plan.json"
        path.write_text(json.dumps(made))
        return read_plan(path)

    return make


def on_rank(ranks: dict[str, int]) -> Callable[[dict[str, Any]], None]:
    """Moves tables that are whole to other ranks."""

    def change(made: dict[str, Any]) -> None:
        for table in made["placement"]:
            table["shards"][0]["rank"] = ranks[table["table"]]

    return change


def masks(saved: SavedPlan, table: str, ranks: int) -> np.ndarray:
    """Rank by row by column: who holds which number."""
    held = np.zeros((ranks, ROWS[table], WIDTH), dtype=bool)
    for placed in saved.placement:
        if placed.table == table:
            for s in placed.shards:
                held[s.rank, s.row : s.row + s.rows, s.column : s.column + s.columns] = True
    return held


TYPES = ("table_wise", "row_wise", "table_row_wise", "column_wise", "grid_shard")


@pytest.mark.parametrize(("first", "second"), list(permutations(TYPES, 2)))
def test_every_number_that_a_rank_lacked_moves(plan, first, second):
    """Between two clusters too, with Adagrad's state: as many numbers again."""
    before, after = plan(first), plan(second, nodes=3)
    difference = compare(before, after)
    received = np.zeros(6, dtype=int)
    for table in ROWS:
        lacked = masks(after, table, 6) & ~masks(before, table, 6)
        found = next(t for t in difference.tables if t.name == table)
        assert found.moved_bytes == 2 * 4 * lacked.sum()
        assert found.stored_bytes == 2 * 4 * ROWS[table] * WIDTH
        assert found.changed
        received += 2 * 4 * lacked.sum(axis=(1, 2))
    assert [rank.received_bytes for rank in difference.ranks] == received.tolist()
    assert difference.moved_bytes == received.sum()
    assert [t.moved_bytes for t in difference.tables] == sorted(
        (t.moved_bytes for t in difference.tables), reverse=True
    )
    assert difference.made_for == (
        "world size was 4 (2 x 2), is 6 (3 x 2)",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("optimizer", "state"), [("rowwise_adagrad", 1), ("adagrad", WIDTH), ("sgd", 0)]
)
def test_state_moves_with_its_rows(plan, optimizer, state):
    before = plan(optimizer=optimizer, change=on_rank({"a": 0, "b": 1}))
    after = plan(optimizer=optimizer, change=on_rank({"a": 3, "b": 1}))
    difference = compare(before, after)
    assert difference.moved_bytes == 103 * (WIDTH + state) * 4
    first, second = difference.tables
    assert (first.name, first.before.ranks, first.after.ranks) == ("a", (0,), (3,))
    assert (second.name, second.changed, second.moved_bytes) == ("b", False, 0)
    # On four ranks a block has 26 rows: rank 0 keeps its own.
    rows = compare(plan("row_wise", optimizer=optimizer), before)
    a = next(table for table in rows.tables if table.name == "a")
    assert a.moved_bytes == (103 - 26) * (WIDTH + state) * 4


def test_a_copy_for_each_new_rank(plan):
    before = plan(hardware="CPU", nodes=1, ranks=2, optimizer="adam")
    after = plan(hardware="CPU", nodes=1, ranks=3, optimizer="adam")
    copies = compare(before, after)
    assert copies.moved_bytes == (103 + 40) * WIDTH * 3 * 4
    assert [rank.received_bytes for rank in copies.ranks] == [0, 0, copies.moved_bytes]
    assert [rank.before is None for rank in copies.ranks] == [False, False, True]
    fewer = compare(after, before)
    assert fewer.moved_bytes == 0
    assert [rank.after is None for rank in fewer.ranks] == [False, False, True]


def test_the_state_of_another_optimizer_is_of_no_use(plan):
    before = plan(optimizer="adagrad", change=on_rank({"a": 0, "b": 1}))
    after = plan(optimizer="sgd", change=on_rank({"a": 1, "b": 1}))
    assert compare(before, after).moved_bytes == 103 * WIDTH * 4
    assert compare(after, before).moved_bytes == 103 * WIDTH * 4
    assert compare(before, after).made_for == ("optimizer was adagrad, is sgd",)


def test_what_is_new_gone_or_resized_does_not_move(plan):
    before = plan(rows={"a": 103, "b": 40, "d": 8}, change=on_rank({"a": 0, "b": 0, "d": 0}))
    after = plan(rows={"a": 103, "c": 9, "d": 80}, change=on_rank({"a": 0, "c": 1, "d": 1}))
    difference = compare(before, after)
    assert (difference.new, difference.gone, difference.resized) == (("c",), ("b",), ("d",))
    assert [table.name for table in difference.tables] == ["a"]
    assert difference.moved_bytes == 0
    assert difference.made_for == ("table 'd' had 8 rows, has 80",)


def test_another_kernel_is_a_change_but_moves_nothing_to_another_rank(plan):
    before = plan("row_wise")
    after = plan("row_wise", kernels=("fused_uvm",))
    difference = compare(before, after)
    assert [(t.changed, t.moved_bytes, t.after.kernel) for t in difference.tables] == [
        (True, 0, "fused_uvm")
    ] * 2
    stored = sum(ROWS.values()) * WIDTH * 2 * 4
    assert difference.before.spilled_bytes == 0
    assert difference.after.spilled_bytes == stored
    assert sum(rank.after.spilled_bytes for rank in difference.ranks) == stored


def test_sums_are_those_of_the_plans(plan):
    before, after = plan("table_wise"), plan("row_wise")
    difference = compare(before, after)
    for totals, saved in ((difference.before, before), (difference.after, after)):
        loads = [rank.device_bytes for rank in saved.summary.ranks]
        assert totals.fullest_bytes == max(loads)
        assert totals.memory_skew == pytest.approx(max(loads) * 4 / sum(loads))
        assert totals.step_ms == max(rank.cost.total for rank in saved.summary.ranks)
        assert not totals.edited
    assert [rank.before.ms for rank in difference.ranks] == [
        rank.cost.total for rank in before.summary.ranks
    ]
    edited = replace(before, placement=after.placement)
    assert compare(edited, after).before.edited
