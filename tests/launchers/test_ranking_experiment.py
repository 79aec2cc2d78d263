"""``dropdrift experiment`` of ranking models: from recipes or a plan to the report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from sklearn.metrics import roc_auc_score

from dropdrift.training.comparison import NOTHING
from dropdrift.training.score_file import read_scores

pytestmark = pytest.mark.timeout(240)

SMALL = {
    "data": {"batch_size": 32},
    "model": {"dcnv2": {"cross_layers": 1, "deep_widths": [8], "z_width": 4}},
    "loop": {"max_steps": 4, "validate_every": 2},
}
# Tables that are zero and stay so give every row the same score.
CONSTANT = {"model.embedding_init_std": 0.0, "optimizer.sparse_learning_rate": 1e-30}
DIVERGING = {"optimizer.learning_rate": 1e30, "optimizer.sparse_learning_rate": 1e30}
METRICS = ["auc", "uauc", "auc@50%", "log_loss@identifiers"]


@pytest.fixture
def recipes(tmp_path: Path) -> list[Path]:
    """The base and AsymDiffRec, small."""
    paths = []
    for method in ("base", "asymdiffrec"):
        path = tmp_path / f"small-{method}.yaml"
        recipe = SMALL | {"model": {**SMALL["model"], "method": method}}
        path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
        paths.append(path)
    return paths


def test_from_a_plan_to_the_report(
    command: Callable[..., Any], prepared_folder: Path, recipes: list[Path], tmp_path: Path
) -> None:
    plan = tmp_path / "plan.yaml"
    variants = {
        "base": None,
        "asymdiffrec": {"options": {"model.method": "asymdiffrec"}},
        "constant": {"options": CONSTANT},
        "diverging": {"options": DIVERGING},
    }
    text = {"title": "Small", "base": "base", "metrics": METRICS, "variants": variants}
    plan.write_text(yaml.safe_dump({**text, "recipe": str(recipes[0])}), encoding="utf-8")
    out = tmp_path / "out"
    usual = ("--plan", plan, "--data", prepared_folder, "--out", out, "--seeds", 2)
    ended = command("experiment", *usual)
    assert ended.code == 0, ended.messages

    told = ended.output
    assert "constant, seed 1, collapsed: all scores of 'click' are 0." in told
    assert "diverging, seed 1, failed: the loss of step " in told
    rows = json.loads((out / "experiment.json").read_text())["rows"]
    assert rows["constant"]["seeds"]["2"]["collapse"]
    assert rows["constant"]["mean"]["auc"] is None, "a collapse is in no mean"
    new, base = (rows[row]["seeds"]["2"]["metrics"] for row in ("asymdiffrec", "base"))
    for metric in METRICS:
        difference = rows["asymdiffrec"]["difference"][metric]
        assert difference["by_seed"][1] == pytest.approx(new[metric] - base[metric])
        low, high = difference["user_interval"]
        assert low <= difference["mean"] <= high
    improvement = rows["asymdiffrec"]["relative_improvement"]["uauc"]["by_seed"][1]
    assert improvement == pytest.approx(new["uauc"] / base["uauc"] - 1)

    scores = read_scores(out / "runs/asymdiffrec/seed-2/scores-test.parquet")
    labels = scores.labels["click"]
    known = ~np.isnan(labels)
    for metric, drop in (("auc", NOTHING), ("auc@50%", ("share", 0.5))):
        logits = scores.logits["click", drop]
        assert roc_auc_score(labels[known], logits[known]) == pytest.approx(new[metric])

    page = (out / "report.html").read_text(encoding="utf-8")
    assert "click with fields dropped" in page
    assert "Calibration of click" in page
    assert "constant, collapsed" in page
    assert len(rows["base"]["seeds"]["1"]["validation"]) == 2

    # What is there is not run again; a lost file of scores is made again.
    (out / "runs/base/seed-1/scores-test.parquet").unlink()
    again = command("experiment", *usual, "--only", "base", "asymdiffrec", "constant")
    assert again.code == 0, again.messages
    assert again.messages.count("seed") == 1
    assert "base, seed 1: " in again.messages
    repeated = json.loads((out / "experiment.json").read_text())["rows"]
    assert repeated["base"]["mean"] == rows["base"]["mean"]

    # A damaged file is named, with what to do.
    damaged = out / "runs/asymdiffrec/seed-1/scores-test.parquet"
    sound = damaged.read_bytes()
    damaged.write_bytes(sound[:1000])
    refused = command("experiment", *usual, "--only", "base")
    assert refused.code == 2
    assert f"{damaged} cannot be read as Parquet" in refused.messages
    assert "seed-1/evaluation-test.json, and the run is evaluated again" in refused.messages
    damaged.write_bytes(sound)

    # What is only reported must be what the plan says, too.
    variants["constant"] = {"options": CONSTANT | {"loop.max_steps": 8}}
    plan.write_text(yaml.safe_dump(yaml.safe_load(plan.read_text()) | {"variants": variants}))
    refused = command("experiment", *usual, "--only", "base")
    assert refused.code == 2
    assert "constant/seed-1: --loop.max_steps was 4, and is now 8" in refused.messages


@pytest.mark.timeout(400)
def test_two_ranks_train_what_one_does_and_tell_their_failures(
    command: Callable[..., Any], prepared_folder: Path, recipes: list[Path], tmp_path: Path
) -> None:
    # As many lanes, so that the batches are the same.
    small = yaml.safe_load(recipes[1].read_text(encoding="utf-8"))
    small["data"]["lanes"] = 2
    rates = {name.split(".")[1]: value for name, value in DIVERGING.items()}
    paths = [tmp_path / "sound.yaml", tmp_path / "broken.yaml"]
    for path, optimizer in zip(paths, ({}, rates), strict=True):
        recipe = small | {"optimizer": optimizer}
        path.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    found = {}
    for ranks, only in ((1, "sound"), (2, "sound broken")):
        out = tmp_path / f"ranks-{ranks}"
        arguments = ("--data", prepared_folder, "--out", out, "--seeds", 2, "--ranks", ranks)
        chosen = ("--recipes", *paths, "--metrics", "auc", "--only", *only.split())
        ended = command("experiment", *chosen, *arguments)
        assert ended.code == 0, ended.messages
        seeds = json.loads((out / "experiment.json").read_text())["rows"]["sound"]["seeds"]
        found[ranks] = [seeds[seed]["metrics"]["auc"] for seed in "12"]
    assert found[1] == pytest.approx(found[2], abs=2e-3)
    assert "broken, seed 1: failed: rank " in ended.messages
    assert "the loss of step 2 is nan" in ended.messages


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--metrics", "acu"), "metrics names 'acu': name auc, uauc, log_loss"),
        (("--metrics", "auc@45%"), "behind @ stands one of 10%, 20%"),
        (("--metrics", "auc@title"), "behind @ stands one of"),
        (("--metrics", "buy/auc"), "but the tasks are click (model.tasks)"),
    ],
)
def test_mistakes_in_metrics(
    options: tuple[str, ...],
    message: str,
    mistake: Callable[..., str],
    prepared_folder: Path,
    recipes: list[Path],
    tmp_path: Path,
) -> None:
    usual = ("--data", prepared_folder, "--out", tmp_path / "out", "--recipes", *recipes)
    assert message in mistake("experiment", *usual, *options)


@pytest.mark.parametrize(
    ("recipes_given", "message"),
    [
        (["dcnv2,asymdifrec"], "unknown recipe 'asymdifrec'; did you mean asymdiffrec"),
        (["dcnv2"], "--recipes names 1: give at least 2"),
        (["dcnv2,dcnv2"], "--recipes has two that are called 'dcnv2'"),
    ],
)
def test_mistakes_in_recipes(
    recipes_given: list[str],
    message: str,
    mistake: Callable[..., str],
    prepared_folder: Path,
    tmp_path: Path,
) -> None:
    usual = ("--data", prepared_folder, "--out", tmp_path / "out", "--recipes", *recipes_given)
    assert message in mistake("experiment", *usual)


def test_ranks_that_do_not_divide_the_batches_of_the_evaluation(
    mistake: Callable[..., str], prepared_folder: Path, recipes: list[Path], tmp_path: Path
) -> None:
    for recipe in recipes:
        text = recipe.read_text(encoding="utf-8")
        recipe.write_text(text.replace("batch_size: 32", "batch_size: 33"), encoding="utf-8")
    usual = ("--data", prepared_folder, "--out", tmp_path / "out", "--recipes", *recipes)
    line = mistake("experiment", *usual, "--ranks", 3)
    assert "'small-base': evaluate: batch_size is 4096, which 3 ranks do not divide" in line


@pytest.mark.parametrize(
    ("evaluate", "message"),
    [
        ({"scores": False}, "evaluate: the option 'scores' is the experiment's own: leave it out"),
        ({"ks": [5]}, "evaluate: ks is of matching models, and 'base' ranks: leave it out"),
        ({"transition.smoothing": 1}, "evaluate: transition.smoothing is of matching models"),
    ],
)
def test_evaluations_that_a_plan_of_ranking_models_cannot_have(
    evaluate: dict[str, Any],
    message: str,
    mistake: Callable[..., str],
    prepared_folder: Path,
    recipes: list[Path],
    tmp_path: Path,
) -> None:
    text = {"title": "Small", "base": "base", "metrics": METRICS, "variants": {"base": None}}
    plan = tmp_path / "plan.yaml"
    made = text | {"recipe": str(recipes[0]), "evaluate": evaluate}
    plan.write_text(yaml.safe_dump(made), encoding="utf-8")
    usual = ("--plan", plan, "--data", prepared_folder, "--out", tmp_path / "out")
    assert mistake("experiment", *usual).startswith(f"{plan}: {message}")
