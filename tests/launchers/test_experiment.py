"""``dropdrift experiment``: a small one from the plan to the report, and users' mistakes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from dropdrift.launchers.experiment_plans import plan_names
from dropdrift.launchers.experiment_runs import resolve
from dropdrift.launchers.options import recipe_names
from dropdrift.training.experiments.plan import load_plan

pytestmark = pytest.mark.timeout(240)

PLAN: dict[str, Any] = {
    "title": "A small experiment",
    "recipe": "t2diff-paper",
    "base": "none",
    "metrics": ["recall@2", "hr@10", "included/mrr@20"],
    "options": {
        "data.batch_size": 16,
        "data.sequence.protocol": "standard",
        "data.sequence.window": 12,
        "model.item.fields": ["item_id", "tags"],
        "model.t2diff.diffusion.window": 8,
        "loop.max_steps": 4,
        "loop.validate_every": 2,
    },
    "variants": {
        "none": {"options": {"model.t2diff.next_item": "none"}},
        "last": {"options": {"model.t2diff.next_item": "last"}},
        "diffusion": {"options": {"model.t2diff.diffusion.steps": 3}},
        "diverging": {
            "options": {
                "model.t2diff.next_item": "none",
                "optimizer.learning_rate": 1.0e30,
                "optimizer.sparse_learning_rate": 1.0e30,
            }
        },
    },
    "baselines": ["popularity", "transitions"],
    "published": {"none": {"recall@2": 0.06308}},
    "figures": ["schedules", "similarity"],
}


@pytest.fixture
def write_plan(tmp_path: Path) -> Callable[..., Path]:
    """Writes the small plan, changed by ``keys=value``."""

    def write(**changes: Any) -> Path:
        path = tmp_path / "plan.yaml"
        path.write_text(yaml.safe_dump(PLAN | changes, sort_keys=False), encoding="utf-8")
        return path

    return write


def test_from_plan_to_report(
    command: Callable[..., Any],
    interactions_folder: Path,
    write_plan: Callable[..., Path],
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    arguments = ["--data", interactions_folder, "--out", out, "--seeds", 2]
    first = ("experiment", "--plan", write_plan(), *arguments)

    ended = command(*first, "--jobs", 2)
    assert ended.code == 0, ended.messages
    for seed in (1, 2):  # each has kept another batch
        assert f"diverging, seed {seed}, failed: the loss of step " in ended.output
    numbers = json.loads((out / "experiment.json").read_text())
    assert list(numbers["rows"]) == ["popularity", "transitions", *PLAN["variants"]]
    assert numbers["data"]["Users in the protocol"] == 40
    last = numbers["rows"]["last"]
    by_seed = last["difference"]["hr@10"]["by_seed"]
    base = numbers["rows"]["none"]["seeds"]
    for seed, difference in zip(("1", "2"), by_seed, strict=True):
        new, old = (s[seed]["metrics"]["hr@10"] for s in (last["seeds"], base))
        assert difference == pytest.approx(new - old)
    assert len(base["1"]["validation"]) == 2
    assert numbers["rows"]["diverging"]["seeds"]["2"]["failure"].startswith("the loss of")
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 3 + 3 + 1 + 2
    similarity = numbers["rows"]["diffusion"]["seeds"]["1"]["similarity"]
    assert similarity["steps"] == [3, 2, 1]
    assert all(
        -1 <= low <= high <= 1
        for low, high in zip(similarity["low"], similarity["high"], strict=True)
    )
    assert "none, published" in page
    assert "| last |" in (out / "report.md").read_text(encoding="utf-8")

    # One run lost its evaluation, another was stopped before its first checkpoint; the rest is
    # not run again.
    results = {path: path.stat().st_mtime_ns for path in out.rglob("evaluation-test.json")}
    (out / "runs/none/seed-1/evaluation-test.json").unlink()
    shutil.rmtree(out / "runs/last/seed-2/checkpoints")
    for name in ("evaluation-test.json", "result.json"):
        (out / "runs/last/seed-2" / name).unlink()
    again = command(*first, "--only", "none", "last", "popularity")
    assert again.code == 0, again.messages
    assert "none, seed 1: " in again.messages
    assert "last, seed 2: " in again.messages
    assert again.messages.count("seed") == 2
    repeated = json.loads((out / "experiment.json").read_text())["rows"]
    assert "diverging" not in repeated
    for row in ("none", "last"):
        for seed in ("1", "2"):
            expected = numbers["rows"][row]["seeds"][seed]["metrics"]
            assert repeated[row]["seeds"][seed]["metrics"] == expected
    kept = {p for p, time in results.items() if p.stat().st_mtime_ns == time}
    assert len(kept) == len(results) - 2

    # The folder holds this plan's runs and no other's.
    other = write_plan(options=PLAN["options"] | {"data.batch_size": 8})
    refused = command("experiment", "--plan", other, *arguments)
    assert refused.code == 2
    assert "none/seed-1: --data.batch_size was 16, and is now 8" in refused.messages


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recipe": "t2dif-paper"}, "unknown recipe 't2dif-paper'; did you mean t2diff-paper?"),
        ({"base": "nne"}, "base is 'nne', must be one of the variants"),
        ({"metrics": ["recal@2"]}, "metrics names 'recal@2': name recall@K"),
        ({"metrics": []}, "metrics is empty"),
        ({"metrics": ["hr@2", "hr@2"]}, "metrics names 'hr@2' more than once: name it once"),
        ({"options": {"loop.epoch": 3}}, "unknown option 'loop.epoch'; did you mean loop.epochs?"),
        ({"options": {"loop.epochs": "many"}}, "loop.epochs is 'many', must be a whole number"),
        ({"options": {"loop.seed": 3}}, "the option 'loop.seed' is the experiment's own"),
        (
            {"variants": {"none": {"options": {"model.t2diff.nextitem": "last"}}}},
            "variant 'none': unknown option 'model.t2diff.nextitem'; did you mean",
        ),
        ({"variants": {}}, "variants is empty"),
        ({"variants": {"none": {"option": {}}}}, "variant 'none' has the unknown key 'option'"),
        ({"variants": {"none": None, "a/b": None}}, "variant 'a/b' cannot be the name of a folder"),
        ({"variants": {"none": None, "popularity": None}}, "has the name of a baseline"),
        ({"baselines": ["bigrams"]}, "baselines is 'bigrams', must be one of popularity"),
        ({"published": {"none": {"recall@2": "high"}}}, "none: recall@2 is 'high'"),
        ({"published": {"none": {"mrr@2": 0.1}}}, "mrr@2 is not among the metrics"),
        ({"evaluate": {"weights": [1]}}, "evaluate: unknown option 'weights'"),
        ({"title": None}, "title is None, must be of type str"),
        ({"unknown": 1}, "the plan has the unknown key 'unknown'"),
        ({"seed_options": ["data.sequence.seed"]}, "unknown option 'data.sequence.seed'"),
    ],
)
def test_mistakes_in_a_plan(
    changes: dict[str, Any],
    message: str,
    mistake: Callable[..., str],
    interactions_folder: Path,
    write_plan: Callable[..., Path],
    tmp_path: Path,
) -> None:
    path = write_plan(**changes)
    arguments = ("--plan", path, "--data", interactions_folder, "--out", tmp_path / "out")
    line = mistake("experiment", *arguments)
    assert line.startswith(f"{path}: ")
    assert message in line


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seeds", 1], "--seeds is 1, which shows no spread: give at least 2"),
        (["--seeds", 0], "--seeds is 0"),
        (["--ranks", 0], "--ranks is 0, must be positive"),
        (["--ranks", 2], "--ranks is 2, but 'popularity' is counted by one process"),
        (["--recipes", "sasrec", "t2diff"], "give either --plan or --recipes"),
        (["--metrics", "hr@10"], "--metrics goes with --recipes"),
        (["--jobs", 0], "--jobs is 0, must be positive"),
        (["--only", "lst"], "--only names 'lst', which the plan does not have; did you mean last?"),
        (["--plan", "t2diff-table5"], "unknown plan 't2diff-table5'; did you mean t2diff-table"),
        (["--plan", "none.yaml"], "none.yaml does not exist"),
        (["--data", "nowhere"], "nowhere"),
    ],
)
def test_mistakes_on_the_command_line(
    options: list[Any],
    message: str,
    mistake: Callable[..., str],
    interactions_folder: Path,
    write_plan: Callable[..., Path],
    tmp_path: Path,
) -> None:
    usual = ["--plan", write_plan(), "--data", interactions_folder, "--out", tmp_path / "out"]
    assert message in mistake("experiment", *usual, *options)


def test_folders_that_are_not_of_an_experiment(
    mistake: Callable[..., str],
    interactions_folder: Path,
    write_plan: Callable[..., Path],
) -> None:
    plan = write_plan()
    usual = ["--plan", plan, "--data", interactions_folder]
    line = mistake("experiment", *usual, "--out", interactions_folder)
    assert "which holds schema.yaml, as data and runs do: name a folder of its own" in line
    assert "which is no folder: name one" in mistake("experiment", *usual, "--out", plan)


def test_data_of_another_kind(
    mistake: Callable[..., str],
    prepared_folder: Path,
    write_plan: Callable[..., Path],
    tmp_path: Path,
) -> None:
    usual = ("--plan", write_plan(), "--data", prepared_folder, "--out", tmp_path / "out")
    line = mistake("experiment", *usual)
    assert "holds impressions, but model.kind 't2diff' learns from interactions" in line


def test_variants_that_learn_different_things(
    mistake: Callable[..., str],
    interactions_folder: Path,
    write_plan: Callable[..., Path],
    tmp_path: Path,
) -> None:
    arguments = ("--data", interactions_folder, "--out", tmp_path / "out")
    plan = write_plan(
        options={},
        metrics=["auc"],
        variants={"none": {"recipe": "dcnv2"}, "last": None},
    )
    line = mistake("experiment", "--plan", plan, *arguments)
    assert "variant 'last' is of matching (model.kind) and the base 'none' of ranking" in line
    line = mistake("experiment", "--recipes", "dcnv2,asymdiffrec", *arguments)
    assert "holds interactions, but model.kind 'ranking' learns from impressions" in line


@pytest.mark.parametrize("name", plan_names())
def test_plans_that_come_with_dropdrift(name: str, tmp_path: Path) -> None:
    path = Path(__file__).parents[2] / "launchers/experiments" / f"{name}.yaml"
    plan = load_plan(path)
    runs, _ = resolve(plan, tmp_path, tmp_path / "out", seeds=3)
    assert len(runs) == 3 * len(plan.rows)
    configs = [run.config for run in runs if run.seed == 1 and not run.baseline]
    distinct = {repr(config.model) + repr(config.data) for config in configs}
    assert len(distinct) == len(configs), "two variants are the same"


def test_the_names_of_the_plans() -> None:
    assert {"t2diff-table2", "t2diff-table2-file-order", "t2diff-table3", "t2diff-table4"} <= set(
        plan_names()
    )
    assert "t2diff-standard" in plan_names()
    assert "t2diff-paper" in recipe_names()
