"""The report of an experiment: one HTML page, a Markdown table, and all numbers as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

from dropdrift.training.comparison import Grid, labels_of
from dropdrift.training.end_labels import OUTSIDE
from dropdrift.training.experiments.plots import (
    curves_figure,
    difference_figure,
    metric_figure,
    schedule_figure,
    similarity_figure,
)
from dropdrift.training.experiments.robustness_page import (
    calibration_section,
    robustness_section,
)
from dropdrift.training.experiments.statistics import LEVEL, RESAMPLES
from dropdrift.training.experiments.summary import Difference, Summary
from dropdrift.training.experiments.tables import (
    difference_grids,
    main_grid,
    time_grid,
    to_markdown,
    warning_lines,
)
from dropdrift.training.figures import to_svg
from dropdrift.training.page import provenance_details, to_figure, to_html, to_page
from dropdrift.training.provenance import write_result, write_whole

KIND = "experiment"
PAGE, TABLE, NUMBERS = "report.html", "report.md", "experiment.json"


def write_reports(summary: Summary, data: Mapping[str, Any], origin: Any, out: Path) -> None:
    """Write ``report.html``, ``report.md`` and ``experiment.json`` into the folder ``out``.

    Args:
        summary: of all that was run.
        data: the counts of the prepared data, by name.
        origin: see ``training.provenance``.
        out: the folder.
    """
    write_result(out / NUMBERS, _numbers(summary, data, origin))
    write_whole(out / TABLE, "\n".join(_markdown(summary, data, origin)))
    write_whole(out / PAGE, to_page(summary.plan.title, _page(summary, data, origin)))


def grids(summary: Summary) -> Iterator[Grid]:
    """What is printed: metrics, differences, times."""
    yield main_grid(summary)
    yield from difference_grids(summary)
    times = time_grid(summary)
    if times:
        yield times


def _page(summary: Summary, data: Mapping[str, Any], origin: Any) -> Iterator[str]:
    plan = summary.plan
    yield f"<h1>{escape(plan.title)}</h1>"
    if plan.about:
        yield f"<p>{escape(plan.about)}</p>"
    yield to_html(main_grid(summary))
    yield from (f"<p>{escape(line)}</p>" for line in warning_lines(summary))
    yield '<div class="beside">'
    for metric in plan.metrics:
        text = f"{summary.titles[metric]}: a point is a seed, a dash their mean. {OUTSIDE}"
        ring = " Rings: published." if _is_published(summary, metric) else ""
        yield to_figure(to_svg(metric_figure(summary, metric)), text + ring)
    yield "</div>"
    yield from _difference_section(summary)
    models = summary.evaluations()
    for label in labels_of(models):
        yield from robustness_section(models, summary.plan.base, label)
        yield from calibration_section(models, label)
    yield from _curves_section(summary)
    yield from _diffusion_section(summary)
    times = time_grid(summary)
    if times:
        yield "<h2>Time</h2>"
        yield to_html(times)
    yield from _origin_section(summary, data, origin)


def _difference_section(summary: Summary) -> Iterator[str]:
    tables = list(difference_grids(summary))
    if not tables:
        return
    yield f"<h2>Differences to {escape(summary.plan.base)}</h2>"
    yield from map(to_html, tables)
    yield '<div class="beside">'
    for metric in summary.plan.metrics:
        figure = difference_figure(summary, metric)
        if figure:
            text = f"{summary.titles[metric]} less that of {summary.plan.base}: a point is a seed, "
            interval = f"{LEVEL:.0%} interval over {summary.units}"
            caption = f"{text}a dash their mean, the bar the {interval}. {OUTSIDE}"
            yield to_figure(to_svg(figure), caption)
    yield "</div>"


def _curves_section(summary: Summary) -> Iterator[str]:
    figure = curves_figure(summary)
    if figure:
        yield "<h2>Training</h2>"
        caption = "Validation part over training: each seed thin, their mean thick with markers."
        yield to_figure(to_svg(figure), f"{summary.curve_title}. {caption}")


def _diffusion_section(summary: Summary) -> Iterator[str]:
    schedules, similarity = schedule_figure(summary), similarity_figure(summary)
    if schedules or similarity:
        yield "<h2>Diffusion</h2>"
    if similarity:
        text = "How near the estimate of the drift from a user's newest item to the next one comes "
        caption = (
            f"{text}over the reverse process: median (thick) and quartiles over users of the test "
        )
        yield to_figure(to_svg(similarity), f"{caption}part, averaged over seeds.")
    if schedules:
        caption = "The noise of each diffusion step, and what share of the drift it leaves."
        yield to_figure(to_svg(schedules), caption)


def _origin_section(summary: Summary, data: Mapping[str, Any], origin: Any) -> Iterator[str]:
    yield "<h2>What was run</h2>"
    yield to_html(Grid("", ("", ""), tuple(_facts(data, origin))))
    about = tuple((name, v.about) for name, v in summary.plan.variants.items() if v.about)
    if about:
        yield to_html(Grid("Variants", ("Variant", "What it is"), about))
    yield provenance_details("Plan, versions and hardware", origin)


def _facts(data: Mapping[str, Any], origin: Any) -> Iterator[tuple[str, str]]:
    """Command, data, versions, hardware and revision, as text."""
    yield "Command", str(origin["command"])
    for name, value in data.items():
        yield name, _fact(value)
    yield "Versions", ", ".join(f"{k} {v}" for k, v in origin["versions"].items())
    hardware = origin["hardware"]
    gpus = "".join(f", {gpu['name']}" for gpu in hardware["gpus"])
    memory = f"{hardware['memory'] / 2**30:.0f} GiB"
    yield "Hardware", f"{hardware['cpu']}, {hardware['cores']} cores, {memory}{gpus}"
    git = origin["git"]
    if git:
        yield "Revision", git["revision"] + (", with changes" if git["dirty"] else "")
    yield "Date", str(origin["date"])


def _fact(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _markdown(summary: Summary, data: Mapping[str, Any], origin: Any) -> Iterator[str]:
    yield f"# {summary.plan.title}\n"
    if summary.plan.about:
        yield f"{summary.plan.about}\n"
    for grid in grids(summary):
        yield to_markdown(grid)
    warnings = warning_lines(summary)
    if warnings:
        yield "\n".join(["**To be read with care**\n", *(f"- {line}" for line in warnings), ""])
    yield "**What was run**\n"
    for name, value in _facts(data, origin):
        yield f"- {name}: {f'`{value}`' if name == 'Command' else value}"
    yield ""


def _numbers(summary: Summary, data: Mapping[str, Any], origin: Any) -> dict[str, Any]:
    plan = summary.plan
    return {
        "kind": KIND,
        "title": plan.title,
        "plan": plan,
        "rows": {
            name: {
                "seeds": {
                    str(o.seed): {
                        "metrics": o.numbers,
                        "training": o.training,
                        "failure": o.failure,
                        "collapse": o.collapse,
                        "validation": o.curve,
                        "similarity": o.similarity,
                    }
                    for o in outcomes
                },
                "mean": {metric: summary.estimate(name, metric).mean for metric in plan.metrics},
                "difference": {
                    metric: _difference(summary.differences[name, metric])
                    for metric in plan.metrics
                    if (name, metric) in summary.differences
                },
                "relative_improvement": {
                    metric: _difference(found)
                    for (row, metric), found in summary.improvements.items()
                    if row == name
                },
            }
            for name, outcomes in summary.rows.items()
        },
        "intervals": {"level": LEVEL, "resamples": RESAMPLES},
        "test_rows": summary.test_rows,
        "data": data,
        "provenance": origin,
    }


def _difference(difference: Difference) -> dict[str, Any]:
    return {
        "mean": difference.seeds.mean,
        "by_seed": difference.seeds.values,
        "seed_interval": [difference.by_seed.low, difference.by_seed.high],
        "user_interval": [difference.by_user.low, difference.by_user.high],
    }


def _is_published(summary: Summary, metric: str) -> bool:
    return any(metric in summary.plan.published.get(row, {}) for row in summary.rows)
