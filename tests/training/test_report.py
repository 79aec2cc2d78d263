"""Result files, their comparison, and the pages made of them."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from tests.training.ranking_results import ROWS, result, task

from dropdrift.training.comparison import (
    Estimate,
    by_model,
    drops_of,
    measure,
    metric_grid,
    paired,
    robustness_grid,
)
from dropdrift.training.figures import to_svg
from dropdrift.training.plots import calibration_figure, robustness_figure
from dropdrift.training.report import print_comparison, write_report
from dropdrift.training.result import EvaluationResult, TaskResult


def two_models() -> list[EvaluationResult]:
    return [result("DCN-V2", 1), result("DCN-V2", 2), *(result("New", s, 1.5) for s in (2, 3, 1))]


# Result files.


def test_a_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = result()
    path = tmp_path / "evaluation.json"
    written.save(path)
    raw = json.loads(path.read_text())
    assert raw["kind"] == "evaluation"
    assert raw["tasks"]["is_click"]["robustness"][3]["value"] == 0.9
    assert EvaluationResult.load(path) == written


def test_a_metric_that_is_not_defined_survives_the_file(tmp_path: Path) -> None:
    result(users=False).save(tmp_path / "evaluation.json")
    raw = json.loads((tmp_path / "evaluation.json").read_text())
    assert raw["tasks"]["is_click"]["complete"]["uauc"] is None
    loaded = EvaluationResult.load(tmp_path / "evaluation.json")
    assert math.isnan(loaded.tasks["is_click"].complete.uauc)


def change(*keys: Any, to: Any = None) -> Callable[[Any], None]:
    """Set the entry at ``keys``, or take it out."""

    def apply(raw: Any) -> None:
        *path, last = keys
        for key in path:
            raw = raw[key]
        if to is None:
            del raw[last]
        else:
            raw[last] = to

    return apply


TASK = ("tasks", "is_click")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (change("kind", to="benchmark"), "kind is 'benchmark', must be 'evaluation'"),
        (change("name"), "the key name is missing"),
        (change("part", to=3), "part is 3, must be text"),
        (change("tasks", to=[]), "tasks holds list, must be a mapping"),
        (change(*TASK, "complete"), "the key tasks.is_click.complete is missing"),
        (change(*TASK, "complete", "auc"), "the key tasks.is_click.complete.auc is missing"),
        (change(*TASK, "complete", "rows", to=1.5), "complete.rows is 1.5, must be an integer"),
        (change(*TASK, "complete", "auc", to="high"), "complete.auc is 'high', must be a number"),
        (change(*TASK, "complete", "auc", to=True), "complete.auc is True, must be a number"),
        (change(*TASK, "calibration_table", 1, "label"), "calibration_table[1].label is missing"),
        (change(*TASK, "robustness", to={}), "tasks.is_click.robustness is {}, must be a list"),
        (change(*TASK, "robustness", 0, "drop", to="half"), "robustness[0].drop is 'half'"),
        (change(*TASK, "robustness", 3, "value", to="0.9"), "robustness[3].value is '0.9'"),
        (change(*TASK, "robustness", 1, "value", to=1), "robustness[1].value is 1, must be text"),
        (change("missing_rate", "age", to="some"), "missing_rate.age is 'some'"),
        (change("provenance"), "the key provenance is missing"),
    ],
)
def test_a_malformed_file_names_file_and_key(
    damage: Callable[[Any], None], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "evaluation.json"
    raw = result().to_dict()
    damage(raw)
    path.write_text(json.dumps(raw))
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        EvaluationResult.load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not valid JSON"),
        (b"{", "is not valid JSON"),
        (b"[]", ": the file holds list, must be a mapping"),
        (b"null", ": the file holds NoneType, must be a mapping"),
        (b"\xff\xfe", "is no text in UTF-8"),
    ],
)
def test_a_file_that_is_no_result(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        EvaluationResult.load(path)
    assert str(caught.value).startswith(str(path))


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.json does not exist"):
        EvaluationResult.load(tmp_path / "none.json")


# Comparison.


def test_differences_are_paired_by_seed() -> None:
    results = two_models()
    models = by_model(results)
    auc = {(r.name, r.seed): r.tasks["is_click"].complete.auc for r in results}
    differences = paired(models["New"], models["DCN-V2"], measure("is_click", "auc"))
    expected = [auc["New", seed] - auc["DCN-V2", seed] for seed in (2, 1)]  # none for seed 3
    assert differences.values == pytest.approx(expected)


def test_spread_is_the_sample_standard_deviation() -> None:
    assert Estimate((0.70, 0.72)).text(".4f") == "0.7100 ±0.0141"
    assert Estimate((0.001, -0.001, 0.003)).text("+.3%") == "+0.100% ±0.200%"
    assert Estimate((0.5,)).text(".4f") == "0.5000"
    assert Estimate(()).text(".4f") == "-"


def test_metric_grid() -> None:
    results = two_models()
    grid = metric_grid(by_model(results), "is_click")
    assert grid.header[:4] == ("Model", "AUC", "RelaImpr", "UAUC")
    base, new = grid.rows
    assert (base[0], base[2], new[0]) == ("DCN-V2", "", "New")
    auc = {(r.name, r.seed): r.tasks["is_click"].complete.auc for r in results}
    changes = [auc["New", seed] / auc["DCN-V2", seed] - 1 for seed in (1, 2)]
    assert new[2] == f"{np.mean(changes):+.3%} ±{np.std(changes, ddof=1):.3%}"
    assert "400 rows" in grid.note
    assert "the base is DCN-V2" in grid.note


def test_one_model_is_compared_with_nothing() -> None:
    models = by_model([result()])
    assert "RelaImpr" not in metric_grid(models, "is_click").header
    assert robustness_grid(models, "is_click", "AUC", "auc").header == ("Dropped", "DCN-V2")


def test_models_without_a_common_seed_have_no_difference() -> None:
    models = by_model([result("A", 1), result("B", 2)])
    assert metric_grid(models, "is_click").rows[1][2] == "-"


def test_drops_come_in_an_order_that_reads_well() -> None:
    models = by_model(two_models())
    grid = robustness_grid(models, "is_click", "AUC", "auc")
    assert [row[0] for row in grid.rows] == [
        "nothing",
        "30% of fields",
        "90% of fields",
        "all user fields",
        "all item fields",
        "all identifiers",
    ]
    complete = [r.tasks["is_click"].complete.auc for r in models["DCN-V2"]]
    assert grid.rows[0][1] == Estimate(tuple(complete)).text(".4f")


def test_a_drop_that_one_model_was_not_measured_with() -> None:
    short = result("Short", skill=2.0)
    short = replace(short, tasks={"is_click": replace(short.tasks["is_click"], robustness=())})
    models = by_model([result(), short])
    assert len(drops_of(models, "is_click")) == 6
    assert robustness_grid(models, "is_click", "AUC", "auc").rows[1][2:] == ("-", "-")


def test_results_that_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="no evaluation result"):
        by_model([])
    with pytest.raises(ValueError, match=r"two results are of 'DCN-V2' \(seed 1\)"):
        by_model([result(), result()])
    with pytest.raises(ValueError, match=r"of the test part and 'B'.* of the validation part"):
        by_model([result(), replace(result("B"), part="validation")])
    other = result("B")
    fewer = replace(other.tasks["is_click"].complete, rows=ROWS - 1)
    other = replace(other, tasks={"is_click": replace(other.tasks["is_click"], complete=fewer)})
    with pytest.raises(ValueError, match=r"label 'is_click': 'DCN-V2' .* has 400 rows .* 399 with"):
        by_model([result(), other])


# Terminal and page.


@pytest.mark.parametrize("width", [80, 200])
def test_terminal_cuts_no_number(width: int) -> None:
    console = Console(width=width, file=io.StringIO())
    results = [*two_models(), *(result(f"[b]New[/b] {i}", s, 1.2) for i in (1, 2) for s in (1, 2))]
    print_comparison(results, console)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "…" not in text
    assert "[b]New[/b]" in text
    models = by_model(results)
    for grid in (
        metric_grid(models, "is_click"),
        robustness_grid(models, "is_click", "AUC", "auc"),
    ):
        for number in " ".join(cell for row in grid.rows for cell in row[1:]).split():
            assert number in text


class References(HTMLParser):
    """Collects tags, and what a browser would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "data") and not (value or "").startswith("#"):
                self.fetched.append(f"{name}={value}")


def test_page_is_whole_in_itself(tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.html"
    write_report(two_models(), path)
    page = path.read_text(encoding="utf-8")
    references = References()
    references.feed(page)
    assert references.fetched == []
    assert "url(http" not in page
    assert "@import" not in page
    assert not {"link", "script", "img", "iframe"} & set(references.tags)
    assert references.tags.count("svg") == 2
    assert page.count('role="img"') == 2
    grid = metric_grid(by_model(two_models()), "is_click")
    for cell in grid.rows[1][1].split():
        assert cell in page
    assert "25.00%" in page  # how often the field age is missing
    assert "New, seed 3" in page


def test_page_escapes_names(tmp_path: Path) -> None:
    write_report([result("<script>x</script>")], tmp_path / "report.html")
    assert "<script>" not in (tmp_path / "report.html").read_text()


def test_equal_results_make_equal_figures() -> None:
    models = by_model(two_models())
    for draw in (robustness_figure, calibration_figure):
        first, second = draw(models, "is_click"), draw(models, "is_click")
        assert first is not None
        assert second is not None
        assert to_svg(first) == to_svg(second)


def test_robustness_figure_shows_means_and_seeds() -> None:
    models = by_model(two_models())
    figure = robustness_figure(models, "is_click")
    assert figure is not None
    shares, _, lower_shares, blocks = figure.axes
    assert (shares.get_ylabel(), lower_shares.get_ylabel()) == ("AUC", "UAUC")
    seeds, means = (np.asarray(line.get_xydata()) for line in shares.get_lines()[:2])
    assert seeds.shape == (3 * 2, 2)
    assert means[:, 0].tolist() == [0, 30, 90]
    auc = [r.tasks["is_click"].complete.auc for r in models["DCN-V2"]]
    assert means[0, 1] == pytest.approx(np.mean(auc))
    assert [text.get_text() for text in blocks.get_xticklabels()] == ["user", "item", "identifiers"]


def test_figures_leave_out_what_was_not_measured() -> None:
    no_users = robustness_figure(by_model([result(users=False)]), "is_click")
    assert no_users is not None
    assert [axes.get_ylabel() for axes in no_users.axes] == ["AUC", ""]
    bare = TaskResult(task(1, 1.0).complete)
    models = by_model([replace(result(), tasks={"is_click": bare})])
    assert robustness_figure(models, "is_click") is None
    assert calibration_figure(models, "is_click") is None
    only_shares = replace(bare, robustness=task(1, 1.0).robustness[3:])
    figure = robustness_figure(
        by_model([replace(result(), tasks={"is_click": only_shares})]), "is_click"
    )
    assert figure is not None
    assert len(figure.axes) == 2


def test_page_of_bare_results(tmp_path: Path) -> None:
    bare = {"is_click": TaskResult(task(1, 1.0, users=False).complete)}
    write_report([replace(result(), tasks=bare, missing_rate={})], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "no users" in page
    assert "<svg" not in page
