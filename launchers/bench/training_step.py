"""``dropdrift bench training-step``: training steps with and without a method."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from dropdrift.benchmarks.config import TrainingStepOptions
from dropdrift.launchers.bench import BENCHMARKS
from dropdrift.launchers.options import parse_config
from dropdrift.launchers.prepare import SyntheticOptions, prepare_source
from dropdrift.training.config import TrainConfig

if TYPE_CHECKING:
    from dropdrift.benchmarks.spread import Spread


def run(arguments: list[str]) -> int:
    """Time training steps of the base model and of a method, and the loader by itself."""
    options = parse_config(
        TrainingStepOptions,
        arguments,
        prog="dropdrift bench training-step",
        description=BENCHMARKS["training-step"],
    )
    from dropdrift.benchmarks.training_step import measure_step_costs
    from dropdrift.training.provenance import provenance, write_result

    config = parse_config(
        TrainConfig,
        ["--recipe", options.recipe, "--data.path", str(options.data or _synthetic(options.out))],
        prog="dropdrift bench training-step",
        description="",
        recipe=True,
    )
    costs = measure_step_costs(config, options.method, options.steps, options.repetitions)
    print(f"batch of {config.data.batch_size} rows; median (lowest to highest)")
    print(f"base             {_text(costs.base_ms)} ms a step")
    print(f"{costs.method:<15}  {_text(costs.method_ms)} ms a step")
    print(f"ratio            {_text(costs.ratio)}")
    print(f"loader alone     {_text(costs.loader_rows_per_second)} rows/s,")
    print(f"                 {costs.loader_ratio:.1f} times what the base's training takes")
    payload = {
        "kind": "training-step",
        **asdict(costs),
        "provenance": provenance({"benchmark": options, "training": config}, config.loop.seed),
    }
    write_result(options.out, payload)
    print(f"Written to {options.out}")
    return 0


def _synthetic(out: Path) -> Path:
    """The default data set, made once."""
    from dropdrift.data.synthetic import SyntheticSource

    folder = out.parent / "synthetic"
    if not folder.exists():
        data = SyntheticOptions(out=folder, rows=60_000)
        prepare_source(SyntheticSource(rows=data.rows), data)
    return folder


def _text(spread: Spread) -> str:
    return spread.text(0 if spread.median >= 1000 else 2)
