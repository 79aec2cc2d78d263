"""Summaries of made-up results, their tables and their page."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from scipy import stats

from dropdrift.training.experiments.drift import Similarity
from dropdrift.training.experiments.matching import MatchingMeasures
from dropdrift.training.experiments.measures import UserValues
from dropdrift.training.experiments.plan import Plan
from dropdrift.training.experiments.plots import (
    curves_figure,
    difference_figure,
    metric_figure,
    schedule_figure,
    similarity_figure,
)
from dropdrift.training.experiments.report import grids, write_reports
from dropdrift.training.experiments.statistics import bootstrap_intervals
from dropdrift.training.experiments.summary import Outcome, Summary, summarise
from dropdrift.training.experiments.tables import difference_grids, main_grid, warning_lines
from dropdrift.training.figures import to_svg
from dropdrift.training.matching.metrics import matching_metrics
from dropdrift.training.matching.result import MatchingResult, ranks_path
from dropdrift.training.matching.result import Variant as Scored
from dropdrift.training.provenance import provenance
from dropdrift.training.terminal import print_grid

Outcomes = dict[str, list[Outcome]]
WriteResult = Callable[..., object]


def test_rows_that_do_not_have_all_seeds_yet(plan: Plan, outcomes: Outcomes) -> None:
    some = {**outcomes, "last": outcomes["last"][:2]}
    for rows, seeds in ((outcomes, "3 seeds"), (some, "2 to 3 seeds")):
        grid = main_grid(summarise(plan, rows, MatchingMeasures(plan)))
        assert f"deviation over {seeds}, 400 users each." in grid.note


def test_users_average_to_the_numbers(outcomes: Outcomes, plan: Plan) -> None:
    for outcome in outcomes["none"]:
        assert outcome.users is not None
        means = dict(zip(plan.metrics, outcome.users.values.mean(axis=0), strict=True))
        assert means == pytest.approx(dict(outcome.numbers))


def test_differences_are_paired_by_seed_and_by_user(
    summary: Summary, outcomes: Outcomes, plan: Plan
) -> None:
    metric = "recall@20"
    new, base = ([o.numbers[metric] for o in outcomes[row]] for row in ("last", "none"))
    found = summary.differences["last", metric]
    assert found.seeds.values == pytest.approx([n - b for n, b in zip(new, base, strict=True)])
    expected = stats.ttest_rel(new, base).confidence_interval(0.95)
    assert (found.by_seed.low, found.by_seed.high) == pytest.approx((expected.low, expected.high))
    users = np.mean(
        [
            n.users.values - b.users.values
            for n, b in zip(outcomes["last"], outcomes["none"], strict=True)
            if n.users and b.users
        ],
        axis=0,
    )
    column = plan.metrics.index(metric)
    assert found.by_user == bootstrap_intervals(users)[column]


def test_a_failed_seed_is_left_out_and_named(summary: Summary) -> None:
    assert len(summary.estimate("t2diff", "recall@2").values) == 2
    assert len(summary.differences["t2diff", "recall@2"].seeds.values) == 2
    rows = [row[0] for row in main_grid(summary).rows]
    assert rows == [
        "popularity",
        "none",
        "last",
        "t2diff, 1 of 3 failed",
        "t2diff, published",
        "SASRec, published",
    ]
    assert warning_lines(summary) == ["t2diff, seed 3, failed: the loss is nan at step 40"]


def test_a_baseline_has_one_value(summary: Summary) -> None:
    cell = main_grid(summary).rows[0][1]
    assert re.fullmatch(r"0\.\d{4}", cell)


def test_a_split_that_changes_with_the_seed_keeps_users_apart(
    plan: Plan, outcomes: Outcomes
) -> None:
    def halved(outcome: Outcome) -> Outcome:
        users = outcome.users
        assert users is not None
        kept = np.arange(len(users.users)) % 2 == outcome.seed % 2
        halved = UserValues(users.users[kept], users.values[kept], users.weights[kept])
        return replace(outcome, users=halved)

    rows = {row: [halved(o) for o in outcomes[row]] for row in ("none", "last")}
    summary = summarise(plan, rows, MatchingMeasures(plan))
    assert summary.test_rows == 200
    interval = summary.differences["last", "recall@20"].by_user
    assert interval.low < interval.high


def test_results_of_different_users_are_refused(plan: Plan, outcomes: Outcomes) -> None:
    last = outcomes["last"][1]
    assert last.users is not None
    other = replace(last.users, users=np.char.add(last.users.users, "x"))
    outcomes["last"][1] = replace(last, users=other)
    with pytest.raises(ValueError, match=r"'last' \(seed 2\) were evaluated on different users"):
        summarise(plan, outcomes, MatchingMeasures(plan))


def test_without_the_base_nothing_is_compared(plan: Plan, outcomes: Outcomes) -> None:
    del outcomes["none"]
    summary = summarise(plan, outcomes, MatchingMeasures(plan))
    assert not summary.differences
    assert not list(difference_grids(summary))
    assert difference_figure(summary, "recall@2") is None


def test_all_seeds_of_a_variant_failed(plan: Plan, outcomes: Outcomes, tmp_path: Path) -> None:
    outcomes["last"] = [Outcome(seed, failure="it diverged") for seed in (1, 2, 3)]
    summary = summarise(plan, outcomes, MatchingMeasures(plan))
    assert main_grid(summary).rows[2] == ("last, failed", "-", "-", "-", "-")
    write_reports(summary, {}, provenance({}), tmp_path)
    numbers = json.loads((tmp_path / "experiment.json").read_text())
    assert numbers["rows"]["last"]["mean"] == dict.fromkeys(plan.metrics)


class References(HTMLParser):
    """Collects tags, and what a browser would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href") and not (value or "").startswith("#"):
                self.fetched.append(f"{name}={value}")


def test_the_reports(summary: Summary, tmp_path: Path) -> None:
    write_reports(summary, {"Users": 6040}, provenance({"plan": summary.plan}), tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    references = References()
    references.feed(page)
    assert references.fetched == []
    assert not {"link", "script", "img", "iframe"} & set(references.tags)
    assert references.tags.count("svg") == 4 + 4 + 1
    assert "What the next item &lt;is&gt; made of" in page
    table = (tmp_path / "report.md").read_text(encoding="utf-8")
    for grid in grids(summary):
        for cell in (cell for row in grid.rows for cell in row):
            assert cell in table
    assert "6,040" in page
    assert "6,040" in table
    numbers = json.loads((tmp_path / "experiment.json").read_text())
    assert numbers["kind"] == "experiment"
    found = numbers["rows"]["last"]["difference"]["mrr@20"]
    assert len(found["by_seed"]) == 3
    assert found["user_interval"][0] < found["mean"] < found["user_interval"][1]
    assert numbers["provenance"]["versions"]["dropdrift"]


def test_the_terminal_cuts_no_number(summary: Summary) -> None:
    stream = io.StringIO()
    for grid in grids(summary):
        print_grid(grid, Console(width=80, file=stream))
    assert "…" not in stream.getvalue()


def test_equal_summaries_make_equal_figures(summary: Summary) -> None:
    for draw in (lambda: metric_figure(summary, "mrr@20"), lambda: curves_figure(summary)):
        first, second = draw(), draw()
        assert first is not None
        assert second is not None
        assert to_svg(first) == to_svg(second)


def test_a_variant_that_has_gone_wrong_leaves_room_for_the_others(
    plan: Plan, outcomes: Outcomes
) -> None:
    base, shift = outcomes["none"], 0.01

    def shifted(by: float) -> list[Outcome]:
        return [replace(o, numbers={m: v + by for m, v in o.numbers.items()}) for o in base]

    rows = {f"sound-{by}": shifted(by) for by in (shift, -shift)} | {"none": base}
    rows["wrong"] = [replace(o, numbers=dict.fromkeys(o.numbers, 1e-4)) for o in base]
    summary = summarise(plan, rows, MatchingMeasures(plan))
    figure = difference_figure(summary, "included/hr@20")
    assert figure is not None
    low, high = figure.axes[0].get_xlim()
    assert -0.05 < low < -shift
    assert shift < high < 0.05
    mean = summary.differences["wrong", "included/hr@20"].seeds.mean
    assert mean < -8 * shift
    (text,) = figure.axes[0].texts
    assert f"{mean:+.4f}" in text.get_text()
    values = metric_figure(summary, "included/hr@20").axes[0]
    assert values.get_xlim()[0] > summary.estimate("wrong", "included/hr@20").mean
    assert "0.0001" in values.texts[0].get_text()


def test_a_row_whose_z_has_shrunk_is_named(plan: Plan, outcomes: Outcomes) -> None:
    variances = {"none": (0.05, 0.07), "last": (0.03, 0.01), "t2diff": (1e-4, 2e-4)}
    rows = {
        row: [replace(o, z_variance=v) for o, v in zip(outcomes[row], found, strict=False)]
        for row, found in variances.items()
    }
    (line,) = warning_lines(summarise(plan, rows, MatchingMeasures(plan)))
    assert line.startswith("t2diff, near a collapse: the variance of z is 1.5e-04")
    assert line.endswith("0.25% of that of none")


def test_curves_show_seeds_and_their_mean(summary: Summary) -> None:
    figure = curves_figure(summary)
    assert figure is not None
    lines = figure.axes[0].get_lines()
    assert len(lines) == 3 * (3 + 1)
    assert figure.axes[0].get_ylabel() == "recall@20, validation part"


def test_weights_of_transition_counts_are_rows_and_noise_seeds_are_averaged(
    plan: Plan, tmp_path: Path, write_result: WriteResult
) -> None:
    path = tmp_path / "evaluation-test.json"
    write_result(path, "none", 1, 0.5)
    result, table = MatchingResult.load(path), pq.read_table(ranks_path(path))
    scored, tables = [], []
    for weight, noise_seed, divisor in ((0.0, 0, 1), (0.0, 1, 2), (0.5, 0, 3)):
        unseen = table["rank_unseen"].to_numpy() // divisor + 1
        columns = {
            "rank_unseen": unseen,
            "rank_all": unseen + 1,
            "transition_weight": np.full(len(unseen), weight),
            "noise_seed": np.full(len(unseen), noise_seed),
        }
        tables.append(pa.table({"user": table["user"], "item": table["item"], **columns}))
        metrics = (matching_metrics(unseen), matching_metrics(unseen + 1))
        scored.append(Scored(weight, noise_seed, *metrics))
    replace(result, variants=tuple(scored), ranks=pa.concat_tables(tables)).save(path)

    measures = MatchingMeasures(plan)
    numbers, users = measures.numbers(path), measures.users(path)
    assert list(numbers) == [0.0, 0.5]
    first, second = (part.among_unseen.recall[4] for part in scored[:2])
    assert numbers[0.0]["recall@20"] == pytest.approx((first + second) / 2)
    for weight, found in users.items():
        means = dict(zip(plan.metrics, found.values.mean(axis=0), strict=True))
        assert means == pytest.approx(numbers[weight])


def test_a_metric_that_was_not_measured(
    plan: Plan, tmp_path: Path, write_result: WriteResult
) -> None:
    write_result(tmp_path / "evaluation-test.json", "none", 1, 0.5)
    measures = MatchingMeasures(replace(plan, metrics=("recall@7",), published={}))
    with pytest.raises(ValueError, match=r"evaluation-test\.json has no recall@7"):
        measures.numbers(tmp_path / "evaluation-test.json")


def test_figures_of_the_diffusion(summary: Summary) -> None:
    assert similarity_figure(summary) is None
    assert schedule_figure(summary) is None
    similar = Similarity((3, 2, 1), (-0.1, 0.0, 0.1), (0.2, 0.3, 0.4), (0.5, 0.6, 0.7), 40)
    rows = dict(summary.rows)
    rows["t2diff"] = tuple(replace(outcome, similarity=similar) for outcome in rows["t2diff"])
    shown = replace(summary, rows=rows, schedules={"t2diff": (0.1, 0.2, 0.9)})
    nearness = similarity_figure(shown)
    assert nearness is not None
    assert np.asarray(nearness.axes[0].get_lines()[2].get_ydata()) == pytest.approx([0.2, 0.3, 0.4])
    schedule = schedule_figure(shown)
    assert schedule is not None
    left = np.asarray(schedule.axes[1].get_lines()[0].get_ydata())
    assert left == pytest.approx(np.sqrt([0.9, 0.9 * 0.8, 0.9 * 0.8 * 0.1]))


def test_similarity_is_read_as_it_was_written(tmp_path: Path) -> None:
    similar = Similarity((2, 1), (-0.1, 0.0), (0.2, 0.3), (0.5, 0.6), 40)
    similar.save(tmp_path / "similarity-test.json")
    assert Similarity.load(tmp_path / "similarity-test.json") == similar
    (tmp_path / "broken.json").write_text("{}")
    with pytest.raises(ValueError, match=r"broken\.json is damaged"):
        Similarity.load(tmp_path / "broken.json")
