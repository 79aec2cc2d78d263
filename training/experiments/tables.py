"""The tables of an experiment: as grids for terminal and page, and as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from dropdrift.training.comparison import UNDEFINED, Estimate, Grid
from dropdrift.training.experiments.statistics import LEVEL, RESAMPLES, Interval
from dropdrift.training.experiments.summary import Difference, Summary

PUBLISHED = "published"
TIMES = {
    "seconds": "Training, s",
    "steps": "Steps",
    "best_step": "Best step",
    "rows_per_second": "Rows/s",
}


def main_grid(summary: Summary) -> Grid:
    """Rows by metrics: mean and spread over seeds, published figures under their rows."""
    rows = []
    published = dict(summary.plan.published)
    for name, outcomes in summary.rows.items():
        cells = [_estimate(summary, name, metric).text(".4f") for metric in summary.plan.metrics]
        failed = sum(bool(outcome.failure) for outcome in outcomes)
        if failed == len(outcomes):
            title = f"{name}, failed"
        else:
            title = f"{name}, {failed} of {len(outcomes)} failed" if failed else name
        rows.append((title, *cells))
        if name in published:
            rows.append(_published(name, published.pop(name), summary))
    rows += [_published(name, numbers, summary) for name, numbers in published.items()]
    return Grid("Test part", ("Variant", *_titles(summary)), tuple(rows), _note(summary))


def difference_grids(summary: Summary) -> Iterator[Grid]:
    """The differences to the base with both kinds of intervals."""
    if not any(difference.seeds.values for difference in summary.differences.values()):
        return
    base, percent = summary.plan.base, f"{LEVEL:.0%}"
    yield _grid_of_differences(
        summary,
        f"Difference to {base}, paired by seed",
        lambda difference: difference.by_seed,
        f"Mean and {percent} interval (Student's t) over seeds.",
    )
    yield _grid_of_differences(
        summary,
        f"Difference to {base}, paired by user",
        lambda difference: difference.by_user,
        f"Mean and {percent} interval over users ({RESAMPLES:,} bootstrap samples), each user's "
        "value averaged over seeds.",
    )


def time_grid(summary: Summary) -> Grid | None:
    """How long each row trained, and how far; None where nothing was trained."""
    rows = []
    for name, outcomes in summary.rows.items():
        trained = [outcome.training for outcome in outcomes if outcome.training]
        if trained:
            cells = (_spread(trained, key) for key in TIMES)
            rows.append((name, str(len(trained)), *cells))
    header = ("Variant", "Runs", *TIMES.values())
    note = "Mean ±standard deviation over seeds. A run that was resumed counts its last stretch."
    return Grid("Time per run", header, tuple(rows), note) if rows else None


def failure_lines(summary: Summary) -> list[str]:
    """Which runs came to nothing, and why."""
    seeds: dict[tuple[str, str], list[str]] = {}
    for row, outcome in summary.failures():
        seeds.setdefault((row, outcome.failure), []).append(str(outcome.seed))
    return [f"{row}, seed {' '.join(s)}, failed: {why}" for (row, why), s in seeds.items()]


def to_markdown(grid: Grid) -> str:
    """The grid as a Markdown table under its title in bold, its note below."""
    lines = [f"**{grid.title}**", "", _markdown_row(grid.header)]
    lines.append(_markdown_row(["---", *["---:"] * (len(grid.header) - 1)]))
    lines += [_markdown_row(row) for row in grid.rows]
    return "\n".join([*lines, "", *([grid.note, ""] if grid.note else [])])


def _grid_of_differences(
    summary: Summary, title: str, interval: Callable[[Difference], Interval], note: str
) -> Grid:
    rows = []
    for name in summary.rows:
        found = [summary.differences.get((name, metric)) for metric in summary.plan.metrics]
        if any(found):
            rows.append((name, *(_difference(d, interval) for d in found)))
    return Grid(title, ("Variant", *_titles(summary)), tuple(rows), note)


def _difference(difference: Difference | None, interval: Callable[[Difference], Interval]) -> str:
    if difference is None or not difference.seeds.values:
        return UNDEFINED
    return f"{difference.seeds.mean:+.4f} {interval(difference).text()}".rstrip()


def _estimate(summary: Summary, row: str, metric: str) -> Estimate:
    """One value where nothing is random: of a baseline whose data is the same for all seeds."""
    estimate = summary.estimate(row, metric)
    constant = row in summary.plan.baselines and len(set(estimate.values)) == 1
    return Estimate(estimate.values[:1]) if constant else estimate


def _published(name: str, numbers: Mapping[str, float], summary: Summary) -> tuple[str, ...]:
    cells = (
        f"{numbers[metric]:.4f}" if metric in numbers else "" for metric in summary.plan.metrics
    )
    return (f"{name}, {PUBLISHED}", *cells)


def _titles(summary: Summary) -> list[str]:
    return [summary.titles[metric] for metric in summary.plan.metrics]


def _spread(trained: Sequence[Mapping[str, float]], key: str) -> str:
    return Estimate(tuple(numbers[key] for numbers in trained)).text(",.0f")


def _note(summary: Summary) -> str:
    seeds = max((len(outcomes) for outcomes in summary.rows.values()), default=0)
    notes = [f"Mean ±standard deviation over {seeds} seeds, {summary.test_rows:,} rows each."]
    notes.append(f"Items that a user has already had are {summary.plan.seen}.")
    if summary.plan.published:
        notes.append("Published: figures from elsewhere, not measured here.")
    return " ".join(notes)


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"
