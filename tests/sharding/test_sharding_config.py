"""Rules for single tables, and what options of planning refuse."""

from __future__ import annotations

import pytest

from dropdrift.sharding.config import PlanLimits, ShardingConfig, TableRule


def test_the_first_rule_that_matches_counts():
    config = ShardingConfig(
        types=("table_wise",),
        kernels=("fused",),
        tables=("user_id=row_wise", "user_*=row_wise, table_row_wise/fused_uvm,fused"),
    )
    assert config.allowed("user_id") == (("row_wise",), ("fused",))
    assert config.allowed("user_age") == (
        ("row_wise", "table_row_wise"),
        ("fused_uvm", "fused"),
    )
    assert config.allowed("item_id") == (("table_wise",), ("fused",))


def test_a_rule_in_full():
    assert TableRule.parse("a[12]=grid_shard/fused") == TableRule(
        "a[12]", ("grid_shard",), ("fused",)
    )


@pytest.mark.parametrize("text", ["a=row_wise", "a/b=row_wise,grid_shard/fused,fused_uvm"])
def test_a_rule_as_text(text):
    assert TableRule.parse(text).text == text


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("user_id", "'user_id', must be PATTERN=TYPE"),
        ("=row_wise", "'=row_wise', must be PATTERN=TYPE"),
        ("user_id=", "'user_id=', must be PATTERN=TYPE"),
        ("user_id=/fused", "'user_id=/fused', must be PATTERN=TYPE"),
        ("user_id=row_wise/", "'user_id=row_wise/', must be PATTERN=TYPE"),
        ("user_id=rowwise", "unknown sharding type 'rowwise'; there are: table_wise"),
        ("user_id=data_parallel", "unknown sharding type 'data_parallel'"),
        ("user_id=row_wise/dense", "unknown compute kernel 'dense'; there are: fused"),
    ],
)
def test_a_broken_rule_is_told(rule, message):
    with pytest.raises(ValueError, match=r"sharding.tables has ") as caught:
        ShardingConfig(tables=(rule,))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"types": ()}, "sharding.types is empty"),
        ({"kernels": ()}, "sharding.kernels is empty"),
        ({"hbm_gib": -1.0}, "sharding.hbm_gib is -1.0, must not be negative"),
        ({"host_memory_gib": -0.5}, "sharding.host_memory_gib is -0.5"),
        ({"reserve": 1.0}, "sharding.reserve is 1.0, must be in"),
        ({"reserve": -0.1}, "sharding.reserve is -0.1, must be in"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ValueError, match="sharding") as caught:
        ShardingConfig(**options)
    assert message in str(caught.value)


def test_limits_out_of_range():
    with pytest.raises(ValueError, match=r"limits.max_skew is 0.9, must be at least 1"):
        PlanLimits(max_skew=0.9)
    with pytest.raises(ValueError, match=r"limits.max_spill_gib is -1, must not be negative"):
        PlanLimits(max_spill_gib=-1)
