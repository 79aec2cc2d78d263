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
from typing import Any, Literal

from dropdrift.data.json_file import read_json
from dropdrift.data.schema import Schema
from dropdrift.training.config import CONFIG_FILE, EvaluateConfig, TrainConfig
from dropdrift.training.data_record import DATA_RECORD
from dropdrift.training.matching.config import PopularityBaseline, TransitionBaseline
from dropdrift.training.provenance import plain
from dropdrift.training.score_file import scores_path

PART: Literal["test"] = "test"

# What an evaluation may differ in and still be the same.
_FREE_OPTIONS = ("run_folder", "data", "out", "name", "preflight")
# What a run's folder holds before its configuration, which is written last.
_BEFORE_CONFIG = {"schema.yaml", "vocabularies", DATA_RECORD, "provenance.json", "checkpoints"}


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
        similarity: whether the estimates of its diffusion are compared with the drift too.
    """

    row: str
    seed: int
    config: TrainConfig
    evaluation: EvaluateConfig
    log: Path
    baseline: bool = False
    similarity: bool = False

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
    def similarity_file(self) -> Path:
        """How near the diffusion's estimates come."""
        return self.folder / f"similarity-{PART}.json"

    @property
    def has_begun(self) -> bool:
        """Whether the folder holds a run."""
        return (self.folder / CONFIG_FILE).is_file()

    def is_done(self) -> bool:
        """Whether nothing is left to do."""
        return self.is_evaluated() and (not self.similarity or self.similarity_file.is_file())

    def is_evaluated(self) -> bool:
        """Whether the result is there, of an evaluation with these very options."""
        scores = scores_path(self.result_file)
        if not self.result_file.is_file() or (self.evaluation.scores and not scores.is_file()):
            return False
        wanted = plain(self.baseline_options() if self.baseline else self.evaluation)
        # What an older version has not recorded was as it is by default.
        usual = {} if self.baseline else plain(EvaluateConfig(self.folder))
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
            made = read_json(self.result_file)["provenance"]["config"]["evaluation"]
            return _compared(usual | made) == _compared(wanted)
        return False

    def baseline_options(self) -> PopularityBaseline:
        """What a baseline counts, and how it is measured."""
        data, ks = self.config.data, self.evaluation.ks
        if self.row == "popularity":
            return PopularityBaseline(data=data, part=PART, ks=ks)
        return TransitionBaseline(
            data=data, part=PART, ks=ks, transition=self.evaluation.transition
        )


def _compared(options: dict[str, Any]) -> dict[str, Any]:
    """What decides an evaluation's numbers: of a baseline's data, how sequences are made."""
    kept = {key: value for key, value in options.items() if key not in _FREE_OPTIONS}
    data = options["data"]
    return {**kept, "sequence": data["sequence"]} if isinstance(data, dict) else kept


def is_diffusing(config: TrainConfig) -> bool:
    """Whether a run has a diffusion to look into."""
    diffusions = ("diffusion", "diffusion-joint")
    return config.model.kind == "t2diff" and config.model.t2diff.next_item in diffusions


def check_may_go_on(run: Run, schema: Schema) -> None:
    """ValueError where model and data do not belong together, or the folder holds another run."""
    from dropdrift.training.run_folder import RunFolder

    run.config.check_kind_of(schema)
    if run.baseline:
        return
    if run.has_begun:
        RunFolder(run.folder).resumable_state(run.config, schema)
    elif run.folder.is_dir():
        for path in run.folder.iterdir():
            if path.name not in _BEFORE_CONFIG:
                raise ValueError(f"{run.folder} is not empty: choose another --out, or remove it")


def begin(run: Run) -> None:
    """Clear what a run that was stopped before it began has left; see :func:`check_may_go_on`."""
    if not run.has_begun and run.folder.is_dir():
        shutil.rmtree(run.folder)


def is_trained(run: Run) -> bool:
    """Whether the training has come to its end."""
    from dropdrift.training.run_folder import RunFolder

    return run.has_begun and RunFolder(run.folder).is_complete()


def perform(run: Run) -> None:
    """Train what is not trained, and evaluate the checkpoint that validation has chosen.

    Raises:
        ValueError: whatever is wrong with options or data, or a loss that is not finite.
    """
    if run.baseline:
        _evaluate_baseline(run)
        return
    from dropdrift.training.trainer import train

    begin(run)
    if not is_trained(run):
        train(replace(run.config, resume=run.has_begun), show_progress=False)
    if not run.is_evaluated():
        _evaluate(run)
    if run.similarity:
        from dropdrift.training.experiments.drift import measure_similarity

        measure_similarity(run.config, PART).save(run.similarity_file)


def _evaluate(run: Run) -> None:
    from dropdrift.training.evaluation import evaluate
    from dropdrift.training.matching.evaluation import evaluate_matching

    make = evaluate if run.config.model.kind == "ranking" else evaluate_matching
    result = make(run.evaluation, run.config, show_progress=False)
    assert result is not None, "a run of an experiment has one process"
    result.save(run.result_file)


def _evaluate_baseline(run: Run) -> None:
    from dropdrift.training.matching.baselines import evaluate_baseline

    evaluate_baseline(run.baseline_options()).save(run.result_file)
