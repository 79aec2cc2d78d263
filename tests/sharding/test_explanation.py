"""Every option of a table: what is listed, what it costs, and that the reasons hold."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torchrec.modules.embedding_configs import EmbeddingBagConfig
from torchrec.modules.embedding_modules import EmbeddingBagCollection
from torchrec.optim.rowwise_adagrad import RowWiseAdagrad

from dropdrift.data.schema import Encoding, Field, Schema, Table
from dropdrift.sharding.cluster import make_cluster
from dropdrift.sharding.config import ShardingConfig
from dropdrift.sharding.explanation import Explanation, OptionSummary, compared, explain, table_rule
from dropdrift.sharding.hardware import load_hardware
from dropdrift.sharding.planning import NoPlanError, PlanRequest, make_plan, with_config
from dropdrift.sharding.shard import fuse_sparse_optimizer
from dropdrift.sharding.summary import summarise
from dropdrift.sharding.wording import digits

ROWS = {"large": 20_000_000, "middle": 2_000_000, "small": 1_000}
IDS = 2.0
WIDTH = 64
BATCH = 1_024
GIB = 2**30


class Model(nn.Module):
    """The tables, trained with row-wise Adagrad or, for Adam, outside the backward."""

    def __init__(self, optimizer: str) -> None:
        super().__init__()
        self.collection = EmbeddingBagCollection(
            [
                EmbeddingBagConfig(
                    name=name, num_embeddings=rows, embedding_dim=WIDTH, feature_names=[name]
                )
                for name, rows in ROWS.items()
            ],
            device=torch.device("meta"),
        )
        if optimizer == "rowwise_adagrad":
            fuse_sparse_optimizer(self.collection, RowWiseAdagrad, {"lr": 0.1})
        if optimizer == "adagrad":
            fuse_sparse_optimizer(self.collection, torch.optim.Adagrad, {"lr": 0.1})


def request(
    hardware: str = "H100",
    nodes: int = 1,
    ranks: int = 8,
    optimizer: str = "rowwise_adagrad",
    ids: float = IDS,
    **options,
) -> PlanRequest:
    config = ShardingConfig(**options)
    return PlanRequest(
        model=Model(optimizer),
        schema=Schema(
            "example",
            fields=tuple(
                Field(name, "multi", name, max_length=99, pooling_factor=ids) for name in ROWS
            ),
            tables=tuple(Table(name, rows, WIDTH, Encoding("hash")) for name, rows in ROWS.items()),
            labels=("click",),
        ),
        config=config,
        cluster=make_cluster(config, load_hardware(hardware), nodes, ranks),
        rows_per_rank=BATCH,
        optimizer=optimizer,
    )


def named(explanation: Explanation, kind: str, kernel: str = "fused") -> OptionSummary:
    (option,) = (o for o in explanation.options if (o.sharding_type, o.kernel) == (kind, kernel))
    return option


class TestWhatIsListed:
    def test_on_a_gpu_all_types_with_all_kernels(self):
        options = explain(request(), "large").options
        assert len({(o.sharding_type, o.kernel) for o in options}) == len(options) == 6 * 3

    def test_on_a_cpu_what_exists_there(self):
        explanation = explain(request("CPU", ranks=2, types=("table_wise",)), "large")
        assert {(o.sharding_type, o.kernel) for o in explanation.options} == {
            ("table_wise", "fused"),
            ("column_wise", "fused"),
            ("table_column_wise", "fused"),
            ("row_wise", "fused"),
            ("table_row_wise", "fused"),
            ("grid_shard", "fused"),
        }
        assert [n.what for n in explanation.not_offered] == ["data_parallel"]

    def test_on_a_cpu_tables_are_cut_by_rows_where_nothing_else_is_allowed(self):
        types = ("table_wise", "row_wise")
        told = explain(request("CPU", ranks=2, types=types), "large").options
        why = {option.sharding_type: option.why for option in told}
        assert why["table_wise"] == "chosen"
        assert why["row_wise"].startswith("on a cpu only where no other type is allowed; allowed: ")
        assert why["table_row_wise"].startswith("excluded by sharding.types; allowed: ")
        told = explain(request("CPU", ranks=2, types=("row_wise",)), "large").options
        assert told[0].sharding_type == "row_wise"
        assert told[0].verdict == "chosen"

    def test_replicated_tables_have_no_other_option(self):
        explanation = explain(request(optimizer="adam", ranks=2), "large")
        (only,) = explanation.options
        assert (only.sharding_type, only.kernel, only.verdict) == (
            "data_parallel",
            "dense",
            "chosen",
        )
        # The table and Adam's two moments on each rank.
        assert only.device_bytes > 3 * 4 * ROWS["large"] * WIDTH
        assert "adam" in explanation.not_offered[0].why
        assert explanation.problems == ()

    def test_a_plan_that_torchrec_takes_for_one_is_told_to_be_too_full(self):
        """22 million rows of 64 numbers are 5.2 GiB, and 15.7 with Adam's moments."""
        explanation = explain(request(optimizer="adam", ranks=2, hbm_gib=10.0), "large")
        (problem,) = explanation.problems
        assert problem.startswith("rank 0 holds 15.7 GiB, 7.24 more than the 8.50 ")

    def test_data_parallel_is_named_as_not_offered(self):
        assert explain(request(), "small").not_offered[0].what == "data_parallel"

    def test_the_chosen_one_comes_first_and_is_the_plans(self):
        asked = request()
        table = summarise(make_plan(asked)).tables[0]
        first = explain(asked, table.name).options[0]
        assert first.verdict == "chosen"
        assert (first.sharding_type, first.kernel) == (table.sharding_type, table.kernel)

    def test_then_by_the_time_of_the_plan(self):
        options = explain(request(optimizer="adagrad", nodes=2), "large").options[1:]
        times = [math.inf if o.plan is None else o.plan.step_ms for o in options]
        assert times == sorted(times)
        assert sum(map(math.isfinite, times)) == 5


class TestNumbers:
    def test_memory_of_the_largest_part(self):
        explanation = explain(request(), "large")
        # Two batches' ids at 8 bytes, and the pooled output, of the rows of all eight ranks.
        rows = 8 * BATCH
        whole = ROWS["large"] * (WIDTH + 1) * 4
        table_wise = named(explanation, "table_wise")
        assert table_wise.device_bytes == whole + 2 * rows * IDS * 8 + rows * WIDTH * 4
        assert (table_wise.shards, table_wise.spilled_bytes) == (1, 0)
        row_wise = named(explanation, "row_wise")
        assert row_wise.shards == 8
        assert 0 < row_wise.device_bytes - whole / 8 < 0.02 * whole
        spilled = named(explanation, "table_wise", "fused_uvm")
        assert spilled.spilled_bytes == whole
        assert spilled.device_bytes < 0.01 * whole

    def test_costs_add_up(self):
        row_wise = named(explain(request(), "large"), "row_wise")
        assert row_wise.cost.total == pytest.approx(8 * row_wise.slowest.total)
        assert row_wise.cost.forward_communication > 0

    def test_a_plan_with_the_option_is_what_planning_with_it_alone_gives(self):
        asked = request(types=("table_wise", "row_wise", "table_row_wise"), nodes=2)
        for option in explain(asked, "large").options:
            if option.plan is None:
                continue
            types = (f"large={option.sharding_type}/{option.kernel}",)
            held = summarise(make_plan(with_config(asked, tables=types)))
            assert held.tables[0].sharding_type == option.sharding_type
            assert option.plan.step_ms == pytest.approx(held.step_ms)
            assert option.plan.fullest_bytes == max(r.device_bytes for r in held.ranks)
            assert option.plan.ranks == {"table_wise": 1, "row_wise": 16, "table_row_wise": 8}.get(
                option.sharding_type
            )


class TestVerdicts:
    def test_what_is_slower_says_by_how_much(self):
        asked = request()
        explanation = explain(asked, "large")
        option = next(o for o in explanation.options if o.verdict == "slower")
        assert option.plan is not None
        more = option.plan.step_ms / explanation.step_ms
        assert more > 1
        shown = f"{more:.2f} times as long" if more >= 2 else f"+{100 * (more - 1):.2g}%"
        assert option.why.startswith(shown)

    def test_what_the_types_exclude_is_planned_all_the_same(self):
        explanation = explain(request(types=("table_wise",)), "large")
        option = named(explanation, "row_wise")
        assert option.verdict == "excluded"
        assert option.why.startswith("excluded by sharding.types; allowed: ")
        assert option.plan is not None
        allowed = request(types=("table_wise",), tables=("large=row_wise",))
        assert option.plan.step_ms == pytest.approx(summarise(make_plan(allowed)).step_ms)

    def test_what_would_be_faster_says_so(self):
        asked = request(types=("row_wise",), tables=("middle=table_wise", "small=table_wise"))
        explanation = explain(asked, "large")
        option = named(explanation, "table_wise")
        assert option.plan is not None
        less = 100 * (1 - option.plan.step_ms / explanation.step_ms)
        assert less > 1
        assert f"allowed: faster by {less:.2g}%: " in option.why

    def test_a_rule_that_excludes_is_named(self):
        rule = "l*=row_wise/fused,fused_uvm"
        explanation = explain(request(tables=(rule,)), "large")
        assert named(explanation, "table_wise").why.startswith(f"excluded by '{rule}'; allowed: ")
        assert named(explanation, "row_wise", "fused_uvm_caching").why == f"excluded by '{rule}'"
        assert named(explanation, "row_wise", "fused_uvm").verdict == "slower"

    def test_kernels_that_are_not_allowed(self):
        option = named(explain(request(), "large"), "row_wise", "fused_uvm")
        assert (option.verdict, option.why) == ("excluded", "excluded by sharding.kernels")
        assert option.plan is None

    def test_a_rule_without_kernels_excludes_none(self):
        option = named(
            explain(request(tables=("l[a/]rge=row_wise",)), "large"), "row_wise", "fused_uvm"
        )
        assert option.why == "excluded by sharding.kernels"

    def test_rowwise_adagrad_excludes_columns_and_adagrad_does_not(self):
        barred = named(explain(request(), "large"), "column_wise")
        assert barred.verdict == "excluded"
        assert barred.why == "optimizer.sparse rowwise_adagrad does not cut columns"
        free = named(explain(request(optimizer="adagrad"), "large"), "column_wise")
        assert free.plan is not None

    def test_what_does_not_fit_says_by_how_much(self):
        # 20 million rows of 65 numbers are 4.84 GiB, and inputs and outputs are little.
        explanation = explain(request(hbm_gib=4.0, reserve=0.25), "large")
        option = named(explanation, "table_wise")
        assert (option.verdict, option.plan) == ("too large", None)
        assert option.why == "4.85 GiB do not fit the 3.00 that a rank has for tables"

    def test_what_does_not_fit_beside_the_other_tables(self):
        """Each of two ranks has room for a half of large and half of middle, not for all of it."""
        # large 4.84 GiB, middle 0.48: halves of both are 2.66 GiB, of large with middle 2.91.
        explanation = explain(request(ranks=2, hbm_gib=2.8, reserve=0.0), "middle")
        option = named(explanation, "table_wise")
        assert (option.verdict, option.why) == ("no plan", "TorchRec finds no plan with it")
        assert option.device_bytes < explanation.available_bytes

    def test_cuts_that_come_to_the_same(self):
        """On one node the ranks of a node are all ranks."""
        types = ("table_wise", "row_wise", "table_row_wise")
        explanation = explain(request(types=types, ids=50), "large")
        first, second = explanation.options[:2]
        assert {first.sharding_type, second.sharding_type} == {"row_wise", "table_row_wise"}
        assert second.verdict == "same"
        same = digits(explanation.step_ms)
        assert second.why == f"the same {same} ms: TorchRec takes the first of equal plans"


class TestComparison:
    @pytest.mark.parametrize(
        ("held", "chosen", "verdict", "why"),
        [
            (4.17, 4.17, "same", "the same 4.17 ms"),
            (4.67, 4.17, "slower", "+12%: 4.67 ms for 4.17"),
            (4.2, 4.17, "slower", "+0.72%: 4.20 ms for 4.17"),
            (37.5, 4.17, "slower", "8.99 times as long: 37.5 ms for 4.17"),
            (4.04, 4.17, "faster", "faster by 3.1%: 4.04 ms for 4.17"),
        ],
    )
    def test_in_words(self, held, chosen, verdict, why):
        assert compared(held, chosen) == (verdict, why)


class TestMistakes:
    def test_an_unknown_table_names_near_ones(self):
        with pytest.raises(ValueError, match=r"unknown table 'larg'.*large.*there are: large, mid"):
            explain(request(), "larg")

    def test_no_plan_at_all(self):
        with pytest.raises(NoPlanError, match=r"no sharding plan fits 0\.5 GiB"):
            explain(request(hbm_gib=0.5), "large")


class TestRule:
    def test_names_are_taken_as_they_are(self):
        config = ShardingConfig(tables=(table_rule("a*[b]?", ("row_wise",), ("fused",)),))
        assert config.allowed("a*[b]?") == (("row_wise",), ("fused",))
        assert config.allowed("axbc") == (config.types, config.kernels)

    def test_a_name_with_an_equals_sign(self):
        config = ShardingConfig(tables=(table_rule("a=b", ("row_wise",)),))
        assert config.allowed("a=b")[0] == ("row_wise",)


def test_what_is_planned_is_told():
    told: list[str] = []
    explain(request(), "large", told.append)
    assert told[0] == "the plan"
    assert set(told[1:]) <= {
        f"large {kind}/fused" for kind in ("table_wise", "table_row_wise", "row_wise")
    }
    assert len(told) == 3
