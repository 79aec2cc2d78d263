"""``dropdrift evaluate``: metrics of a run, with nothing and with features dropped."""

from __future__ import annotations

from dropdrift.launchers.options import parse_config
from dropdrift.launchers.trained import trained_config
from dropdrift.training.config import EvaluateConfig


def run(arguments: list[str]) -> int:
    """Evaluate the best checkpoint of a run, write the result and print it."""
    options = parse_config(
        EvaluateConfig,
        arguments,
        prog="dropdrift evaluate",
        description="Evaluate the best checkpoint of a run, on one process or under torchrun.",
    )
    config = trained_config(options.run_folder)
    path = options.out or options.run_folder / f"evaluation-{options.part}.json"
    from dropdrift.training.evaluation import evaluate
    from dropdrift.training.provenance import check_writable
    from dropdrift.training.report import print_comparison

    check_writable(path)
    result = evaluate(options, config)
    if result is not None:
        result.save(path)
        print_comparison([result])
        print(f"Written to {path}")
    return 0
