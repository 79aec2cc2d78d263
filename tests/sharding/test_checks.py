"""Limits of a plan, against summaries written by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.sharding.summaries import GIB, summary_of

from dropdrift.sharding.checks import broken_limits
from dropdrift.sharding.config import PlanLimits
from dropdrift.sharding.summary import Cost, PlanSummary, ShardSummary, TableSummary

LIMITS = PlanLimits()


def _table(name: str, rank: int, gib: float, ms: float, spilled: float = 0.0) -> TableSummary:
    shard = ShardSummary(
        rank=rank,
        row=0,
        rows=1_000,
        column=0,
        columns=16,
        weight_bytes=int((gib + spilled) * GIB),
        optimizer_bytes=0,
        device_bytes=int(gib * GIB),
        spilled_bytes=int(spilled * GIB),
        cost=Cost(forward_compute=ms),
    )
    return TableSummary(name, 1_000, 16, 4, (name,), 1.0, "table_wise", "fused", (shard,))


def _summary(*tables: TableSummary, ranks: int = 4, rank_gib: float = 80.0) -> PlanSummary:
    summary = summary_of(tables, ranks_per_node=ranks, gib=rank_gib)
    return replace(
        summary,
        cluster=replace(summary.cluster, host_bytes=100 * GIB),
        rows_per_rank=64,
        dense_bytes=GIB,
        input_bytes=GIB // 2,
    )


def _even(gib: float, ms: float, **cluster: float) -> PlanSummary:
    tables = (_table(f"t{rank}", rank, gib, ms) for rank in range(4))
    return _summary(*tables, **cluster)  # type: ignore[arg-type]  # ranks alone is an int


def test_what_a_plan_comes_to_over_its_ranks() -> None:
    summary = _summary(_table("a", 0, 3.0, 2.0), _table("b", 1, 1.0, 6.0))
    assert (summary.fullest_bytes, summary.mean_bytes) == (3 * GIB, GIB)
    assert (summary.step_ms, summary.mean_ms) == (6.0, 2.0)
    assert (summary.fullest_rank().rank, summary.slowest_rank().rank) == (0, 1)
    assert (summary.memory_skew, summary.time_skew) == (3.0, 3.0)
    # 64 rows on each of four ranks in 6 ms.
    assert summary.looked_up_per_second == pytest.approx(256_000 / 6)


def test_an_even_plan_breaks_nothing() -> None:
    assert broken_limits(_even(40, 5), LIMITS) == []


def test_memory_skew_names_rank_amounts_and_the_table_at_fault() -> None:
    plan = _summary(
        _table("small", 1, 4, 0.1), _table("big", 2, 20, 0.1), _table("other", 2, 4, 0.1)
    )
    # 24 of 28 GiB on one of four ranks, whose mean is 7.
    assert broken_limits(plan, LIMITS) == [
        "rank 2 holds 24.0 GiB, 3.43 times the mean of 7.00 GiB: more than limits.max_skew 1.5; "
        "big takes 20.0 of it"
    ]
    assert broken_limits(plan, PlanLimits(max_skew=3.5)) == []


def test_skew_of_little_memory_does_not_count() -> None:
    def alone(gib: float) -> PlanSummary:
        return _summary(_table("only", 0, gib, 0.1), rank_gib=80)

    assert broken_limits(alone(7.99), LIMITS) == []
    assert len(broken_limits(alone(8.0), LIMITS)) == 1


def test_time_skew_names_rank_times_and_the_table_at_fault() -> None:
    plan = _summary(_table("quick", 0, 1, 1.0), _table("slow", 3, 1, 4.0), _table("b", 3, 1, 1.0))
    # 5 of 6 ms on one of four ranks, whose mean is 1.5.
    assert broken_limits(plan, LIMITS) == [
        "rank 3 takes 5.00 ms a step, 3.33 times the mean of 1.50 ms: more than limits.max_skew "
        "1.5; slow takes 4.00 of it"
    ]
    assert broken_limits(plan, PlanLimits(max_skew=3.34)) == []


def test_skew_of_little_time_does_not_count() -> None:
    assert broken_limits(_summary(_table("only", 0, 1, 0.99)), LIMITS) == []
    assert len(broken_limits(_summary(_table("only", 0, 1, 1.0)), LIMITS)) == 1


def test_spill_names_tables_largest_first() -> None:
    tables = [_table(f"c{i}", i % 4, 1, 1, spilled=i) for i in range(5)]
    assert broken_limits(_summary(*tables), PlanLimits(max_skew=10)) == [
        "10.0 GiB of 4 tables live in host memory: c4 4.00, c3 3.00, c2 2.00, c1 1.00: more than "
        "limits.max_spill_gib 0"
    ]
    assert broken_limits(_summary(*tables), PlanLimits(max_skew=10, max_spill_gib=10)) == []


def test_spill_of_many_tables_counts_the_smallest_together() -> None:
    tables = [_table(f"c{i:02}", i % 4, 1, 1, spilled=20 - i) for i in range(12)]
    (line,) = broken_limits(_summary(*tables), LIMITS)
    # 20 + 19 + ... + 9 = 174, of which the last four tables have 12 + 11 + 10 + 9 = 42.
    assert line.startswith("174 GiB of 12 tables live in host memory: c00 20.0, c01 19.0, ")
    assert "c07 13.0 and 4 more 42.0: more than" in line


def test_a_rank_that_holds_more_than_fits_is_wrong_whatever_the_limits() -> None:
    # Of 80 GiB, 12 are for activations, 1 for the dense part, a half for batches: 66.5 are left.
    generous = PlanLimits(max_skew=100, max_spill_gib=1_000)
    assert broken_limits(_even(66.5, 1), generous) == []
    assert broken_limits(_even(70, 1), generous) == [
        "rank 0 holds 70.0 GiB, 3.50 more than the 66.5 that tables may take of its 80.0: the rest "
        "is for activations (12.0), the dense part (1.00) and batches (0.50)"
    ]


def test_host_memory_that_overflows_is_wrong_whatever_the_limits() -> None:
    generous = PlanLimits(max_skew=100, max_spill_gib=1_000)
    plan = _summary(_table("a", 0, 1, 1, spilled=60), _table("b", 0, 1, 1, spilled=50))
    assert broken_limits(plan, generous) == [
        "rank 0 holds 110 GiB in host memory, 10.0 more than its 100"
    ]


def test_the_gravest_comes_first() -> None:
    plan = _summary(_table("a", 1, 70, 9, spilled=101), _table("b", 0, 1, 1))
    problems = broken_limits(plan, LIMITS)
    assert [line.split()[2] for line in problems] == ["holds", "holds", "of", "holds", "takes"]
    assert "batches" in problems[0]
    assert "host memory, 1.00 more" in problems[1]
    assert "live" in problems[2] or "lives" in problems[2]


def test_a_single_rank_is_never_skewed() -> None:
    plan = _summary(_table("a", 0, 60, 9), ranks=1)
    assert broken_limits(plan, PlanLimits(max_skew=1)) == []


def test_nothing_at_all_is_no_problem() -> None:
    plan = replace(_even(0, 0), tables=())
    assert broken_limits(plan, LIMITS) == []
