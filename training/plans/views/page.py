"""A plan as one HTML page with pictures, which needs no network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from matplotlib.figure import Figure

from dropdrift.sharding.summary import Cost, PlanSummary, TableSummary
from dropdrift.training.figures import to_svg
from dropdrift.training.page import provenance_details, to_figure, to_html, to_page
from dropdrift.training.plans.views.grids import (
    MEMORY_NOTE,
    TIMES_NOTE,
    by_size,
    headline,
    milliseconds,
    rank_grid,
    share,
    table_grid,
)
from dropdrift.training.plans.views.plots import COLUMNS, WIDTH, memory_figure, time_figure
from dropdrift.training.plans.views.table_plots import cost_figure, placement_figure

TYPE_MEANINGS = {
    "table_wise": "the whole table is on one rank",
    "row_wise": "all ranks have an equal part of its rows",
    "table_row_wise": "the ranks of one node have an equal part of its rows",
    "column_wise": "ranks have all rows, each some of the columns",
    "table_column_wise": "the ranks of one node have all rows, each some of the columns",
    "grid_shard": "cut by columns, each of them by the rows over the ranks of a node",
    "data_parallel": "every rank has a copy, all of which are updated alike",
}
KERNEL_MEANINGS = {
    "fused": "in the device's memory, updated in the backward",
    "fused_uvm": "in host memory, which the GPU reads over its link",
    "fused_uvm_caching": "in host memory, with a cache in the GPU's memory",
    "dense": "in the device's memory, updated after the backward",
}
# A long name takes several lines rather than most of a narrow window.
NAME = (
    "width: max-content; max-width: min(22rem, 40vw); white-space: normal; overflow-wrap: anywhere"
)
LEFT = ' style="text-align: left"'
# Pixels that a wide figure keeps in a narrow window, where it scrolls: its text is to be read.
LEAST_WIDTH = 760
# Sorts by a column and hides what does not match; the list is complete without it.
SCRIPT = """<script>
(() => {
  const table = document.getElementById("tables"), body = table.tBodies[0];
  const rows = [...body.rows], filter = document.getElementById("filter");
  filter.hidden = false;
  filter.addEventListener("input", () => {
    const words = filter.value.toLowerCase().split(" ").filter(Boolean);
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
  });
  [...table.tHead.rows[0].cells].forEach((cell, index) => {
    const value = (row) => row.cells[index].dataset.value ?? row.cells[index].textContent;
    const button = document.createElement("button");
    button.textContent = cell.textContent;
    button.style = "font: inherit; border: 0; background: none; padding: 0; cursor: pointer";
    button.title = "sort";
    cell.replaceChildren(button);
    button.addEventListener("click", () => {
      const text = rows[0].cells[index].dataset.value === undefined;
      const up = cell.ariaSort ? cell.ariaSort === "descending" : text;
      for (const other of cell.parentNode.cells) other.ariaSort = null;
      cell.ariaSort = up ? "ascending" : "descending";
      const order = (a, b) => value(a).localeCompare(value(b), "en", { numeric: true });
      const number = (a, b) => value(a) - value(b);
      const compare = text ? order : number;
      rows.sort((a, b) => (up ? compare(a, b) : compare(b, a)));
      body.append(...rows);
    });
  });
})();
</script>"""


def plan_page(
    name: str,
    about: str,
    summary: PlanSummary,
    problems: Sequence[str],
    fixes: Sequence[str],
    provenance: Mapping[str, Any],
) -> str:
    """The page of a plan.

    Args:
        name: of the configuration that was planned.
        about: what it is; may be empty.
        summary: the plan.
        problems: limits that it breaks, one line each.
        fixes: what would mend it, one line each.
        provenance: what is needed to make it again.
    """
    title = f"Sharding plan of {name}"
    body = [f"<h1>{escape(title)}</h1>"]
    if about:
        body.append(f'<p class="note">{escape(about)}</p>')
    body += _headline(summary)
    body += _problems(problems, fixes)
    body += _rank_section(summary)
    body += _table_section(summary)
    body += _reading(summary)
    body += ["<h2>Provenance</h2>", provenance_details(f"{name}, as planned", provenance)]
    return to_page(title, body)


def _headline(summary: PlanSummary) -> Iterator[str]:
    yield '<dl style="display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1.2rem">'
    for title, text in headline(summary):
        yield f"<dt><b>{escape(title)}</b></dt><dd style='margin: 0'>{escape(text)}</dd>"
    yield "</dl>"


def _problems(problems: Sequence[str], fixes: Sequence[str]) -> Iterator[str]:
    if not problems:
        yield "<p>It keeps to all limits.</p>"
        return
    yield '<div style="border-left: 4px solid #D55E00; padding-left: 1rem">'
    yield "<h2>Limits that it breaks</h2>"
    yield f"<ul>{''.join(f'<li>{escape(problem)}</li>' for problem in problems)}</ul>"
    if fixes:
        yield "<p>What would mend it:</p>"
        yield f"<ol>{''.join(f'<li>{escape(fix)}</li>' for fix in fixes)}</ol>"
    yield "</div>"


def _rank_section(summary: PlanSummary) -> Iterator[str]:
    means = (
        " A column is the mean of several ranks; a black line goes from the least of them to the "
        "most."
        if len(summary.ranks) > COLUMNS
        else ""
    )
    yield "<h2>Ranks</h2>"
    yield '<div class="beside">'
    yield to_figure(
        to_svg(memory_figure(summary)),
        "Memory of each rank by what takes it. Weights and optimizer state are exact, the rest is "
        f"estimated.{means}",
    )
    yield to_figure(
        to_svg(time_figure(summary)),
        "Estimated time of each rank for the embeddings of one step, its parts one after the "
        f"other. The slowest rank is what all wait for.{means}",
    )
    yield "</div>"
    yield _wide(
        placement_figure(summary),
        "Which table sits where: weights and optimizer state, in device or host memory. A block "
        "over several ranks is a table that is cut; sizes are of whole tables. What is too small "
        f"to see is taken together.{means}",
    )
    grid = to_html(rank_grid(summary))
    yield f"<details><summary>Ranks in numbers</summary>{grid}</details>"


def _table_section(summary: PlanSummary) -> Iterator[str]:
    yield "<h2>Tables</h2>"
    yield to_figure(
        to_svg(cost_figure(summary)),
        "Each table's size and what it costs in a step. Names are of the most expensive.",
    )
    yield (
        '<input id="filter" type="search" placeholder="name, type, kernel ..." hidden '
        'aria-label="show tables with" style="font: inherit; width: 100%; max-width: 24rem">'
    )
    yield from _table_list(summary)
    yield SCRIPT


def _table_list(summary: PlanSummary) -> Iterator[str]:
    """All tables, the largest first; a shade behind a number is its share of the column's most."""
    tables = by_size(summary.tables)
    grid = table_grid(tables)
    names, facts, (stored_title, cost_title) = grid.header[:4], grid.header[4:8], grid.header[8:]
    totals = (stored_title, "of all", cost_title, "of all")
    header = (*names, *totals, *facts, "Forward", "Backward", "Communication")
    most = max(table.stored_bytes for table in tables), max(t.cost.total for t in tables)
    stored = summary.stored_bytes
    cost = Cost.sum(table.cost for table in tables).total
    yield '<div style="overflow: auto; max-height: 44rem; font-size: .85rem">'
    yield '<table id="tables" style="margin: 0"><thead><tr>'
    yield "".join(
        f'<th style="{_style(at)}; top: 0">{escape(text)}</th>' for at, text in enumerate(header)
    )
    yield "</tr></thead><tbody>"
    for table, cells in zip(tables, grid.rows, strict=True):
        yield "".join(_row(table, cells, most, (stored, cost)))
    yield "</tbody></table></div>"
    yield (
        f'<p class="note">{len(tables):,} tables, the largest first. Forward and Backward are '
        "compute alone; times are ms of a step, summed over a table's ranks.</p>"
    )


def _row(
    table: TableSummary,
    cells: Sequence[str],
    most: tuple[float, float],
    whole: tuple[float, float],
) -> Iterator[str]:
    cost, stored = table.cost, table.stored_bytes
    communication = cost.forward_communication + cost.backward_communication
    name = escape(cells[0])
    yield f'<tr><td style="{_style(0)}"><div style="{NAME}">{name}</div></td>'
    yield from (f"<td{LEFT}>{escape(text)}</td>" for text in cells[1:3])
    yield _number(cells[3], table.ranks[0])
    yield _number(cells[8], stored, stored / most[0])
    yield _number(share(stored, whole[0]), stored)
    yield _number(cells[9], cost.total, cost.total / (most[1] or 1.0))
    yield _number(share(cost.total, whole[1]), cost.total)
    facts = (table.rows, table.width, table.bytes_per_number, table.ids_per_row)
    yield from map(_number, cells[4:8], facts)
    for part in (cost.forward_compute, cost.backward_compute, communication):
        yield _number(milliseconds(part), part)
    yield "</tr>"


def _number(text: str, value: float, shade: float = 0.0) -> str:
    """A cell that is sorted by ``value``, its right ``shade`` coloured."""
    behind = f' style="background: linear-gradient(to left, #D6E6F2 {shade:.0%}, white 0)"'
    return f'<td data-value="{value!r}"{behind if shade >= 0.005 else ""}>{escape(text)}</td>'


def _style(column: int) -> str:
    """Of what stays in sight: the header, and the names in the first column."""
    side = "left: 0; z-index: 1; " if column == 0 else ""
    left = "text-align: left; " if column in (1, 2) else ""
    return f"{left}{side}position: sticky; background: white"


def _reading(summary: PlanSummary) -> Iterator[str]:
    kinds = dict.fromkeys(table.sharding_type for table in summary.tables)
    kernels = dict.fromkeys(table.kernel for table in summary.tables)
    terms = [(kind, TYPE_MEANINGS[kind]) for kind in kinds if kind in TYPE_MEANINGS]
    terms += [(kernel, KERNEL_MEANINGS[kernel]) for kernel in kernels if kernel in KERNEL_MEANINGS]
    yield "<h2>How to read this</h2>"
    notes = (
        "The plan is TorchRec's planner's, for the model that was configured.",
        TIMES_NOTE.format(hardware=summary.cluster.hardware),
        MEMORY_NOTE,
        "Rows looked up a second are those of all ranks if there were nothing but embeddings. They "
        "are a batch's; of a matching model, those of the catalogue that it looks up in a step.",
        "A KiB has 1,024 bytes, a MiB 1,024 KiB and a GiB 1,024 MiB.",
    )
    yield f"<ul>{''.join(f'<li>{escape(note)}</li>' for note in notes)}"
    for term, meaning in terms:
        yield f"<li><code>{escape(term)}</code>: {escape(meaning)}</li>"
    yield "</ul>"


def _wide(figure: Figure, caption: str) -> str:
    width = min(LEAST_WIDTH, round(96 * figure.get_figwidth()))
    svg = to_svg(figure)
    if figure.get_figwidth() > WIDTH:
        svg = svg.replace("<svg ", f'<svg style="min-width: {width}px" ', 1)
    return f'<div class="scroll">{to_figure(svg, caption)}</div>'
