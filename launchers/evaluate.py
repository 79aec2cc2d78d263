"""``dropdrift evaluate``: metrics of a run, with nothing and with features dropped."""

from __future__ import annotations

from dropdrift.launchers.options import load_config, parse_config
from dropdrift.training.config import EvaluateConfig, TrainConfig


def run(arguments: list[str]) -> int:
    """Evaluate the best checkpoint of a run, write the result and print it."""
    options = parse_config(
        EvaluateConfig,
        arguments,
        prog="dropdrift evaluate",
        description="Evaluate the best checkpoint of a run, on one process or under torchrun.",
    )
    config = load_config(TrainConfig, options.run / "config.yaml")
    from dropdrift.training.evaluation import evaluate
    from dropdrift.training.report import print_comparison

    result = evaluate(options, config)
    if result is not None:
        path = options.out or options.run / f"evaluation-{options.part}.json"
        result.save(path)
        print_comparison([result])
        print(f"Written to {path}")
    return 0
