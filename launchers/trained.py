"""The configuration of a run, as the commands that use a trained model read it."""

from __future__ import annotations

from pathlib import Path

from dropdrift.launchers.options import load_config
from dropdrift.training.config import CONFIG_FILE, TrainConfig


def trained_config(run: Path) -> TrainConfig:
    """What ``run`` was trained with.

    Raises:
        ValueError: the folder holds no run, or its configuration is damaged.
    """
    path = run / CONFIG_FILE
    if not path.is_file():
        raise ValueError(
            f"--run-folder {run} holds no run, which has a {CONFIG_FILE}: give the --out of "
            "'dropdrift train'"
        )
    return load_config(TrainConfig, path)
