"""The folder of a run: everything needed to evaluate, serve or resume it, and nothing else.

```
schema.yaml  vocabularies/  data.json  provenance.json      what was trained on what
config.yaml                                                 written after these: a run has begun
log.jsonl  tensorboard/  preflight.json                     how it went, on what ranks
not-finite/                                                 batches whose loss was no number
checkpoints/step-N/                                         weights
result.json                                                 written last: the run is complete
```
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any, get_args

import yaml

from dropdrift.data.encoding.vocabulary import VOCABULARY_FOLDER, load_vocabularies
from dropdrift.data.json_file import read_json
from dropdrift.data.schema import SCHEMA_FILE, Schema
from dropdrift.data.yaml_file import read_yaml
from dropdrift.models.methods.config import MethodKind
from dropdrift.training.checkpoint import (
    TrainingState,
    checkpoint_path,
    committed_steps,
    newest_good_step,
    read_state,
    set_aside,
    verify_checkpoint,
)
from dropdrift.training.config import CONFIG_FILE, TrainConfig
from dropdrift.training.data_record import check_data_record, write_data_record
from dropdrift.training.durable_files import sync
from dropdrift.training.provenance import (
    job_id,
    plain,
    provenance,
    write_result,
    write_whole,
)

# Options and sections that may differ where a run is resumed: they decide nothing about the
# weights, which any plan of any ranks takes over.
FREE_OPTIONS = (
    "out",
    "resume",
    "plan",
    "preflight",
    "sharding",
    "data.path",
    "data.prefetch",
    "loop.timeout",
    "loop.save_in_background",
)


class RunFolder:
    """Paths in a run's folder, and what may be done with it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config_file = path / CONFIG_FILE
        self.checkpoints = path / "checkpoints"
        self.log_file = path / "log.jsonl"
        self.tensorboard = path / "tensorboard"
        self.provenance_file = path / "provenance.json"
        self.preflight_file = path / "preflight.json"
        self.result_file = path / "result.json"

    def new_state(self, config: TrainConfig, schema: Schema) -> TrainingState:
        """The state of a run that may begin in this folder.

        Raises:
            ValueError: there is something in the folder, or the data lacks a vocabulary, which
                would show only when the model serves.
        """
        if self.path.exists() and any(self.path.iterdir()):
            begun = self.config_file.is_file()
            raise ValueError(
                f"{self.path} {'holds a run' if begun else 'is not empty'}: choose another --out"
                f"{', go on with --resume, or remove it' if begun else ''}"
            )
        load_vocabularies(config.data.path, schema)
        return TrainingState(schema=schema.fingerprint())

    def create(self, config: TrainConfig) -> None:
        """Make the folder of a new run, with its configuration, schema and vocabularies."""
        self.checkpoints.mkdir(parents=True)
        shutil.copy(config.data.path / SCHEMA_FILE, self.path)
        vocabularies = config.data.path / VOCABULARY_FOLDER
        if vocabularies.is_dir():
            shutil.copytree(vocabularies, self.path / VOCABULARY_FOLDER)
        write_data_record(self.path, config.data.path, Schema.load(self.path).kind)
        write_result(self.provenance_file, provenance(config, config.loop.seed))
        # A run that has begun has all that it needs, after a power cut too.
        for path in (self.path.parent, *self.path.rglob("*")):
            sync(path)
        save_config(config, self.config_file)

    def resumable_state(self, config: TrainConfig, schema: Schema) -> TrainingState:
        """The state of the newest good checkpoint, if ``config`` may go on from it.

        Damaged ones after it are set aside, in one line on stderr. A run that was stopped before
        its first checkpoint begins again.

        Raises:
            ValueError: there is no run, all of its checkpoints are damaged, it has ended and the
                newest is, or options or data have changed.
        """
        if not self.config_file.is_file():
            raise ValueError(
                f"{self.path} holds no checkpoint to resume from and no run: leave --resume out"
            )
        saved = read_yaml(self.config_file)
        if not isinstance(saved, dict):
            raise ValueError(f"{self.config_file} is damaged: it holds no options")
        # An option that is newer than the run had its default.
        saved = _overridden(plain(TrainConfig()), saved)
        for option, was, now in _differences(saved, plain(config)):
            if not f"{option}.".startswith(tuple(f"{free}." for free in _free_options(config))):
                raise ValueError(
                    f"cannot resume {self.path}: --{option} was {was}, and is now {now}: give what "
                    "it was, or another --out"
                )
        damage: dict[int, str] = {}
        steps = committed_steps(self.checkpoints)
        if steps and self.is_complete():
            # What it was to bring is there: nothing goes on from another checkpoint.
            verify_checkpoint(self.checkpoints, steps[-1])
            state = read_state(self.checkpoints, steps[-1])
        elif steps:
            step, damage = newest_good_step(self.checkpoints)
            state = read_state(self.checkpoints, step)
        elif self.is_complete():
            raise ValueError(f"{self.path} has ended and its checkpoints are gone: remove it")
        else:
            state = TrainingState(schema=Schema.load(self.path).fingerprint())
        if state.schema != schema.fingerprint():
            raise ValueError(
                f"cannot resume {self.path}: the schema of {config.data.path} is not the one that "
                f"was trained on ({self.path / SCHEMA_FILE})"
            )
        check_data_record(self.path, config.data.path, schema.kind)
        if damage:
            self._set_aside(damage, state)
        if not checkpoint_path(self.checkpoints, state.best_step).is_dir():
            # It made room for a better one, which was damaged: the best is sought anew.
            state.best_step, state.best_value, state.best_metrics = -1, 0.0, {}
        return state

    def _set_aside(self, damage: dict[int, str], state: TrainingState) -> None:
        """Take the damaged checkpoints away and say so; ``state`` is where the run goes on."""
        names = [set_aside(self.checkpoints, step).name for step in damage]
        print(
            f"dropdrift: {', '.join(damage.values())}: set aside as {', '.join(names)}; going on "
            f"from step {state.step}",
            file=sys.stderr,
            flush=True,
        )

    def best_step(self, schema: Schema) -> int:
        """Step of the checkpoint to use, verified: the best by validation.

        Raises:
            ValueError: the run has no committed checkpoint, it is damaged, or was trained with
                another schema.
        """
        steps = committed_steps(self.checkpoints)
        if not steps:
            raise ValueError(f"{self.checkpoints} holds no whole checkpoint: has training begun?")
        newest = read_state(self.checkpoints, steps[-1])
        if newest.schema != schema.fingerprint():
            raise ValueError(f"{self.path / SCHEMA_FILE} is not what the run was trained with")
        best = newest.best_step if newest.best_step in steps else steps[-1]
        verify_checkpoint(self.checkpoints, best)
        return best

    def is_of_this_job(self) -> bool:
        """Whether the job that this process belongs to has begun the run, and was started again."""
        job = job_id()
        if job is None or not (self.config_file.is_file() and self.provenance_file.is_file()):
            return False
        begun_by: bool = read_json(self.provenance_file).get("job") == job
        return begun_by

    def outcome(self) -> Any:
        """What :meth:`write_outcome` wrote; ValueError where the file is damaged."""
        return read_json(self.result_file)

    def write_outcome(self, outcome: dict[str, Any]) -> None:
        """Write ``result.json``."""
        write_result(self.result_file, outcome)

    def is_complete(self) -> bool:
        """Whether the run has ended as planned."""
        return self.result_file.is_file()

    def trim_log(self, step: int) -> None:
        """Drop the entries after ``step``, which a resumed run writes again, and broken ones."""
        if self.log_file.is_file():
            lines = self.log_file.read_text(encoding="utf-8", errors="replace").splitlines()
            kept = [f"{line}\n" for line in lines if _step_of(line) <= step]
            write_whole(self.log_file, "".join(kept))


def save_config(config: Any, path: Path) -> None:
    """Write the dataclass ``config`` with all its options to the YAML file ``path``."""
    # Escaped: PyYAML does not read back every line separator that it writes with allow_unicode.
    write_whole(path, yaml.safe_dump(plain(config), sort_keys=False))


def _free_options(config: TrainConfig) -> tuple[str, ...]:
    """What may differ where this run is resumed: the options of other methods, too."""
    others = (method for method in get_args(MethodKind) if method != config.model.method)
    return (*FREE_OPTIONS, *(f"model.{method}" for method in others))


def _step_of(line: str) -> float:
    """The step of an entry of the log; infinity for half a line, as an interruption leaves it."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, TypeError, KeyError):
        return float("inf")


def _overridden(defaults: dict[str, Any], saved: dict[str, Any]) -> dict[str, Any]:
    """``saved`` with the ``defaults`` of what it leaves out, in sections too."""
    both = defaults | saved
    for name, default in defaults.items():
        if isinstance(default, dict) and isinstance(both[name], dict):
            both[name] = _overridden(default, both[name])
    return both


def _differences(old: Any, new: Any, prefix: str = "") -> list[tuple[str, Any, Any]]:
    """Dotted names with their old and new values."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            difference
            for key in sorted(old.keys() | new.keys())
            for difference in _differences(old.get(key), new.get(key), f"{prefix}{key}.")
        ]
    return [] if old == new else [(prefix[:-1], old, new)]
