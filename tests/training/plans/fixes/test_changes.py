"""Options changed and written for the command line."""

from __future__ import annotations

import shlex

import pytest

from dropdrift.launchers.options import parse_config
from dropdrift.sharding.config import ShardingConfig
from dropdrift.training.plans.config import PlanConfig
from dropdrift.training.plans.fixes.changes import (
    as_text,
    changed,
    more_kernels,
    more_types,
    without_columns,
)

OPTIONS = {
    "nodes": 3,
    "hardware": "B200",
    "sharding.hbm_gib": 0.0,
    "sharding.types": ("table_wise", "row_wise"),
    "sharding.tables": ("user_*=row_wise/fused", "[a]?=table_wise"),
    "optimizer.sparse": "adagrad",
    "data.batch_size": 512,
}


def test_text_is_read_back_as_the_same_options():
    text = as_text(OPTIONS)
    assert "'user_*=row_wise/fused'" in text
    assert "--sharding.hbm-gib 0 " in text
    read = parse_config(PlanConfig, shlex.split(text), prog="dropdrift", description="")
    assert read == changed(PlanConfig(), OPTIONS)
    assert (read.nodes, read.sharding.tables) == (3, OPTIONS["sharding.tables"])


def test_a_refused_value_is_refused():
    with pytest.raises(ValueError, match="nodes is 0"):
        changed(PlanConfig(), {"nodes": 0})


def test_more_types_leave_rules_alone_unless_asked():
    config = ShardingConfig(types=("table_wise",), tables=("a=table_wise/fused", "b=row_wise"))
    assert more_types(config, ["row_wise"], rules=False) == {
        "sharding.types": ("table_wise", "row_wise")
    }
    assert more_types(config, ["row_wise"], rules=True) == {
        "sharding.types": ("table_wise", "row_wise"),
        "sharding.tables": ("a=table_wise,row_wise/fused", "b=row_wise"),
    }
    assert more_types(config, ["table_wise"], rules=False) == {}


def test_more_kernels_reach_rules_that_name_some():
    config = ShardingConfig(tables=("a=table_wise/fused", "b=row_wise"))
    assert more_kernels(config, ["fused_uvm"]) == {
        "sharding.kernels": ("fused", "fused_uvm"),
        "sharding.tables": ("a=table_wise/fused,fused_uvm", "b=row_wise"),
    }


def test_columns_are_left_out_of_types_and_rules():
    config = ShardingConfig(
        types=("column_wise", "row_wise"), tables=("a=grid_shard", "b=row_wise")
    )
    assert without_columns(config) == {
        "sharding.types": ("row_wise",),
        "sharding.tables": ("a=table_wise,row_wise", "b=row_wise"),
    }
    assert without_columns(ShardingConfig(types=("row_wise",), tables=("b = row_wise",))) == {}
