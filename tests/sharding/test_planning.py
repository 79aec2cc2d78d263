"""Planning through TorchRec: memory, reservations, hardware, constraints, on any cluster."""

from __future__ import annotations

import dataclasses
import logging
import math
import warnings

import pytest
import torch
from torch import nn
from torchrec.modules.embedding_configs import DataType, EmbeddingBagConfig
from torchrec.modules.embedding_modules import EmbeddingBagCollection
from torchrec.optim.rowwise_adagrad import RowWiseAdagrad

from dropdrift.data.schema import Encoding, Field, Schema, Table
from dropdrift.sharding.cluster import make_cluster, to_topology
from dropdrift.sharding.config import ShardingConfig
from dropdrift.sharding.constraints import table_constraints, usable_types
from dropdrift.sharding.hardware import load_hardware
from dropdrift.sharding.planning import (
    NoPlanError,
    PlanRequest,
    enumerate_options,
    make_plan,
    with_config,
)
from dropdrift.sharding.shard import fuse_sparse_optimizer
from dropdrift.sharding.summary import summarise

GIB = 1 << 30
ROWS = {"large": 20_000_000, "middle": 2_000_000, "small": 1_000}
WIDTH = 64


def schema(pooling_factor: float = 2.0) -> Schema:
    return Schema(
        "example",
        fields=tuple(
            Field(name, "multi", name, max_length=9, pooling_factor=pooling_factor) for name in ROWS
        ),
        tables=tuple(Table(name, rows, WIDTH, Encoding("hash")) for name, rows in ROWS.items()),
        labels=("click",),
    )


class Model(nn.Module):
    def __init__(self, data_type: DataType = DataType.FP32) -> None:
        super().__init__()
        self.collection = EmbeddingBagCollection(
            [
                EmbeddingBagConfig(
                    name=name,
                    num_embeddings=rows,
                    embedding_dim=WIDTH,
                    feature_names=[name],
                    data_type=data_type,
                )
                for name, rows in ROWS.items()
            ],
            device=torch.device("meta"),
        )
        self.dense = nn.Linear(1_000, 100, device="meta")
        fuse_sparse_optimizer(self.collection, RowWiseAdagrad, {"lr": 0.1})


def request(hardware="H100", nodes=1, ranks=8, pooling_factor=2.0, **options) -> PlanRequest:
    config = ShardingConfig(**options)
    return PlanRequest(
        model=Model(),
        schema=schema(pooling_factor),
        config=config,
        cluster=make_cluster(config, load_hardware(hardware), nodes, ranks),
        rows_per_rank=1024,
        optimizer="rowwise_adagrad",
    )


class TestMemory:
    def test_weights_and_state_are_exact(self):
        summary = summarise(make_plan(request()))
        for table in summary.tables:
            rows = ROWS[table.name]
            assert sum(s.weight_bytes for s in table.shards) == rows * WIDTH * 4
            assert sum(s.optimizer_bytes for s in table.shards) == rows * 4
            assert table.stored_bytes == rows * (WIDTH + 1) * 4
        assert sum(rank.device_bytes for rank in summary.ranks) > summary.stored_bytes

    def test_inputs_and_outputs_of_a_table_on_one_rank(self):
        """Two batches' inputs, 8 bytes an id, and the pooled output, of all ranks' rows."""
        summary = summarise(make_plan(request(types=("table_wise",))))
        rows = 1024 * 8
        for table in summary.tables:
            (shard,) = table.shards
            extra = shard.device_bytes - shard.weight_bytes - shard.optimizer_bytes
            assert extra == 2 * rows * 2 * 8 + rows * WIDTH * 4

    def test_what_is_kept_from_tables(self):
        summary = summarise(make_plan(request(hbm_gib=10.0, reserve=0.25)))
        assert summary.cluster.device_bytes == 10 * GIB
        assert summary.margin_bytes == pytest.approx(2.5 * GIB, abs=1)
        # Six times a linear layer of 1,000 x 100 with its bias.
        assert summary.dense_bytes == 6 * 4 * (100_000 + 100)
        # TorchRec: 20 copies of 8 bytes an id, two ids in each of three fields.
        assert summary.input_bytes == 20 * 8 * 1024 * 2 * 3
        assert summary.available_bytes == math.ceil(7.5 * GIB) - 6 * 4 * 100_100 - 983_040

    def test_a_cpu_has_host_memory_alone(self):
        summary = summarise(make_plan(request("CPU", ranks=2, host_memory_gib=12.0)))
        assert summary.cluster.device_bytes == 12 * GIB
        assert summary.margin_bytes == summary.spilled_bytes == 0
        assert summary.available_bytes == 12 * GIB - summary.dense_bytes - summary.input_bytes

    def test_each_rank_has_its_share_of_the_nodes_host_memory(self):
        h100 = load_hardware("H100")
        cluster = make_cluster(ShardingConfig(), h100, 2, 4)
        assert cluster.host_bytes == int(h100.host_memory_gib * GIB / 4)
        assert cluster.world_size == 8

    def test_tables_in_host_memory_are_counted_there(self):
        kernels = ("fused", "fused_uvm_caching", "fused_uvm")
        summary = summarise(make_plan(request(hbm_gib=1.0, ranks=2, kernels=kernels)))
        spilled = {table.name for table in summary.tables if table.spilled_bytes}
        assert "large" in spilled
        large = next(table for table in summary.tables if table.name == "large")
        assert large.kernel.startswith("fused_uvm")
        assert large.spilled_bytes >= ROWS["large"] * WIDTH * 4
        assert summary.spilled_bytes == sum(rank.spilled_bytes for rank in summary.ranks)


class TestNoPlan:
    def test_it_says_how_much_there_was(self):
        with pytest.raises(NoPlanError, match="fits 1 GiB a rank on 2 ranks of H100: ") as caught:
            make_plan(request(hbm_gib=1.0, ranks=2))
        assert caught.value.reserved is not None
        assert caught.value.reserved.margin == pytest.approx(0.15 * GIB, abs=1)

    def test_more_is_reserved_than_there_is(self):
        with pytest.raises(NoPlanError) as caught:
            make_plan(request(hbm_gib=0.001, ranks=2))
        assert caught.value.reserved is None
        assert "\n" not in str(caught.value)

    def test_a_table_that_may_be_nothing_that_there_is(self):
        with pytest.raises(ValueError, match=r"may use fused_uvm .*: none exists on cpu"):
            make_plan(request("CPU", kernels=("fused_uvm",)))

    def test_a_rule_for_no_table(self):
        with pytest.raises(ValueError, match="rule for 'lrage', which matches no table"):
            make_plan(request(tables=("lrage=row_wise",)))


class TestEstimates:
    def test_hardware_changes_the_times(self):
        times = {name: summarise(make_plan(request(name))).step_ms for name in ("A100-80", "H200")}
        assert times["H200"] < times["A100-80"]

    def test_pooling_factors_are_the_schemas(self):
        short, long = (
            summarise(make_plan(request(types=("table_wise",), pooling_factor=factor)))
            for factor in (1.0, 4.0)
        )
        assert long.tables[0].ids_per_row == 4.0
        assert long.tables[0].cost.forward_compute > short.tables[0].cost.forward_compute

    def test_half_precision_halves_lookups_and_not_what_ranks_exchange(self):
        single = request(types=("table_wise",))
        half = dataclasses.replace(single, model=Model(DataType.FP16))
        whole, halved = (summarise(make_plan(asked)).tables[0] for asked in (single, half))
        assert halved.shards[0].weight_bytes == whole.shards[0].weight_bytes / 2
        assert halved.shards[0].optimizer_bytes == whole.shards[0].optimizer_bytes
        kept = [
            shard.device_bytes - shard.weight_bytes - shard.optimizer_bytes
            for shard in (whole.shards[0], halved.shards[0])
        ]
        assert kept[0] == kept[1]
        assert halved.cost.forward_communication == whole.cost.forward_communication
        assert halved.cost.forward_compute < whole.cost.forward_compute

    def test_topology_in_torchrecs_units(self):
        hardware = load_hardware("H100")
        topology = to_topology(make_cluster(ShardingConfig(), hardware, 2, 8))
        # 1 GB/s is a million bytes a millisecond.
        assert topology.hbm_mem_bw == pytest.approx(hardware.hbm_gb_per_s * 1e6)
        assert topology.ddr_mem_bw == pytest.approx(hardware.host_gb_per_s * 1e6 / 8)
        assert topology.intra_host_bw == pytest.approx(hardware.intra_node_gb_per_s * 1e6)
        assert topology.inter_host_bw == pytest.approx(hardware.inter_node_gb_per_s * 1e6)
        assert (topology.world_size, topology.local_world_size) == (16, 8)


class TestTablesCutByRowsOnACpu:
    def test_they_are_where_nothing_else_is_allowed(self):
        """TorchRec's estimates find them quicker than they are."""
        both = ("table_wise", "row_wise", "table_row_wise")
        asked = request("CPU", nodes=2, ranks=2, types=both, tables=("middle=row_wise",))
        kinds = {option.name: option.sharding_type for option in make_plan(asked).options}
        assert kinds == {"large": "table_wise", "middle": "row_wise", "small": "table_wise"}

    @pytest.mark.parametrize(("kind", "ranks"), [("row_wise", 4), ("table_row_wise", 2)])
    def test_each_rank_has_a_part(self, kind, ranks):
        planned = make_plan(request("CPU", nodes=2, ranks=2, types=(kind,)))
        for option in planned.options:
            assert option.sharding_type == kind
            assert len({shard.rank for shard in option.shards}) == ranks
            assert sum(shard.size[0] for shard in option.shards) == ROWS[option.name]

    def test_a_table_that_is_too_short_is_refused(self):
        table = Table("few", 6, 4, Encoding("vocabulary"))
        field = Field("few", "categorical", "few")
        short = Schema("short", (field,), (table,), ("click",))
        for ranks, fits in ((3, True), (4, False)):
            cluster = make_cluster(ShardingConfig(), load_hardware("CPU"), 1, ranks)
            found = usable_types(("row_wise", "table_row_wise"), table.rows, cluster)
            assert bool(found) is fits
        rows = ShardingConfig(types=("row_wise",))
        with pytest.raises(ValueError, match="its 6 rows leave one of 4 ranks without any") as told:
            table_constraints(short, rows, cluster, replicate=False)
        assert str(told.value).endswith("with --sharding.tables 'few=table_wise'")


def test_a_rule_decides_how_its_tables_are_cut():
    planned = make_plan(request(tables=("la*=row_wise", "*=table_wise")))
    assert {option.name: option.sharding_type for option in planned.options} == {
        "large": "row_wise",
        "middle": "table_wise",
        "small": "table_wise",
    }
    assert list(ROWS) == [option.name for option in planned.options]


def test_options_are_listed_in_one_order():
    types = ("row_wise", "table_wise", "column_wise")
    asked = request(types=types, kernels=("fused_uvm", "fused"))
    listed = [(o.name, o.sharding_type, o.compute_kernel) for o in enumerate_options(asked)]
    one_table = [
        (kind, kernel)
        for kind in ("table_wise", "column_wise", "row_wise")
        for kernel in ("fused", "fused_uvm")
    ]
    assert listed == [(name, *option) for name in ROWS for option in one_table]


def test_with_config_changes_one_option():
    asked = request(reserve=0.1)
    changed = with_config(asked, types=("row_wise",))
    assert changed.config == dataclasses.replace(asked.config, types=("row_wise",))
    assert changed.model is asked.model


def test_nodes_ranks_and_caps_that_cannot_be():
    hardware = load_hardware("CPU")
    with pytest.raises(ValueError, match="nodes is 0, must be positive"):
        make_cluster(ShardingConfig(), hardware, 0, 1)
    with pytest.raises(ValueError, match="ranks per node is -1, must be positive"):
        make_cluster(ShardingConfig(), hardware, 1, -1)
    with pytest.raises(ValueError, match=r"2,049 nodes of 8 ranks are more than the 16,384 ranks"):
        make_cluster(ShardingConfig(), hardware, 2_049, 8)
    with pytest.raises(ValueError, match=r"sharding.hbm_gib is 8, but hardware CPU has no GPU"):
        make_cluster(ShardingConfig(hbm_gib=8.0), hardware, 1, 1)


def test_the_planner_says_nothing(caplog, recwarn, capfd):
    warnings.simplefilter("always")
    caplog.set_level(logging.WARNING)
    asked = request()
    recwarn.clear()
    make_plan(asked)
    assert not caplog.records
    assert [str(w.message) for w in recwarn.list] == []
    assert capfd.readouterr() == ("", "")
