"""Tables and figures of ranking models with fields dropped."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.training.ranking_results import result

from dropdrift.training.comparison import Estimate, Models, by_model
from dropdrift.training.end_labels import gain_limits, spread_apart
from dropdrift.training.experiments.robustness import robustness_grids
from dropdrift.training.experiments.robustness_page import (
    calibration_section,
    robustness_section,
)
from dropdrift.training.experiments.robustness_plots import (
    calibration_panels,
    gain_by_block_figure,
    gain_by_share_figure,
)
from dropdrift.training.figures import to_svg
from dropdrift.training.result import EvaluationResult, TaskResult

LABEL = "is_click"
SEEDS = (1, 2, 3)


@pytest.fixture(scope="module")
def models() -> Models:
    skills = {"New": 1.5, "dcnv2": 1.0, "Other": 0.8}
    found = [result(name, seed, skill) for name, skill in skills.items() for seed in SEEDS]
    return {**by_model(found), "failed": ()}


def auc(results: tuple[EvaluationResult, ...], share: float) -> list[float]:
    points = [r.tasks[LABEL].metrics("share", share) for r in results]
    return [point.auc for point in points if point]


def test_grids_have_a_row_for_each_variant_and_a_column_for_each_drop(models: Models) -> None:
    means, differences, *_ = grids = list(robustness_grids(models, "dcnv2", LABEL))
    assert len(grids) == 4
    drops = ("Nothing", "30%", "90%", "User", "Item", "Identifiers")
    assert means.header == differences.header == ("Variant", *drops)
    assert [row[0] for row in means.rows] == ["New", "dcnv2", "Other"]
    assert [row[0] for row in differences.rows] == ["New", "Other"]
    assert means.rows[1][2] == f"{np.mean(auc(models['dcnv2'], 0.3)):.4f}"
    paired = np.subtract(auc(models["New"], 0.3), auc(models["dcnv2"], 0.3))
    assert differences.rows[0][2] == f"{paired.mean():+.4f} ±{paired.std(ddof=1):.4f}"
    assert grids[3].title == "is_click, UAUC with fields dropped, difference to dcnv2"


def test_a_share_that_the_table_has_no_room_for(models: Models) -> None:
    task = models["New"][0].tasks[LABEL]
    points = [replace(p, value=0.2) if p.value == 0.3 else p for p in task.robustness]
    one = replace(models["New"][0], tasks={LABEL: replace(task, robustness=tuple(points))})
    grid = next(robustness_grids({"New": (one,)}, "New", LABEL))
    assert grid.header[1:3] == ("Nothing", "90%")


def test_without_the_base_nothing_is_compared(models: Models) -> None:
    left = {**models, "dcnv2": ()}
    assert [grid.title for grid in robustness_grids(left, "dcnv2", LABEL)] == [
        "is_click, AUC with fields dropped",
        "is_click, UAUC with fields dropped",
    ]
    assert gain_by_share_figure(left, "dcnv2", LABEL, "auc") is None
    assert gain_by_block_figure(left, "dcnv2", LABEL, "auc") is None


def test_lines_are_the_mean_gains_and_each_has_its_name(models: Models) -> None:
    figure = gain_by_share_figure(models, "dcnv2", LABEL, "auc")
    assert figure is not None
    (axes,) = figure.axes
    _, seeds, means = (np.asarray(line.get_xydata()) for line in axes.get_lines()[:3])
    assert seeds.shape == (3 * len(SEEDS), 2)
    gain = np.mean(np.subtract(auc(models["New"], 0.9), auc(models["dcnv2"], 0.9)))
    assert means[-1].tolist() == pytest.approx([90, gain])
    assert [text.get_text() for text in axes.texts] == ["dcnv2", "New", "Other"]
    ticks = [text.get_text() for text in axes.get_xticklabels()]
    assert ticks[1] == f"90\n{np.mean(auc(models['dcnv2'], 0.9)):.3f}".replace("0.", ".")


def test_each_block_has_a_panel_with_the_variants_as_rows(models: Models) -> None:
    figure = gain_by_block_figure(models, "dcnv2", LABEL, "uauc")
    assert figure is not None
    titles = [axes.get_title(loc="left").split("\n")[0] for axes in figure.axes]
    assert titles == ["all user fields", "all item fields", "all identifiers", ""]
    points, mean = (np.asarray(line.get_xydata()) for line in figure.axes[1].get_lines()[:2])
    assert points.shape == (len(SEEDS), 2)
    assert mean[0, 0] == pytest.approx(points[:, 0].mean())
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["New", "Other"]


def test_each_variants_calibration_has_a_panel(models: Models) -> None:
    figure = calibration_panels(models, LABEL)
    assert figure is not None
    assert [axes.get_title(loc="left").split("\n")[0] for axes in figure.axes] == [
        "New",
        "dcnv2",
        "Other",
    ]
    assert len(figure.axes[0].get_lines()) == len(SEEDS) + 1


def test_equal_results_make_equal_figures(models: Models) -> None:
    first, second = (gain_by_share_figure(models, "dcnv2", LABEL, "auc") for _ in range(2))
    assert first is not None
    assert second is not None
    assert to_svg(first) == to_svg(second)


def test_the_section_of_the_page(models: Models) -> None:
    page = "\n".join(robustness_section(models, "dcnv2", LABEL))
    assert page.count("<svg") == page.count("<table") == 4
    assert "\n".join(calibration_section(models, LABEL)).count("<svg") == 1
    bare = {LABEL: TaskResult(models["New"][0].tasks[LABEL].complete)}
    undropped = {"New": (replace(models["New"][0], tasks=bare),)}
    assert not list(robustness_section(undropped, "New", LABEL))
    assert not list(calibration_section(undropped, LABEL))


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ([0.5], [0.5]),
        ([0.9, 0.1, 0.5], [0.9, 0.1, 0.5]),
        ([0.5, 0.5], [0.45, 0.55]),
        ([0.5, 0.45, 0.1], [0.525, 0.425, 0.1]),
        ([1.0, 1.0, 1.0], [0.8, 0.9, 1.0]),
        ([0.0, -0.3], [0.1, 0.0]),
    ],
)
def test_names_move_apart_as_little_as_they_can(wanted: list[float], expected: list[float]) -> None:
    assert spread_apart(wanted, 0.1, 0.0, 1.0) == pytest.approx(expected)


def test_a_model_that_has_gone_wrong_leaves_room_for_the_others() -> None:
    sound = [[Estimate((gain, gain + 0.001))] for gain in (-0.004, 0.001, 0.002)]
    low, high = gain_limits(sound)
    assert low < -0.004
    assert high > 0.003
    low, high = gain_limits([*sound, [Estimate((-0.2, -0.21))]])
    assert -0.02 < low < -0.004
    assert high > 0.003
    low, _ = gain_limits([[Estimate((-0.2,))], [Estimate(())]])
    assert low < -0.2


def test_a_loss_outside_the_axes_is_told_in_numbers(models: Models) -> None:
    small = {f"like {skill}": [result("x", s, skill) for s in SEEDS] for skill in (1.01, 1.02)}
    found = {"dcnv2": models["dcnv2"], **{name: tuple(r) for name, r in small.items()}}
    found["inverted"] = tuple(result("inverted", s, -1.0) for s in SEEDS)
    shares, blocks = (
        draw(found, "dcnv2", LABEL, "auc") for draw in (gain_by_share_figure, gain_by_block_figure)
    )
    assert shares is not None
    assert blocks is not None
    lost = np.mean(np.subtract(auc(found["inverted"], 0.9), auc(found["dcnv2"], 0.9)))
    assert f"inverted ↓ {lost:+.3f}" in [text.get_text() for text in shares.axes[0].texts]
    assert [text.get_text()[:3] for text in blocks.axes[0].texts] == ["← -"]
