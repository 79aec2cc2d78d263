"""Checkpoints: directories that are either whole or not there.

``checkpoints/step-N/`` holds torch.distributed.checkpoint's files, ``state.json``, ``plan.json``
(the sharding plan that it was trained by) and, written last, ``COMMITTED`` with the SHA-256 of
every file. A directory is written under another name, renamed when complete, and never written
into again: :mod:`dropdrift.training.checkpoint_writer`.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torchrec.distributed import DistributedModelParallel

from dropdrift.data.json_file import read_json
from dropdrift.data.typed_mapping import shown
from dropdrift.training.checkpoint_reader import (
    METADATA_FILE,
    described_weights,
    load_tensors,
)
from dropdrift.training.durable_files import rename_synced
from dropdrift.training.optimizers import Optimizers

MARKER = "COMMITTED"
STATE_FILE = "state.json"
PLAN_FILE = "plan.json"

# What the name of a directory ends in that is being written, or was when its process ended.
PARTIAL = ".partial"
# What the name of a directory ends in that was found damaged: it is no checkpoint any more.
DAMAGED = ".damaged"

_REMEDY = "remove {} to use another checkpoint"
_NAME = re.compile(r"step-(\d+)")
# Far more than what is written: a page of text, and for each table of a plan a few lines.
_MOST_BYTES_OF_JSON = 2**28


class DamagedCheckpointError(ValueError):
    """A file of a committed checkpoint is not what was written.

    Args:
        problem: the file and whether it is damaged or missing.
        checkpoint: its directory.
    """

    def __init__(self, problem: str, checkpoint: Path) -> None:
        super().__init__(f"{problem}: {_REMEDY.format(checkpoint)}")
        self.problem = problem


@dataclass
class TrainingState:
    """Where a run stands, besides its weights.

    Attributes:
        step: optimizer steps taken.
        epoch: passes over the training part completed.
        batch: batches of the current epoch consumed.
        lanes: streams that the batches are cut from (see ``DataConfig.lanes``); 0: not yet known.
        best_step: step of the best validation so far; -1: none yet.
        best_value: its metric.
        best_metrics: all of its metrics.
        bad_validations: validations since then.
        unlogged: sums of each loss over the steps since the last entry of the log, on every rank.
        unlogged_steps: how many steps those are.
        schema: fingerprint of the schema that was trained on.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    lanes: int = 0
    best_step: int = -1
    best_value: float = 0.0
    best_metrics: dict[str, float] = field(default_factory=dict)
    bad_validations: int = 0
    unlogged: dict[str, list[float]] = field(default_factory=dict)
    unlogged_steps: int = 0
    schema: str = ""


def checkpoint_path(folder: Path, step: int) -> Path:
    """The directory of the checkpoint of ``step``."""
    return folder / f"step-{step:09d}"


def committed_steps(folder: Path) -> list[int]:
    """Steps of the whole checkpoints in ``folder``, ascending."""
    steps = (step_of(marker.parent) for marker in folder.glob(f"*/{MARKER}"))
    return sorted(step for step in steps if step is not None)


def step_of(checkpoint: Path) -> int | None:
    """The step that the name of a directory says; None where it is no checkpoint's."""
    name = _NAME.fullmatch(checkpoint.name)
    return int(name[1]) if name else None


def read_state(folder: Path, step: int) -> TrainingState:
    """The state of a checkpoint, its file verified.

    Raises:
        DamagedCheckpointError: the file is not there or is not what was written.
        ValueError: another version has written it, or what it says cannot be.
    """
    path = checkpoint_path(folder, step)
    _verify(path, STATE_FILE, _manifest(path)[STATE_FILE])
    raw = _read_json(path / STATE_FILE)
    try:
        state = TrainingState(**raw)
    except TypeError as error:
        raise ValueError(f"{path / STATE_FILE} is of another version of Dropdrift") from error
    for problem in _problems(state, step):
        raise ValueError(f"{path / STATE_FILE} says what cannot be: {problem}")
    return state


def verify_checkpoint(folder: Path, step: int) -> None:
    """Read all files of a checkpoint.

    Raises:
        DamagedCheckpointError: one is not there or is not what was written; the message names it.
    """
    path = checkpoint_path(folder, step)
    for name, digest in _manifest(path).items():
        _verify(path, name, digest)


def newest_good_step(folder: Path) -> tuple[int, dict[int, str]]:
    """The newest checkpoint that is as it was written, and what is wrong with each one after it.

    Returns:
        Its step, and for each newer one's step the file and its problem, in descending order.

    Raises:
        DamagedCheckpointError: none is; of the newest one.
    """
    damage: dict[int, DamagedCheckpointError] = {}
    for step in reversed(committed_steps(folder)):
        try:
            verify_checkpoint(folder, step)
        except DamagedCheckpointError as error:
            damage[step] = error
        else:
            return step, {damaged: error.problem for damaged, error in damage.items()}
    raise next(iter(damage.values()))


def set_aside(folder: Path, step: int) -> Path:
    """Rename the directory of a damaged checkpoint to one that counts as none; where it is now."""
    path = checkpoint_path(folder, step)
    aside, number = path.with_name(path.name + DAMAGED), 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.{number}{DAMAGED}")
    return rename_synced(path, aside)


def load_weights(folder: Path, step: int, model: DistributedModelParallel) -> None:
    """Load the weights of a verified checkpoint, whatever ranks and plan it was saved with.

    Raises:
        ValueError: they are those of another model, or the metadata is not tensors' alone.
    """
    weights = model.state_dict()
    _check_fits(checkpoint_path(folder, step), weights)
    load_tensors(checkpoint_path(folder, step), {"model": weights})
    # load_state_dict renames keys of the dictionary that it is given.
    model.load_state_dict(dict(weights))


def load_all(
    folder: Path, step: int, model: DistributedModelParallel, optimizers: Optimizers
) -> None:
    """Load weights and optimizer state of a verified checkpoint.

    Raises:
        ValueError: they are those of another model, or the metadata is not tensors' alone.
    """
    optimizers.make_state()
    tensors = checkpoint_tensors(model, optimizers)
    _check_fits(checkpoint_path(folder, step), tensors["model"])
    load_tensors(checkpoint_path(folder, step), tensors)
    model.load_state_dict(dict(tensors["model"]))
    optimizers.combined.load_state_dict(tensors["optimizer"])


def checkpoint_tensors(model: DistributedModelParallel, optimizers: Optimizers) -> dict[str, Any]:
    """What a checkpoint holds, nested: the tensors that are trained, and no copies."""
    return {"model": model.state_dict(), "optimizer": optimizers.combined.state_dict()}


def _manifest(path: Path) -> dict[str, str]:
    """The digests of a checkpoint's files, by name; DamagedCheckpointError where they are none."""
    marker = path / MARKER
    try:
        manifest = _read_json(marker)
    except ValueError as error:
        raise DamagedCheckpointError(str(error), path) from error
    if not isinstance(manifest, dict) or not manifest.keys() >= {STATE_FILE, METADATA_FILE}:
        raise DamagedCheckpointError(f"{marker} is damaged", path)
    for name, digest in manifest.items():
        if Path(name).name != name or not name.isprintable() or not isinstance(digest, str):
            raise DamagedCheckpointError(f"{marker} is damaged", path)
    return manifest


def _read_json(file: Path) -> Any:
    """What a JSON file of a checkpoint holds; ValueError where it is none, or no file."""
    if file.is_symlink() or (file.exists() and not file.is_file()):
        raise ValueError(f"{file} is damaged: it is no file of its own")
    if file.exists() and file.stat().st_size > _MOST_BYTES_OF_JSON:
        raise ValueError(f"{file} is damaged: it has {file.stat().st_size:,} bytes")
    return read_json(file)


def _problems(state: TrainingState, step: int) -> Iterator[str]:
    """What a run could not go on from, or would misread: types, and numbers out of range."""
    for name, least in (
        ("step", step), ("epoch", 0), ("batch", 0), ("lanes", 0), ("best_step", -1),
        ("bad_validations", 0), ("unlogged_steps", 0),
    ):  # fmt: skip
        number = getattr(state, name)
        if type(number) is not int or number < least:
            yield f"{name} is {shown(number)}"
    if state.step != step or state.unlogged_steps > step or state.best_step > step:
        yield f"it is of step {shown(state.step)}"
    if not isinstance(state.schema, str):
        yield f"schema is {shown(state.schema)}"
    # A metric is not a number where the validation part has no row for it.
    for name, value in (("best_value", state.best_value), *_items(state.best_metrics)):
        if type(value) not in (int, float):
            yield f"{name} is {shown(value)}"
    for name, sums in _items(state.unlogged):
        if not (isinstance(sums, list) and sums and all(map(_is_finite, sums))):
            yield f"unlogged {name} is {shown(sums)}"


def _items(mapping: Any) -> list[tuple[str, Any]]:
    return list(mapping.items()) if isinstance(mapping, dict) else [("metrics or losses", mapping)]


def _is_finite(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _verify(path: Path, name: str, digest: str) -> None:
    file = path / name
    if file.is_symlink() or (file.exists() and not file.is_file()):
        raise DamagedCheckpointError(f"{file} is damaged: it is no file of its own", path)
    if not file.exists():
        raise DamagedCheckpointError(f"{file} is missing", path)
    try:
        good = sha256_of(file) == digest
    except OSError as error:
        raise DamagedCheckpointError(f"{file} cannot be read: {error.strerror}", path) from error
    if not good:
        raise DamagedCheckpointError(f"{file} is damaged", path)


def _check_fits(path: Path, weights: dict[str, Any]) -> None:
    """Hold the names and shapes of the model's ``weights`` against those of the checkpoint."""
    saved = {name: tuple(item.size) for name, item in described_weights(path).items()}
    wanted = {name: tuple(tensor.size()) for name, tensor in weights.items()}
    for name in sorted(saved.keys() | wanted.keys()):
        if saved.get(name) != wanted.get(name):
            raise ValueError(
                f"{path} is of another model than the run's config.yaml describes: {name} has "
                f"shape {saved.get(name)} in the one and {wanted.get(name)} in the other"
            )


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
