"""The runs of an experiment: what each is, whether it may go on, and carrying it out.

```
OUT/runs/VARIANT/seed-S/    a run's folder, with evaluation-test.json and ranks-test.parquet
OUT/logs/VARIANT-seed-S.log what the run said
```

torch is imported where a run is carried out, not before.
"""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dropdrift.data.schema import Schema
from dropdrift.training.config import CONFIG_FILE, EvaluateConfig, TrainConfig
from dropdrift.training.provenance import plain, read_json

PART = "test"

# What an evaluation may differ in and still be the same.
_FREE_OPTIONS = ("run_folder", "data", "out", "name")
# What a run's folder holds before its configuration, which is written last.
_BEFORE_CONFIG = {"schema.yaml", "vocabularies", "provenance.json", "checkpoints"}


@dataclass(frozen=True)
class Run:
    """One variant, or one baseline, with one seed.

    Attributes:
        row: name of the variant or baseline.
        seed: the seed.
        config: what is trained, ``out`` being the run's folder; of a baseline, its data alone
            counts.
        evaluation: how it is evaluated.
        log: file for what it says.
        baseline: whether nothing is trained.
    """

    row: str
    seed: int
    config: TrainConfig
    evaluation: EvaluateConfig
    log: Path
    baseline: bool = False

    @property
    def folder(self) -> Path:
        """Where all of it is."""
        return self.config.out

    @property
    def title(self) -> str:
        """As the user is told of it."""
        return f"{self.row}, seed {self.seed}"

    @property
    def result_file(self) -> Path:
        """The evaluation's result."""
        return self.folder / f"evaluation-{PART}.json"

    @property
    def has_begun(self) -> bool:
        """Whether the folder holds a run."""
        return (self.folder / CONFIG_FILE).is_file()

    def is_evaluated(self) -> bool:
        """Whether the result is there, of an evaluation with these very options."""
        if not self.result_file.is_file():
            return False
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
            made = read_json(self.result_file)["provenance"]["config"]
            wanted = plain({"evaluation": self.evaluation, "training": self.config})
            return _compared(made, self.baseline) == _compared(wanted, self.baseline)
        return False


def _compared(options: dict[str, Any], baseline: bool) -> dict[str, Any]:
    """What decides an evaluation's numbers, of the provenance's ``config``.

    A trained run's own configuration is compared elsewhere, where it is refused.
    """
    kept = {k: v for k, v in options["evaluation"].items() if k not in _FREE_OPTIONS}
    return {**kept, "sequence": options["training"]["data"]["sequence"]} if baseline else kept


def check_may_go_on(run: Run, schema: Schema) -> None:
    """ValueError where the folder holds something else than this run, begun or complete."""
    from dropdrift.training.run_folder import RunFolder

    if run.baseline:
        return
    if run.has_begun:
        RunFolder(run.folder).resumable_state(run.config, schema)
    elif run.folder.is_dir():
        for path in run.folder.iterdir():
            if path.name not in _BEFORE_CONFIG:
                raise ValueError(f"{run.folder} is not empty: choose another --out, or remove it")


def perform(run: Run) -> None:
    """Train what is not trained, and evaluate the checkpoint that validation has chosen.

    Raises:
        ValueError: whatever is wrong with options or data, or a loss that is not finite.
    """
    if run.baseline:
        _evaluate_baseline(run)
        return
    from dropdrift.training.trainer import train

    if not run.has_begun and run.folder.is_dir():
        shutil.rmtree(run.folder)  # stopped before it began; see check_may_go_on
    train(replace(run.config, resume=run.has_begun), show_progress=False)
    _evaluate(run)


def _evaluate(run: Run) -> None:
    from dropdrift.training.matching.evaluation import evaluate_matching

    result = evaluate_matching(run.evaluation, run.config, show_progress=False)
    assert result is not None, "a run of an experiment has one process"
    result.save(run.result_file)


def _evaluate_baseline(run: Run) -> None:
    raise NotImplementedError
