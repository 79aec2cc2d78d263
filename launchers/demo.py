"""``dropdrift demo``: DCN-V2 and AsymDiffRec trained and compared on built-in data."""

from __future__ import annotations

import dataclasses
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dropdrift.launchers.options import parse_config
from dropdrift.launchers.prepare import SyntheticOptions, prepare_source
from dropdrift.training.config import CONFIG_FILE, EvaluateConfig, TrainConfig

if TYPE_CHECKING:
    from dropdrift.training.result import EvaluationResult

MODELS = ("dcnv2", "asymdiffrec")


@dataclass(frozen=True)
class DemoOptions:
    """How much the demonstration does.

    Attributes:
        out: Folder for data, runs and report; what an earlier demonstration left is replaced.
        rows: Impressions to make.
        seeds: Runs of each model, with seeds 1, 2, ...; the comparison is paired by seed.
    """

    out: Path = Path("runs/demo")
    rows: int = 100_000
    seeds: int = 3

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise ValueError(f"seeds is {self.seeds}, must be positive")


def run(arguments: list[str]) -> int:
    """Make the data, train and evaluate each model with each seed, print the comparison."""
    options = parse_config(
        DemoOptions,
        arguments,
        prog="dropdrift demo",
        description="Train DCN-V2 and AsymDiffRec on a made-up music application and compare.",
    )
    from dropdrift.data.synthetic import SyntheticSource
    from dropdrift.training.report import print_comparison, write_report

    data = SyntheticOptions(out=options.out / "data", rows=options.rows, overwrite=True)
    source = SyntheticSource(data.rows, data.seed, data.users, data.songs, data.days, data.width)
    for model in MODELS:
        _remove_runs(options.out / model)
    prepare_source(source, data)
    results = [
        _train_and_evaluate(model, seed, options.out)
        for seed in range(1, options.seeds + 1)
        for model in MODELS
    ]
    results.sort(key=lambda result: MODELS.index(result.name))
    print_comparison(results)
    write_report(results, options.out / "report.html")
    print(
        f"One who knows the true probabilities reaches AUC {source.bayes_auc():.4f}. "
        f"Plots: {options.out / 'report.html'}"
    )
    return 0


def _remove_runs(folder: Path) -> None:
    """Remove an earlier demonstration's runs of one model; ValueError if that is not all."""
    if folder.exists():
        for run in folder.iterdir():
            if not (run / CONFIG_FILE).is_file():
                raise ValueError(f"{run} is no run of a demonstration: choose another --out")
        shutil.rmtree(folder)


def _train_and_evaluate(model: str, seed: int, out: Path) -> EvaluationResult:
    """The best checkpoint of one run on the test part."""
    from dropdrift.training.evaluation import evaluate
    from dropdrift.training.trainer import train

    run_folder = out / model / f"seed-{seed}"
    recipe = parse_config(
        TrainConfig,
        ["--recipe", f"{model}-demo", "--data.path", str(out / "data"), "--loop.seed", str(seed)],
        prog="dropdrift demo",
        description="",
        recipe=True,
    )
    config = dataclasses.replace(recipe, out=run_folder)
    print(f"{model}, seed {seed}: training, then scoring the test part")
    train(config)
    result = evaluate(EvaluateConfig(run_folder=run_folder, name=model), config)
    assert result is not None, "the demonstration runs on one process"
    result.save(run_folder / "evaluation-test.json")
    return result
