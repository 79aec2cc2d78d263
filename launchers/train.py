"""``dropdrift train``: train a model on prepared data."""

from __future__ import annotations

from dropdrift.launchers.options import parse_config
from dropdrift.training.config import TrainConfig


def run(arguments: list[str]) -> int:
    """Train as the options say and print the best validation."""
    config = parse_config(
        TrainConfig,
        arguments,
        prog="dropdrift train",
        description="Train a ranking model on prepared data, on one process or under torchrun.",
        recipe=True,
    )
    from dropdrift.training.trainer import train

    outcome = train(config)
    if outcome is not None:  # the first rank has it
        metrics = outcome["validation"]
        print(
            f"{config.out}: {outcome['steps']} steps in {outcome['seconds']:.0f} s, "
            f"{outcome['rows_per_second']:,.0f} rows/s; best at step {outcome['best_step']}: "
            f"validation AUC {metrics['auc']:.4f}, UAUC {metrics['uauc']:.4f}, "
            f"log-loss {metrics['log_loss']:.4f}"
        )
    return 0
