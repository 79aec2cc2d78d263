"""A plan on the terminal: what is shown, and that it fits."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from dropdrift.sharding.summary import PlanSummary
from dropdrift.training.comparison import Grid
from dropdrift.training.plans.views.grids import (
    largest_tables,
    milliseconds,
    rank_ranges,
    rounded,
    share,
    size,
)
from dropdrift.training.plans.views.terminal import (
    bar,
    plan_console,
    print_fitted,
    print_plan,
    shortened,
)

GIB = 2**30


def printed(summary: PlanSummary, width: int = 120, **options: Any) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    print_plan("a-model", summary, console=console, **options)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def line_of(text: str, start: str) -> list[str]:
    """The cells of the line that starts with ``start``."""
    (line,) = (line for line in text.splitlines() if re.match(rf"{re.escape(start)}\s", line))
    return line.split()


# Numbers.


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "0 B"),
        (612, "612 B"),
        (1024, "1.00 KiB"),
        (1536 * 1024, "1.50 MiB"),
        (24.2 * GIB, "24.2 GiB"),
        (2222 * GIB, "2,222 GiB"),
    ],
)
def test_bytes_have_the_largest_unit_that_they_fill(amount: float, text: str) -> None:
    assert size(amount) == text


def test_small_is_not_nothing() -> None:
    assert (milliseconds(0.0), milliseconds(0.00002), milliseconds(4.173)) == (
        "0",
        "<0.001",
        "4.17",
    )
    assert (share(0, 5), share(0.001, 5), share(6, 5), share(1, 0)) == ("0%", "<1%", "120%", "-")


def test_rows_a_second_have_three_digits_that_count() -> None:
    assert rounded(15_703_478) == "15,700,000"
    assert rounded(2.4449) == "2.44"


@pytest.mark.parametrize(
    ("ranks", "text"),
    [
        ((), "-"),
        ((3,), "3"),
        (range(8), "0-7"),
        ((3, *range(8, 16)), "3, 8-15"),
        ((0, 2, 4, 6, 8, 127), "6 of 0-127"),
    ],
)
def test_ranks_are_short(ranks: tuple[int, ...], text: str) -> None:
    assert rank_ranges(ranks) == text


def test_a_bar_is_full_at_most() -> None:
    assert bar(1, 2) == "█████"
    assert bar(3, 2) == bar(2, 2) == 10 * "█"
    assert bar(1, 80) == "▏"
    assert bar(0, 2) == bar(1, 0) == ""


def test_a_long_name_keeps_both_ends() -> None:
    assert shortened("user_recent_songs_of_week_17", 12) == "user_r…ek_17"
    assert cell_len(shortened("表" * 40, 11)) == 11
    assert shortened("short", 5) == "short"


# What is shown.


def test_numbers_are_the_summarys(made_table: Any, made_plan: Any) -> None:
    plan = made_plan(
        [
            made_table("big", [2], 20, 3.0),
            made_table("cut", range(4), 16, 12.0, kind="row_wise"),
            made_table("small", [1], 1, 0.6, ids=0.25),
        ]
    )
    text = printed(plan)
    assert "1 node of 4 H100" in text
    assert "8,192 looked up by a rank in a step, 32,768 by all" in text
    # Rank 2: 20 + 16 / 4 GiB and 2 / 64 of inputs and outputs; 3 + 12 / 4 ms, of which compute is
    # 4 / 6. The mean is (37 + 6 / 64) / 4 GiB, and 15.6 / 4 ms.
    cells = line_of(text, "2")
    assert cells[:6] == ["2", "2", "24.0", "GiB", "259%", "37%"]
    assert cells[7:12] == ["1.00", "3.00", "2.00", "6.00", "154%"]
    assert "6.00 ms on embeddings" in text
    assert f"{rounded(1e3 * 32_768 / 6)} rows looked up/s" in text
    assert "3, with rowwise_adagrad: 37.0 GiB" in text
    assert "80.0 GiB a rank, 65.0 GiB available" in text
    assert "rank 2: 24.0 GiB, 37% of what is available, 2.59 times the mean" in text
    cut = line_of(text, "cut")
    assert cut == [
        "cut",
        "row_wise",
        "fused",
        "0-3",
        "4,096",
        "64",
        "fp32",
        "2",
        "16.0",
        "GiB",
        "12.0",
    ]
    assert line_of(text, "small")[7:] == ["0.25", "1.00", "GiB", "0.60"]
    assert "Host memory" not in text
    assert "Node" not in text
    assert "TorchRec's estimates" in text
    assert "hardware H100" in text
    assert "are exact" in text


def test_spilled_tables_are_counted(made_table: Any, made_plan: Any) -> None:
    tables = [
        made_table("host", range(4), 8, 80.0, kind="row_wise", kernel="fused_uvm"),
        made_table("device", [0], 4, 1.0),
    ]
    text = printed(made_plan(tables))
    assert "8.00 GiB of 1 table, at most 2.00 GiB of a rank's 256 GiB" in text
    assert line_of(text, "3")[:8] == ["3", "1", "16.0", "MiB", "2%", "<1%", "2.00", "GiB"]


def test_prefetching_has_a_column_where_there_is_any(made_table: Any, made_plan: Any) -> None:
    plan = made_plan([made_table("one", [0], 1, 6.0)], ranks_per_node=1)
    assert "Prefetch" not in printed(plan)
    rank = plan.ranks[0]
    rank = replace(rank, cost=replace(rank.cost, prefetch=0.5))
    text = printed(replace(plan, ranks=(rank,)))
    assert "Prefetch" in text
    assert line_of(text, "0")[7:12] == ["1.00", "3.00", "2.00", "0.50", "6.50"]


def test_a_cpu_plan_speaks_of_memory(made_table: Any, made_plan: Any) -> None:
    text = printed(made_plan([made_table("a", [1], 0.5, 1.0)], 1, 2, "cpu", 32.0))
    assert "1 node of 2 ranks, hardware CPU" in text
    assert "HBM" not in text
    assert line_of(text, "0")[:3] == ["0", "0", "0"]  # shards and bytes of a rank without tables


def test_many_ranks_are_shown_by_node(made_table: Any, made_plan: Any) -> None:
    tables = [made_table(f"t{rank}", [rank], 1 + rank % 8, 6.0) for rank in range(48)]
    text = printed(made_plan(tables, 6, 8))
    # A table of 1 to 8 GiB on each rank of a node, and 1 / 64 of inputs and outputs.
    assert line_of(text, "2")[:8] == ["2", "16-23", "1.02", "GiB", "4.52", "GiB", "8.02", "GiB"]
    assert "rank 7: 8.02 GiB" in text


def test_many_nodes_share_a_line(made_table: Any, made_plan: Any) -> None:
    text = printed(made_plan([made_table("t", range(800), 800, 9.0, kind="row_wise")], 100, 8))
    assert line_of(text, "0-3")[1] == "0-31"
    assert line_of(text, "96-99")[1] == "768-799"


def test_tables_that_take_most_memory_or_time_are_shown(made_table: Any, made_plan: Any) -> None:
    tables = [made_table(f"t{index:03d}", [index % 4], 0.25, 0.01) for index in range(200)]
    tables[150] = made_table("slow", [0], 1 / 1024, 50.0)
    tables[199] = made_table("large", [0], 9, 0.01)
    plan = made_plan(tables)
    shown, rest = largest_tables(plan)
    assert (len(shown), len(rest)) == (40, 160)
    assert (shown[0].name, shown[-1].name) == ("large", "slow")
    text = printed(plan)
    assert "The 40 tables that take most memory or time" in text
    # 160 tables of 0.25 GiB and 0.01 ms.
    assert line_of(text, "...") == ["...", "160", "more", "40.0", "GiB", "1.60"]
    everything = printed(plan, all_tables=True)
    assert "more" not in everything
    assert all(f"{table.name} " in everything for table in tables)


# That it fits.


@pytest.mark.parametrize("width", [80, 100, 120])
@pytest.mark.parametrize(("nodes", "ranks"), [(1, 1), (1, 8), (4, 8), (32, 8), (1, 256), (100, 9)])
def test_nothing_is_wider_than_the_console(
    nodes: int, ranks: int, width: int, made_table: Any, made_plan: Any
) -> None:
    world = nodes * ranks
    tables = [
        made_table(
            f"a_very_long_name_of_a_table_that_goes_on_and_on_{'and_on_' * (i % 9)}{i}",
            range(i % world, world, 1 + i % 3),
            10.0 ** (i % 20 - 12),
            10.0 ** (i % 19 - 9),
            kind=("table_column_wise", "table_wise")[i % 2],
            kernel=("fused", "fused_uvm_caching")[i % 2],
            ids=10.0 ** (i % 9 - 3),
        )
        for i in range(500)
    ]
    tables[7] = replace(tables[7], rows=2_147_483_647, bytes_per_number=1)
    plan = made_plan(tables, nodes, ranks)
    for all_tables in (False, True):
        text = printed(plan, width, all_tables=all_tables)
        assert max(map(cell_len, text.splitlines())) <= width
        assert "2,147,483,647" in text or not all_tables


def test_no_number_is_cut_at_120_columns(made_table: Any, made_plan: Any) -> None:
    table = made_table(
        "n" * 90,
        range(0, 256, 2),
        123_456.0,
        98_765_432.0,
        kind="table_column_wise",
        kernel="fused_uvm_caching",
        ids=12_345.0,
    )
    text = printed(made_plan([table], 32, 8))
    for cell in ["table_column_wise", "fused_uvm_caching", "123,456", "98,765,432", "12,345"]:
        assert cell in text
    assert "128 of 0-254" in text
    assert not re.search(r"\d…", text)


def test_a_name_cannot_move_the_cursor_or_set_a_style(made_table: Any, made_plan: Any) -> None:
    text = printed(made_plan([made_table("[b]a\x1b[2J\nb", [0], 1, 1.0)]))
    assert "[b]a?[2J?b" in text
    assert "\x1b" not in text


def test_a_pipe_gets_120_columns(capsys: pytest.CaptureFixture[str]) -> None:
    plan_console().print("-" * 120)
    assert capsys.readouterr().out == "-" * 120 + "\n"


def test_columns_are_left_out_in_their_order_where_a_console_is_narrow() -> None:
    grid = Grid(
        "Title", ("Name", "first", "second", "third"), (("n" * 40, *("1" * 8, "2" * 8, "3" * 8)),)
    )
    console = Console(width=40, file=io.StringIO(), color_system=None)
    print_fitted(grid, console, optional=("second", "first"))
    assert isinstance(console.file, io.StringIO)
    _, title, header, _, row = console.file.getvalue().splitlines()
    assert title == "Title (too narrow for: second)"
    assert header.split() == ["Name", "first", "third"]
    assert row.split() == ["n" * 11 + "…" + "n" * 10, "1" * 8, "3" * 8]
