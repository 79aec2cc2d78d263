"""The tables of an experiment: as grids for terminal and page, and as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import fmean

from dropdrift.training.comparison import UNDEFINED, Estimate, Grid
from dropdrift.training.experiments.statistics import LEVEL, RESAMPLES, Interval
from dropdrift.training.experiments.summary import Difference, Outcome, Summary

PUBLISHED = "published"
SHRUNK = 0.01
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
        rows.append((_row_title(name, outcomes), *cells))
        if name in published:
            rows.append(_published(name, published.pop(name), summary))
    rows += [_published(name, numbers, summary) for name, numbers in published.items()]
    return Grid("Test part", ("Variant", *_titles(summary)), tuple(rows), _note(summary))


def difference_grids(summary: Summary) -> Iterator[Grid]:
    """The differences to the base with both kinds of intervals."""
    if not any(difference.seeds.values for difference in summary.differences.values()):
        return
    base, percent, units = summary.plan.base, f"{LEVEL:.0%}", summary.units
    yield _grid_of_differences(
        summary,
        f"Difference to {base}, paired by seed",
        lambda difference: difference.by_seed,
        f"Mean and {percent} interval (Student's t) over seeds.",
    )
    yield _grid_of_differences(
        summary,
        f"Difference to {base}, paired by {units.removesuffix('s')}",
        lambda difference: difference.by_user,
        f"Mean and {percent} interval over {units} ({RESAMPLES:,} bootstrap samples), the values "
        f"of each of the {units} averaged over seeds.",
    )
    if summary.improvements:
        yield _improvement_grid(summary)


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


def warning_lines(summary: Summary) -> list[str]:
    """Which runs count in no mean, and which rows are near a collapse; and why."""
    return [*_lost_lines(summary), *_shrunk_lines(summary)]


def _lost_lines(summary: Summary) -> list[str]:
    """Which runs count in no mean, and why."""
    seeds: dict[tuple[str, str], list[str]] = {}
    for row, outcome in summary.lost():
        why = f"failed: {outcome.failure}" if outcome.failure else f"collapsed: {outcome.collapse}"
        seeds.setdefault((row, why), []).append(str(outcome.seed))
    return [f"{row}, seed {' '.join(s)}, {why}" for (row, why), s in seeds.items()]


def _shrunk_lines(summary: Summary) -> Iterator[str]:
    """Rows whose z varies less than ``SHRUNK`` times as much as the base's."""
    base = _z_variance(summary.rows.get(summary.plan.base, ()))
    for row, outcomes in summary.rows.items():
        own = _z_variance(outcomes)
        if base and own is not None and own < SHRUNK * base:
            yield (
                f"{row}, near a collapse: the variance of z is {own:.1e} at the end of training, "
                f"{own / base:.2%} of that of {summary.plan.base}"
            )


def _z_variance(outcomes: Sequence[Outcome]) -> float | None:
    """Its mean over the seeds that count."""
    found = [o.z_variance for o in outcomes if o.counts and o.z_variance is not None]
    return fmean(found) if found else None


def to_markdown(grid: Grid) -> str:
    """The grid as a Markdown table under its title in bold, its note below."""
    lines = [f"**{grid.title}**", "", _markdown_row(grid.header)]
    lines.append(_markdown_row(["---", *["---:"] * (len(grid.header) - 1)]))
    lines += [_markdown_row(row) for row in grid.rows]
    return "\n".join([*lines, "", *([grid.note, ""] if grid.note else [])])


def _row_title(name: str, outcomes: Sequence[Outcome]) -> str:
    """The variant, and how many of its runs are missing in its means."""
    count = len(outcomes)
    for what in ("failed", "collapsed"):
        lost = sum(bool(o.failure if what == "failed" else o.collapse) for o in outcomes)
        if lost:
            name += f", {what}" if lost == count else f", {lost} of {count} {what}"
    return name


def _improvement_grid(summary: Summary) -> Grid:
    """RelaImpr with both intervals."""
    metrics = dict.fromkeys(metric for _, metric in summary.improvements)
    header, rows = ["Variant"], []
    for metric in metrics:
        title = summary.titles[metric]
        header += [f"{title}, RelaImpr", "over seeds", f"over {summary.units}"]
    for name in summary.rows:
        cells = []
        for metric in metrics:
            found = summary.improvements.get((name, metric))
            if found is None or not found.seeds.values:
                cells += [UNDEFINED] * 3
            else:
                intervals = (found.by_seed, found.by_user)
                cells += [f"{found.seeds.mean:+.3%}", *(i.text("+.3%") for i in intervals)]
        if name != summary.plan.base:
            rows.append((name, *cells))
    base = summary.plan.base
    note = f"(variant - {base}) / {base}, with {LEVEL:.0%} intervals as above."
    return Grid(f"Relative improvement on {base}", tuple(header), tuple(rows), note)


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
    counts = sorted({len(outcomes) for outcomes in summary.rows.values()})
    seeds = " to ".join(map(str, dict.fromkeys([*counts[:1], *counts[-1:]]))) or "no"
    counted = f"{summary.test_rows:,} {summary.units}"
    notes = [f"Mean ±standard deviation over {seeds} seeds, {counted} each.", summary.note]
    if summary.plan.published:
        notes.append("Published: figures from elsewhere, not measured here.")
    return " ".join(notes)


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"
