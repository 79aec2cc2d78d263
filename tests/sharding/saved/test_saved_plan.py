"""The plan document: written, read, matched, and back to what TorchRec shards by."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from torch import nn
from torchrec.modules.embedding_configs import EmbeddingBagConfig
from torchrec.modules.embedding_modules import EmbeddingBagCollection
from torchrec.optim.rowwise_adagrad import RowWiseAdagrad

import dropdrift.sharding.saved.document
from dropdrift.data.schema import Encoding, Field, Schema, Table
from dropdrift.sharding.cluster import make_cluster
from dropdrift.sharding.config import ShardingConfig
from dropdrift.sharding.hardware import load_hardware
from dropdrift.sharding.planning import PlanRequest, make_plan
from dropdrift.sharding.saved.context import context_of, differences
from dropdrift.sharding.saved.document import document, read_plan
from dropdrift.sharding.saved.placement import to_sharding_plan
from dropdrift.sharding.shard import fuse_sparse_optimizer

OPTIMIZERS = {"rowwise_adagrad": RowWiseAdagrad, "adagrad": torch.optim.Adagrad}
SCHEMA = Schema(
    "example",
    fields=(
        Field("history", "sequence", "item", max_length=9, pooling_factor=3.5),
        Field("user", "categorical", "user"),
        Field("item", "categorical", "item"),
    ),
    tables=(
        Table("item", 1_003, 256, Encoding("hash")),
        Table("user", 80, 256, Encoding("hash")),
    ),
    labels=("click",),
)


class Model(nn.Module):
    """The schema's tables on the meta device, and an optimizer in the backward."""

    def __init__(self, schema: Schema, optimizer: str) -> None:
        super().__init__()
        self.inner = nn.Module()
        self.inner.collection = EmbeddingBagCollection(
            [
                EmbeddingBagConfig(
                    name=table.name,
                    num_embeddings=table.rows,
                    embedding_dim=table.width,
                    feature_names=[f.name for f in schema.fields if f.table == table.name],
                )
                for table in reversed(schema.tables)
            ],
            device=torch.device("meta"),
        )
        if optimizer in OPTIMIZERS:
            fuse_sparse_optimizer(self.inner.collection, OPTIMIZERS[optimizer], {"lr": 0.1})


def request(
    *types: str,
    hardware="H100",
    nodes=2,
    ranks=2,
    optimizer="adagrad",
    schema=SCHEMA,
    rows=64,
    **options: Any,
) -> PlanRequest:
    config = ShardingConfig(types=types or ("table_wise", "row_wise"), **options)
    return PlanRequest(
        model=Model(schema, optimizer),
        schema=schema,
        config=config,
        cluster=make_cluster(config, load_hardware(hardware), nodes, ranks),
        rows_per_rank=rows,
        optimizer=optimizer,
    )


REQUESTS = {
    "table_wise": request("table_wise"),
    "row_wise": request("row_wise"),
    "table_row_wise": request("table_row_wise"),
    "column_wise": request("column_wise"),
    "table_column_wise": request("table_column_wise"),
    "grid_shard": request("grid_shard"),
    "fused_uvm_caching": request("row_wise", kernels=("fused_uvm_caching",)),
    "cpu": request("table_wise", hardware="CPU", nodes=1, optimizer="rowwise_adagrad"),
    "data_parallel": request(hardware="CPU", nodes=1, optimizer="adam"),
    # Blocks of one row, of which there are fewer than ranks.
    "few rows": request("row_wise", nodes=32, ranks=4),
}


def written(path: Path, plan: Any) -> Path:
    path.write_text(json.dumps(plan, allow_nan=False))
    return path


@pytest.fixture
def saved(tmp_path) -> Callable[..., dict[str, Any]]:
    """The document of a request, as it comes back from a file."""

    def save(plan_request: PlanRequest) -> dict[str, Any]:
        plan = document(make_plan(plan_request), {"command": "a test"})
        return json.loads(written(tmp_path / "saved.json", plan).read_text())

    return save


@pytest.mark.parametrize("name", REQUESTS)
def test_a_saved_plan_is_what_torchrec_planned(name, tmp_path):
    planned = make_plan(REQUESTS[name])
    path = written(tmp_path / "plan.json", document(planned, {"command": "a test"}))
    plan = read_plan(path)
    assert list(plan.document().items())[:2] == [("kind", "plan"), ("format", 1)]
    # Dataclasses all the way down: every offset, size, rank and placement counts.
    assert to_sharding_plan(plan.placement, plan.context).plan == planned.plan.plan
    assert json.loads(json.dumps(plan.document())) == json.loads(path.read_text())
    assert not plan.is_edited


@pytest.mark.parametrize("name", REQUESTS)
def test_documents_follow_the_schema(name, saved):
    schema = json.loads(
        Path(dropdrift.sharding.saved.document.__file__).with_name("plan.schema.json").read_text()
    )
    jsonschema.Draft202012Validator.check_schema(schema)
    plan = saved(REQUESTS[name])
    jsonschema.validate(plan, schema)
    plan["summary"]["ranks"][0]["cost"]["total"] = "long"
    with pytest.raises(jsonschema.ValidationError, match="'long' is not of type 'number'"):
        jsonschema.validate(plan, schema)


def test_the_document_says_what_was_planned(saved):
    plan = saved(request("table_wise", hardware="CPU", nodes=1, optimizer="rowwise_adagrad"))
    assert plan["context"]["tables"] == [
        {
            "name": "item",
            "module": "inner.collection",
            "rows": 1003,
            "width": 256,
            "bytes_per_number": 4,
            "fields": [
                {"name": "history", "pooling_factor": 3.5},
                {"name": "item", "pooling_factor": 1.0},
            ],
        },
        {
            "name": "user",
            "module": "inner.collection",
            "rows": 80,
            "width": 256,
            "bytes_per_number": 4,
            "fields": [{"name": "user", "pooling_factor": 1.0}],
        },
    ]
    assert plan["context"]["cluster"]["ranks_per_node"] == 2
    assert plan["context"]["rows_per_rank"] == 64
    assert plan["context"]["versions"]["torch"] == torch.__version__.partition("+")[0]
    placed = {table["table"]: table for table in plan["placement"]}
    assert placed["user"]["sharding_type"] == "table_wise"
    assert [(s["rows"], s["columns"]) for s in placed["user"]["shards"]] == [(80, 256)]
    # Weights, and a number of Adagrad's a row.
    assert plan["summary"]["stored_bytes"] == 4 * (1003 + 80) * (256 + 1)
    assert plan["provenance"] == {"command": "a test"}


def test_the_digest_is_that_of_the_context_and_of_nothing_else(saved):
    plan = saved(request())
    text = json.dumps(plan["context"], sort_keys=True, separators=(",", ":"))
    assert plan["digest"] == hashlib.sha256(text.encode()).hexdigest()
    assert saved(request("table_row_wise", hbm_gib=20, reserve=0.3))["digest"] == plan["digest"]
    assert saved(request(rows=65))["digest"] != plan["digest"]


class TestDifferences:
    def of(self, was: PlanRequest, now: PlanRequest) -> list[str]:
        return differences(context_of(was), context_of(now))

    def test_none(self):
        assert self.of(request(), request("row_wise", host_memory_gib=3)) == []

    def test_cluster_batch_and_optimizer(self):
        other = request(hardware="A100-80", nodes=1, optimizer="rowwise_adagrad", rows=32)
        assert self.of(request(), other) == [
            "hardware was H100, is A100-80",
            "world size was 4 (2 x 2), is 2 (1 x 2)",
            "rows of a lookup on a rank were 64, are 32",
            "optimizer was adagrad, is rowwise_adagrad",
        ]
        assert self.of(request(), request(nodes=1, ranks=4)) == [
            "world size was 4 (2 x 2), is 4 (1 x 4)"
        ]

    def test_figures_of_hardware_of_one_name(self):
        hardware = dataclasses.replace(load_hardware("H100"), intra_node_gb_per_s=300.0)
        other = request()
        cluster = dataclasses.replace(other.cluster, hardware=hardware)
        assert self.of(request(), dataclasses.replace(other, cluster=cluster)) == [
            "intra_node_gb_per_s of hardware H100 was 450.0, is 300.0"
        ]

    def test_versions(self):
        was = context_of(request())
        now = dataclasses.replace(was, versions={**was.versions, "torch": "2.99.0"})
        assert differences(was, now) == [f"torch was {was.versions['torch']}, is 2.99.0"]

    def test_tables(self):
        history, user, item = SCHEMA.fields
        table = SCHEMA.tables[0]
        changed = dataclasses.replace(
            SCHEMA,
            fields=(
                dataclasses.replace(history, pooling_factor=3.25),
                dataclasses.replace(item, table="new"),
            ),
            tables=(
                dataclasses.replace(table, rows=2_000, width=128),
                dataclasses.replace(table, name="new"),
            ),
        )
        assert user.table == "user"
        assert self.of(request(), request(schema=changed)) == [
            "table 'user' is gone",
            "table 'new' is new",
            "table 'item' had 1,003 rows, has 2,000",
            "table 'item' had 256 columns, has 128",
            "table 'item' was looked up by history, item, is by history",
            "field 'history' had 3.5 ids a row, has 3.25",
        ]


class TestEditedPlacements:
    """Of ``item``, the first table: 1,003 rows, 256 columns, on 2 nodes of 2 ranks."""

    @pytest.fixture
    def edited(self, saved, tmp_path) -> Callable[..., Path]:
        def edit(name: str, change: Callable[[dict[str, Any]], Any]) -> Path:
            plan = saved(REQUESTS[name])
            change(plan["placement"][0])
            return written(tmp_path / "edited.json", plan)

        return edit

    def test_a_table_on_another_rank(self, edited):
        def move(table):
            table["shards"][0]["rank"] = 1 - table["shards"][0]["rank"]

        before = make_plan(REQUESTS["cpu"]).plan.plan["inner.collection"]
        plan = read_plan(edited("cpu", move))
        after = to_sharding_plan(plan.placement, plan.context).plan["inner.collection"]
        assert plan.is_edited
        assert after["item"].ranks == [1 - before["item"].ranks[0]]
        placement = after["item"].sharding_spec.shards[0].placement
        assert str(placement) == f"rank:{1 - before['item'].ranks[0]}/cpu"
        assert after["user"] == before["user"]

    def test_columns_cut_otherwise(self, edited):
        def cut(table):
            one = table["shards"][0] | {"columns": 64}
            table["shards"] = [one | {"column": 64 * n, "rank": n} for n in range(4)]

        plan = read_plan(edited("column_wise", cut))
        assert [shard.column for shard in plan.placement[0].shards] == [0, 64, 128, 192]

    @pytest.mark.parametrize(
        ("name", "change", "message"),
        [
            (
                "row_wise",
                lambda t: t["shards"][1].update(row=250),
                r"has shard 1 of 251 rows from 250 and 256 columns from 0: of a row_wise table of "
                r"1,003 x 256 it is 251 rows from 251 and 256 columns from 0",
            ),
            ("row_wise", lambda t: t["shards"][3].update(rows=240), "has shard 3 of 240 rows"),
            ("row_wise", lambda t: t["shards"].pop(), "has 3 shards: a row_wise table .* has 4"),
            ("row_wise", lambda t: t["shards"].clear(), "has no shard"),
            ("row_wise", lambda t: t["shards"].append(t["shards"][3]), "has 5 shards"),
            ("row_wise", lambda t: t["shards"][0].update(rank=1), "on all ranks, in order"),
            ("column_wise", lambda t: t["shards"][0].update(columns=0), "without columns"),
            ("column_wise", lambda t: t["shards"][0].update(columns=-128), "without columns"),
            ("column_wise", lambda t: t["shards"][0].update(columns=100), "has shard 0 of"),
            ("column_wise", lambda t: t["shards"].reverse(), "has shard 0 of"),
            ("table_wise", lambda t: t["shards"][0].update(rank=4), "is on rank 4: there are 4"),
            ("table_wise", lambda t: t["shards"][0].update(rank=-1), "is on rank -1"),
            ("table_wise", lambda t: t.update(sharding_type="rowwise"), "is rowwise: with adagrad"),
            ("table_wise", lambda t: t.update(sharding_type="data_parallel"), "is data_parallel"),
            ("table_wise", lambda t: t.update(kernel="dense"), "has the kernel 'dense'"),
            ("table_wise", lambda t: t.update(table="x"), "'x' is placed twice, or is none of"),
            ("table_row_wise", lambda t: t["shards"].reverse(), "has shard 0 of"),
            (
                "table_row_wise",
                lambda t: [s.update(rank=1 + n) for n, s in enumerate(t["shards"])],
                "2 shards at a time must be on the ranks of a node, in order",
            ),
            ("grid_shard", lambda t: t["shards"][0].update(rank=3), "on the ranks of a node"),
            (
                "table_column_wise",
                lambda t: [s.update(rank=n) for n, s in zip((1, 2), t["shards"], strict=True)],
                r"must be on one node \(2 ranks\)",
            ),
            ("cpu", lambda t: t.update(sharding_type="data_parallel"), "on cpu it may be"),
            ("cpu", lambda t: t.update(kernel="fused_uvm"), "table_wise on cpu has fused$"),
            (
                "cpu",
                lambda t: t.update(
                    sharding_type="column_wise",
                    shards=[
                        {"rank": n, "row": 0, "rows": 1003, "column": 128 * n, "columns": 128}
                        for n in range(2)
                    ],
                ),
                "is column_wise: with rowwise_adagrad on cpu it may be table_wise, row_wise, ",
            ),
            ("data_parallel", lambda t: t.update(sharding_type="table_wise"), "with adam on cpu"),
            ("data_parallel", lambda t: t["shards"].reverse(), "on all ranks, in order"),
        ],
    )
    def test_what_cannot_be_sharded_by_is_refused(self, edited, name, change, message):
        path = edited(name, change)
        with pytest.raises(ValueError, match=message) as caught:
            read_plan(path)
        assert str(caught.value).startswith(f"{path}: table '")
        assert "\n" not in str(caught.value)

    def test_a_table_that_is_placed_twice(self, saved, tmp_path):
        plan = saved(request())
        plan["placement"].append(plan["placement"][0])
        with pytest.raises(ValueError, match=r"edited.json: table 'item' is placed twice"):
            read_plan(written(tmp_path / "edited.json", plan))

    def test_a_table_that_is_not_placed(self, saved, tmp_path):
        plan = saved(request())
        del plan["placement"][1]
        with pytest.raises(ValueError, match=r"edited.json: table 'user' is not placed"):
            read_plan(written(tmp_path / "edited.json", plan))


class TestMistakes:
    def refused(self, path: Path, message: str) -> None:
        with pytest.raises(ValueError, match=message) as caught:
            read_plan(path)
        assert str(caught.value).startswith(str(path))

    def test_no_file_and_a_folder(self, tmp_path):
        self.refused(tmp_path / "plan.json", "does not exist")
        self.refused(tmp_path, "cannot be read: Is a directory")

    @pytest.mark.parametrize("text", ["", "{", "[" * 100_000])
    def test_no_json(self, tmp_path, text):
        path = tmp_path / "plan.json"
        path.write_text(text)
        self.refused(path, "is not valid JSON")

    @pytest.mark.parametrize("raw", [[], 3, {}, {"plan": {}}, {"format": 1}])
    def test_no_plan(self, tmp_path, raw):
        self.refused(written(tmp_path / "p.json", raw), "holds no plan: it has no key 'kind'")

    def test_another_kind(self, tmp_path):
        path = written(tmp_path / "p.json", {"kind": "sweep", "format": 1})
        self.refused(path, "holds no plan: its kind is 'sweep'")

    def test_no_format(self, tmp_path):
        self.refused(written(tmp_path / "p.json", {"kind": "plan"}), "has the format None")

    def test_another_format(self, saved, tmp_path):
        path = written(tmp_path / "p.json", saved(request()) | {"format": 2})
        self.refused(path, "has the format 2, this version of dropdrift reads 1")

    def test_an_edited_context(self, saved, tmp_path):
        plan = saved(request())
        for change in (
            lambda c: c.update(rows_per_rank=128),
            lambda c: c["tables"][0].update(rows=2_000),
            lambda c: c["cluster"]["figures"].update(hbm_gib=160.0),
        ):
            edited = copy.deepcopy(plan)
            change(edited["context"])
            path = written(tmp_path / "p.json", edited)
            self.refused(path, "context was edited, its SHA-256 is not the digest")

    def test_a_summary_of_another_cluster(self, saved, tmp_path):
        plan = saved(request())
        last = len(plan["summary"]["ranks"]) - 1
        for change, message in (
            (lambda s: s.update(ranks=[]), f"its ranks are not 0 to {last}"),
            (lambda s: s["ranks"].append(s["ranks"][0]), f"its ranks are not 0 to {last}"),
            (lambda s: s["ranks"][0].update(rank=99), f"its ranks are not 0 to {last}"),
            (lambda s: s["cluster"].update(nodes=0), "its cluster's nodes is 0, the context's"),
            (lambda s: s["cluster"].update(hardware="X"), "its cluster's hardware is 'X'"),
        ):
            edited = copy.deepcopy(plan)
            change(edited["summary"])
            path = written(tmp_path / "p.json", edited)
            self.refused(path, f"summary was edited: {message}")

    def test_what_is_missing_unknown_or_of_another_type(self, saved, tmp_path):
        plan = saved(request())
        for change, message in (
            (lambda p: p.pop("placement"), "plan has no key 'placement'"),
            (lambda p: p["summary"].pop("ranks"), "summary has no key 'ranks'"),
            (lambda p: p["context"].update(row=1), "context has the unknown key 'row'"),
            (
                lambda p: p["placement"][0]["shards"][0].update(rank="one"),
                "rank is 'one', must be of type int",
            ),
        ):
            edited = copy.deepcopy(plan)
            change(edited)
            self.refused(written(tmp_path / "p.json", edited), message)
