"""The folder of a run: everything needed to evaluate, serve or resume it, and nothing else.

```
config.yaml  schema.yaml  vocabularies/  provenance.json    what was trained on what
log.jsonl  tensorboard/                                     how it went
checkpoints/step-N/                                         weights
result.json                                                 written last: the run is complete
```
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import yaml

from dropdrift.data.schema import SCHEMA_FILE, Schema
from dropdrift.training.checkpoint import (
    TrainingState,
    committed_steps,
    read_state,
)
from dropdrift.training.config import TrainConfig
from dropdrift.training.provenance import plain, provenance, write_result

CONFIG_FILE = "config.yaml"
VOCABULARIES = "vocabularies"


class RunFolder:
    """Paths in a run's folder, and what may be done with it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config_file = path / CONFIG_FILE
        self.checkpoints = path / "checkpoints"
        self.log_file = path / "log.jsonl"
        self.tensorboard = path / "tensorboard"
        self.result_file = path / "result.json"

    def create(self, config: TrainConfig) -> None:
        """Make the folder of a new run, with its configuration, schema and vocabularies.

        Raises:
            ValueError: there is something in it already.
        """
        if self.path.exists() and any(self.path.iterdir()):
            raise ValueError(
                f"{self.path} is not empty: choose another --out, or go on with --resume"
            )
        self.checkpoints.mkdir(parents=True)
        text = yaml.safe_dump(plain(config), sort_keys=False)
        self.config_file.write_text(text, encoding="utf-8")
        shutil.copy(config.data.path / SCHEMA_FILE, self.path)
        if (config.data.path / VOCABULARIES).is_dir():
            shutil.copytree(config.data.path / VOCABULARIES, self.path / VOCABULARIES)
        write_result(self.path / "provenance.json", provenance(config, config.loop.seed))

    def resumable_state(self, config: TrainConfig, schema: Schema) -> TrainingState:
        """The state of the newest checkpoint, if ``config`` may go on from it.

        Raises:
            ValueError: there is no checkpoint, it is damaged, or options or data have changed.
        """
        steps = committed_steps(self.checkpoints)
        if not steps or not self.config_file.is_file():
            raise ValueError(f"{self.path} holds no checkpoint to resume from")
        saved = yaml.safe_load(self.config_file.read_text(encoding="utf-8"))
        for option, was, now in _differences(saved, plain(config)):
            if option not in ("out", "resume", "data.path", "data.prefetch", "loop.timeout"):
                raise ValueError(
                    f"cannot resume {self.path}: --{option} was {was}, and is now {now}"
                )
        state = read_state(self.checkpoints, steps[-1])
        if state.schema != schema.fingerprint():
            raise ValueError(
                f"cannot resume {self.path}: the schema of {config.data.path} is not the one that "
                f"was trained on ({self.path / SCHEMA_FILE})"
            )
        return state

    def best_step(self) -> int:
        """Step of the checkpoint to use: the best by validation.

        Raises:
            ValueError: the run has no committed checkpoint.
        """
        steps = committed_steps(self.checkpoints)
        if not steps:
            raise ValueError(f"{self.checkpoints} holds no whole checkpoint: has training begun?")
        best = read_state(self.checkpoints, steps[-1]).best_step
        return best if best in steps else steps[-1]

    def write_outcome(self, outcome: dict[str, Any]) -> None:
        """Write ``result.json``."""
        write_result(self.result_file, outcome)

    def is_complete(self) -> bool:
        """Whether the run has ended as planned."""
        return self.result_file.is_file()

    def trim_log(self, step: int) -> None:
        """Drop the entries after ``step``, which a resumed run writes again."""
        if self.log_file.is_file():
            lines = self.log_file.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [line for line in lines if json.loads(line)["step"] <= step]
            self.log_file.write_text("".join(kept), encoding="utf-8")


def _differences(old: Any, new: Any, prefix: str = "") -> list[tuple[str, Any, Any]]:
    """Dotted names with their old and new values."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            difference
            for key in sorted(old.keys() | new.keys())
            for difference in _differences(old.get(key), new.get(key), f"{prefix}{key}.")
        ]
    return [] if old == new else [(prefix[:-1], old, new)]
