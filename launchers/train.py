"""``dropdrift train``: train a model on prepared data."""

from __future__ import annotations

from dropdrift.data.config import check_divides
from dropdrift.launchers.options import parse_config
from dropdrift.training.config import TrainConfig

_MATCHING = {"recall": "recall", "ndcg": "NDCG", "mrr": "MRR"}


def run(arguments: list[str]) -> int:
    """Train as the options say and print the best validation."""
    config = parse_config(
        TrainConfig,
        arguments,
        prog="dropdrift train",
        description="Train a model on prepared data, on one process or under torchrun.",
        recipe=True,
        judge=check_processes,
    )
    from dropdrift.training.trainer import train

    outcome = train(config)
    if outcome is not None:  # the first rank has it
        print(
            f"{config.out}: {outcome['steps']} steps in {outcome['seconds']:.0f} s, "
            f"{outcome['rows_per_second']:,.0f} rows/s; best at step {outcome['best_step']}: "
            f"validation {_main_metrics(config, outcome['validation'])}"
        )
    return 0


def check_processes(config: TrainConfig, processes: int) -> None:
    """ValueError where so many processes do not divide the batches."""
    if config.model.kind == "ranking":
        config.data.lanes_on(processes)
    else:  # whose rows are shuffled together, without lanes
        check_divides("data.batch_size", config.data.batch_size, processes)


def _main_metrics(config: TrainConfig, metrics: dict[str, float]) -> str:
    if config.model.kind == "ranking":
        names = {"auc": "AUC", "uauc": "UAUC", "log_loss": "log-loss"}
    else:
        at = config.loop.select_at
        names = {f"{key}@{at}": f"{label}@{at}" for key, label in _MATCHING.items()}
    return ", ".join(f"{label} {metrics[name]:.4f}" for name, label in names.items())
