"""Experiments of one plan on several data sets, put together by the missing rate."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dropdrift.launchers.series import run
from dropdrift.training.experiments.report import write_reports
from dropdrift.training.experiments.series import read_series
from dropdrift.training.experiments.series_plots import (
    gain_figure,
    interval_panels,
    values_figure,
)
from dropdrift.training.experiments.summary import Summary
from dropdrift.training.provenance import provenance

RATES = {"half": 0.5, "whole": 0.0, "quarter": 0.25}
BEST = 0.9

Change = Callable[[Any], None]


@pytest.fixture(scope="module")
def written() -> dict[str, str]:
    """Holds the text of an experiment's numbers, once a test has had them written."""
    return {}


@pytest.fixture
def folders(
    request: pytest.FixtureRequest, written: dict[str, str], tmp_path: Path
) -> dict[str, Path]:
    """Three experiments, as the real writer writes them; their metric recall@2 is called auc."""
    if not written:
        summary: Summary = request.getfixturevalue("summary")
        facts = {"Data": "synthetic (half)", "Missing rate": 0.5, "Bayes-optimal AUC": BEST}
        write_reports(summary, facts, provenance({"plan": summary.plan}), tmp_path / "written")
        text = (tmp_path / "written" / "experiment.json").read_text(encoding="utf-8")
        written["text"] = text.replace('"recall@2"', '"auc"')
    for name, rate in RATES.items():
        path = tmp_path / name / "experiment.json"
        path.parent.mkdir()
        path.write_text(written["text"], encoding="utf-8")
        change(path.parent, lambda raw, r=rate: raw["data"].update({"Missing rate": r}))
    return {name: tmp_path / name for name in RATES}


def change(folder: Path, apply: Change) -> None:
    path = folder / "experiment.json"
    raw = json.loads(path.read_text(encoding="utf-8"))
    apply(raw)
    path.write_text(json.dumps(raw), encoding="utf-8")


def test_experiments_are_put_in_the_order_of_their_rates(
    folders: dict[str, Path], summary: Summary
) -> None:
    series = read_series(list(folders.values()))
    assert [point.name for point in series.points] == ["whole", "quarter", "half"]
    assert [point.rate for point in series.points] == ["0.0%", "25.0%", "50.0%"]
    assert (series.metric, series.metric_title, series.base) == ("auc", "AUC", "none")
    assert series.rows == tuple(summary.rows)
    assert series.compared == ("popularity", "last", "t2diff")
    point = series.points[0]
    assert point.best == BEST
    assert point.values["last"] == summary.estimate("last", "recall@2")
    assert point.gains["t2diff"] == summary.differences["t2diff", "recall@2"]


def test_another_metric_has_no_best(folders: dict[str, Path]) -> None:
    series = read_series(list(folders.values()), "mrr@20")
    assert series.metric_title == "mrr@20"
    assert not series.knows_best


def test_a_seed_that_failed_or_collapsed_does_not_count(folders: dict[str, Path]) -> None:
    change(
        folders["whole"],
        lambda raw: raw["rows"]["last"]["seeds"]["2"].update({"collapse": "constant scores"}),
    )
    whole, quarter, _ = read_series(list(folders.values())).points
    assert [len(p.values["last"].values) for p in (whole, quarter)] == [2, 3]
    assert len(whole.values["t2diff"].values) == 2


def test_a_row_that_failed_everywhere(folders: dict[str, Path], tmp_path: Path) -> None:
    def fail(raw: Any) -> None:
        for seed in raw["rows"]["last"]["seeds"].values():
            seed.update(metrics={}, failure="it diverged")
        nothing = {"by_seed": [], "seed_interval": [None] * 2, "user_interval": [None] * 2}
        raw["rows"]["last"]["difference"]["auc"].update(nothing)

    for folder in folders.values():
        change(folder, fail)
    run(arguments(folders, tmp_path))
    table = (tmp_path / "series.md").read_text(encoding="utf-8")
    assert table.count("| last |") == table.count("| last | - | - | - |") == 1


def test_a_row_that_one_experiment_lacks(folders: dict[str, Path], tmp_path: Path) -> None:
    change(folders["quarter"], lambda raw: raw["rows"].pop("last"))
    run(arguments(folders, tmp_path))
    table = (tmp_path / "series.md").read_text(encoding="utf-8")
    assert re.search(r"\| last \| \+[^|]+ \| - \| \+[^|]+ \|", table)


def arguments(folders: dict[str, Path], out: Path, *others: str) -> list[str]:
    return [
        "--experiments",
        *map(str, folders.values()),
        "--out",
        f"{out / 'series.html'}",
        *others,
    ]


def test_the_page_its_tables_and_its_numbers(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments(folders, tmp_path, "--plotted", "last")) == 0
    printed = capsys.readouterr().out
    page, table, raw = (
        (tmp_path / f"series.{kind}").read_text(encoding="utf-8") for kind in ("html", "md", "json")
    )
    numbers = json.loads(raw)
    assert numbers["kind"] == "series"
    point = numbers["points"][1]
    assert (point["experiment"], point["missing_rate"]) == ("quarter", 0.25)
    assert point["bayes_optimal_auc"] == BEST
    last = point["rows"]["last"]
    assert len(last["difference"]["seeds"]["values"]) == len(last["values"]) == 3
    for shown in (page, table, printed):
        assert f"{np.mean(last['difference']['seeds']['values']):+.4f}" in shown
        assert f"{last['mean']:.4f}" in shown
        assert "Bayes-optimal AUC" in shown
    assert page.count("<svg") == 3
    assert not re.search(r'(src|href)="[^#]', page)
    assert "What the next item &lt;is&gt; made of, by missing rate" in page


def test_figures_are_over_the_missing_rate(folders: dict[str, Path]) -> None:
    series = read_series(list(folders.values()))
    gains, values, panels = (
        gain_figure(series),
        values_figure(series, ["none", "last"]),
        interval_panels(series),
    )
    assert gains is not None
    assert panels is not None
    means = np.asarray(gains.axes[0].get_lines()[4].get_xydata())
    assert means[:, 0].tolist() == [0, 25, 50]
    assert means[:, 1] == pytest.approx([p.gains["last"].seeds.mean for p in series.points])
    assert [text.get_text() for text in gains.axes[0].texts] == ["none", *series.compared]
    names = [text.get_text() for text in values.axes[0].texts]
    assert names == ["Bayes-optimal AUC", "none", "last"]
    assert [axes.get_title(loc="left") for axes in panels.axes] == list(series.compared)


def test_a_loss_outside_the_axes_is_told_in_numbers(folders: dict[str, Path]) -> None:
    for folder in folders.values():
        change(
            folder,
            lambda raw: raw["rows"]["last"]["difference"]["auc"].update(by_seed=[-5.0, -5.1]),
        )
    series = read_series(list(folders.values()))
    gains, panels = gain_figure(series), interval_panels(series)
    assert gains is not None
    assert panels is not None
    assert "last ↓ -5.050" in [text.get_text() for text in gains.axes[0].texts]
    assert [[text.get_text() for text in axes.texts] for axes in panels.axes] == [
        [],
        ["↓ -5.050"],
        [],
    ]


def test_without_the_base_only_values_are_shown(folders: dict[str, Path], tmp_path: Path) -> None:
    def without_base(raw: Any) -> None:
        del raw["rows"]["none"]
        for row in raw["rows"].values():
            row["difference"] = {}

    for folder in folders.values():
        change(folder, without_base)
    run(arguments(folders, tmp_path))
    assert (tmp_path / "series.html").read_text(encoding="utf-8").count("<svg") == 1


@pytest.mark.parametrize(
    ("apply", "message"),
    [
        (lambda raw: raw["data"].update({"Missing rate": 0.2503}), "the same missing rate, 25.0%"),
        (
            lambda raw: raw["data"].pop("Missing rate"),
            "does not say the 'Missing rate' of its data",
        ),
        (
            lambda raw: raw["plan"].update(base="last"),
            "differ in their base: a series is of one plan",
        ),
        (lambda raw: raw["plan"]["metrics"].pop(), "differ in their metrics"),
        (lambda raw: raw["plan"]["variants"].pop("last"), "differ in their variants"),
        (lambda raw: raw["plan"]["options"].update({"loop.epochs": 9}), "differ in their options"),
        (lambda raw: raw["data"].update(Label="is_like"), "differ in their Label"),
        (lambda raw: raw.update(kind="index"), "is of the kind 'index', must be 'experiment'"),
        (lambda raw: raw.pop("rows"), "experiment.json is damaged"),
        (lambda raw: raw.pop("title"), "experiment.json is damaged"),
        (lambda raw: raw["provenance"].pop("command"), "experiment.json is damaged"),
        (lambda raw: raw["rows"]["last"]["difference"]["auc"].pop("by_seed"), "is damaged"),
    ],
)
def test_experiments_that_make_no_series(
    apply: Change, message: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    change(folders["whole"], apply)
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        run(arguments(folders, tmp_path))
    assert "\n" not in str(caught.value)
    assert "whole" in str(caught.value)
    assert not (tmp_path / "series.html").exists()


def test_options_that_do_not_fit(folders: dict[str, Path], tmp_path: Path) -> None:
    one = {"whole": folders["whole"]}
    for given, message in (
        (arguments(one, tmp_path), "--experiments names 1, which makes no series: give at least 2"),
        ([*arguments(folders, tmp_path)[:-1], "page.md"], "--out is 'page.md', must end in .html"),
        (arguments(folders, tmp_path, "--metric", "acu"), "--metric is 'acu', which the plan does"),
        (arguments(folders, tmp_path, "--plotted", "lats"), "did you mean last?; there are: pop"),
        (
            arguments({**one, "none": tmp_path}, tmp_path),
            "holds no experiment.json: name the --out",
        ),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            run(given)
