"""``dropdrift evaluate``: metrics of a run, whatever its model."""

from __future__ import annotations

from pathlib import Path

from dropdrift.data.config import check_divides
from dropdrift.launchers.options import parse_config
from dropdrift.launchers.trained import trained_config
from dropdrift.training.config import EVALUATION_OF_MATCHING, EvaluateConfig, TrainConfig


def run(arguments: list[str]) -> int:
    """Evaluate the best checkpoint of a run, write the result and print it."""
    options = parse_config(
        EvaluateConfig,
        arguments,
        prog="dropdrift evaluate",
        description="Evaluate the best checkpoint of a run, on one process or under torchrun.",
        judge=lambda options, processes: check_divides("batch_size", options.batch_size, processes),
    )
    config = trained_config(options.run_folder)
    path = options.result_file
    if config.model.kind == "ranking":
        _check_for_ranking(options)
    elif options.scores:
        raise ValueError(
            f"--scores is for ranking models, and {options.run_folder} holds a matching model, "
            "whose ranks are always written"
        )
    from dropdrift.training.provenance import check_writable

    check_writable(path)
    evaluate = _evaluate_ranking if config.model.kind == "ranking" else _evaluate_matching
    if evaluate(options, config, path):
        print(f"Written to {path}")
    return 0


def _evaluate_ranking(options: EvaluateConfig, config: TrainConfig, path: Path) -> bool:
    """Whether this process has written and printed the result."""
    from dropdrift.training.evaluation import evaluate
    from dropdrift.training.report import print_comparison

    result = evaluate(options, config)
    if result is not None:
        result.save(path)
        print_comparison([result])
    return result is not None


def _evaluate_matching(options: EvaluateConfig, config: TrainConfig, path: Path) -> bool:
    """As :func:`_evaluate_ranking`."""
    from dropdrift.training.matching.evaluation import evaluate_matching
    from dropdrift.training.matching.summary import print_result

    result = evaluate_matching(options, config)
    if result is not None:
        result.save(path)
        print_result(result)
    return result is not None


def _check_for_ranking(options: EvaluateConfig) -> None:
    """ValueError for an option that a ranking model has nothing to do with."""
    defaults = EvaluateConfig(options.run_folder)
    for name in EVALUATION_OF_MATCHING:
        if getattr(options, name) != getattr(defaults, name):
            flag = name.replace("_", "-")
            raise ValueError(
                f"--{flag} is for matching models, and {options.run_folder} holds a ranking model"
            )
