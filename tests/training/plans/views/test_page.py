"""The page of a plan: it holds the whole plan, escaped, and needs nothing from elsewhere."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest

from dropdrift.sharding.summary import PlanSummary
from dropdrift.training.plans.views.page import KERNEL_MEANINGS, TYPE_MEANINGS, plan_page
from dropdrift.training.plans.views.table_plots import TYPE_STYLES

REFERENCES = {"src", "href", "xlink:href", "action", "data", "srcset", "poster"}


class Reader(HTMLParser):
    """Collects tags, references, and the cells of the list of tables."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.references: list[str] = []
        self.rows: list[list[str]] = []
        self.values: list[list[str | None]] = []
        self.inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        self.references += [value or "" for name, value in attrs if name in REFERENCES]
        if tag == "table":
            self.inside = given.get("id") == "tables"
        if self.inside and tag == "tr":
            self.rows.append([])
            self.values.append([])
        if self.inside and tag in ("td", "th"):
            self.rows[-1].append("")
            self.values[-1].append(given.get("data-value"))

    def handle_data(self, data: str) -> None:
        if self.inside and self.rows and self.rows[-1]:
            self.rows[-1][-1] += data.strip("\n")  # between elements

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag != "table"


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    return reader


def page_of(summary: PlanSummary, name: str = "a-model", **options: Any) -> str:
    given = {"about": "", "problems": [], "fixes": [], "provenance": {"command": "plan"}} | options
    return plan_page(name, summary=summary, **given)


@pytest.fixture
def plan(made_table: Any, made_plan: Any) -> PlanSummary:
    return made_plan(
        [
            made_table("cut", range(4), 16, 12.0, kind="row_wise"),
            made_table("<script>alert(1)</script>", [2], 20, 3.0),
            made_table("a&b", [1], 1, 0.6),
        ]
    )


def test_nothing_is_fetched(plan: PlanSummary) -> None:
    page = page_of(plan)
    reader = read(page)
    assert reader.tags.count("svg") == 4
    assert all(reference.startswith("#") for reference in reader.references)
    assert not re.search(r"@import|url\((?!#)", page)
    addresses = set(re.findall(r"https?://[^\s\"'<]+", page))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert not {"link", "img", "iframe"} & set(reader.tags)


def test_names_are_text(plan: PlanSummary) -> None:
    page = page_of(
        plan, "<b>name</b>", about="<i>", problems=["<u>skew</u>"], fixes=["<s>more</s>"]
    )
    assert read(page).tags.count("script") == 1
    for tag in ("<b>name", "<i>", "<u>", "<s>", "<script>alert"):
        assert tag not in page
    assert "&lt;u&gt;skew" in page
    assert "&lt;s&gt;more" in page


def test_the_list_holds_every_table_with_its_numbers(plan: PlanSummary) -> None:
    reader = read(page_of(plan))
    header, *rows = reader.rows
    assert header[:8] == ["Table", "Type", "Kernel", "Ranks", "Size", "of all", "ms", "of all"]
    assert [row[0] for row in rows] == ["<script>alert(1)</script>", "cut", "a&b"]
    # 16 of 37 GiB; 12 of 15.6 ms, a sixth of them in each exchange and half in the backward.
    assert dict(zip(header[8:], rows[1][8:], strict=True)) == {
        "Rows": "4,096",
        "Width": "64",
        "Precision": "fp32",
        "Ids a row": "2",
        "Forward": "2.00",
        "Backward": "6.00",
        "Communication": "4.00",
    }
    assert rows[1][:8] == ["cut", "row_wise", "fused", "0-3", "16.0 GiB", "43%", "12.0", "77%"]
    sorted_by = dict(zip(header[3:6], reader.values[2][3:6], strict=True))
    assert sorted_by["Size"] == str(16 * 2**30)
    assert sorted_by["Ranks"] == "0"


def test_500_tables_on_256_ranks(made_table: Any, made_plan: Any) -> None:
    tables = [
        made_table(f"table_{i:03d}_{'of_a_long_name' * (i % 3)}", [i % 256], 0.01 * (i + 1), 1 + i)
        for i in range(499)
    ]
    tables.append(made_table("all", range(256), 600, 5.0, kind="row_wise"))
    page = page_of(made_plan(tables, 32, 8))
    names = [row[0] for row in read(page).rows[1:]]
    assert sorted(names) == sorted(table.name for table in tables)
    assert names[:2] == ["all", "table_498_"]
    assert "32 nodes of 8 H100: 256 ranks" in page
    assert len(page) < 2_000_000


def test_limits_and_fixes_are_listed(plan: PlanSummary) -> None:
    page = page_of(plan, problems=["rank 2 is full"], fixes=["take 8 ranks", "take fp16"])
    assert "<h2>Limits that it breaks</h2>\n<ul><li>rank 2 is full</li></ul>" in page
    assert "<ol><li>take 8 ranks</li><li>take fp16</li></ol>" in page
    kept = page_of(plan)
    assert "Limits that it breaks" not in kept
    assert "It keeps to all limits." in kept


def test_what_is_estimated_and_by_whom_is_said(plan: PlanSummary) -> None:
    page = page_of(plan, about="What it is for.", provenance={"command": "dropdrift plan show"})
    for text in (
        "What it is for.",
        "1 node of 4 H100",
        "TorchRec&#x27;s estimates",
        "hardware H100",
        "are exact",
        "<code>row_wise</code>: all ranks have",
        "<code>fused</code>: ",
        "dropdrift plan show",
    ):
        assert text in page
    assert "<code>column_wise</code>" not in page


def test_all_types_and_kernels_are_explained() -> None:
    assert set(TYPE_MEANINGS) == set(TYPE_STYLES)
    assert {"fused", "fused_uvm", "fused_uvm_caching", "dense"} == set(KERNEL_MEANINGS)


def test_more_ranks_than_columns_are_said_to_be_means(made_table: Any, made_plan: Any) -> None:
    plan = made_plan([made_table("t", range(300), 300, 3.0, kind="row_wise")], 1, 300)
    assert "the mean of several ranks" in page_of(plan)


def test_a_table_in_host_memory(made_table: Any, made_plan: Any) -> None:
    table = made_table("t", range(4), 30, 90.0, kind="row_wise", kernel="fused_uvm")
    page = page_of(made_plan([table]))
    assert "30.0 GiB of 1 table" in page
    assert "in host memory, which the GPU reads over its link" in page
