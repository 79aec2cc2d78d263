"""Checkpoints: directories that are either whole or not there.

``checkpoints/step-N/`` holds torch.distributed.checkpoint's files, ``state.json``, ``plan.json``
(the sharding plan that it was trained by) and, written last, ``COMMITTED`` with the SHA-256 of
every file. A directory is written under another name,
renamed when complete, and never written into again.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torchrec.distributed import DistributedModelParallel

from dropdrift.data.json_file import read_json
from dropdrift.training.checkpoint_reader import TensorReader, described_weights
from dropdrift.training.checkpoint_space import (
    bytes_to_write,
    cause_of,
    check_room,
    failed_write,
)
from dropdrift.training.distributed import on_first_rank
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
    names = (_NAME.fullmatch(marker.parent.name) for marker in folder.glob(f"*/{MARKER}"))
    return sorted(int(name[1]) for name in names if name)


def save_checkpoint(
    folder: Path,
    model: DistributedModelParallel,
    optimizers: Optimizers,
    state: TrainingState,
    plan: Mapping[str, Any] | None = None,
) -> None:
    """Write the checkpoint of ``state.step`` unless it is there; all ranks must call.

    Args:
        folder: of all checkpoints.
        model: its weights are saved.
        optimizers: their state is saved.
        state: where the run stands.
        plan: the document of the plan that the model is sharded by; none for a plan without one.

    Raises:
        ValueError: there is no room for it, or it could not be written, on every rank. What was
            there before is there still.
    """
    final = checkpoint_path(folder, state.step)
    if (final / MARKER).exists():
        return
    tensors = _tensors(model, optimizers)
    needed = bytes_to_write(tensors)
    partial = on_first_rank(lambda: _begin(folder, state.step, needed))
    try:
        save(tensors, checkpoint_id=partial)
    except CheckpointException as error:  # on every rank
        cause = cause_of(error)
        if cause is None:
            raise
        on_first_rank(lambda: _give_up(partial, state.step, cause))
    on_first_rank(lambda: _commit(partial, final, state, plan))


def _begin(folder: Path, step: int, needed: int) -> Path:
    """An empty directory for the checkpoint of ``step``; what broken ones have left is removed."""
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in (*folder.glob(f"step-*{PARTIAL}"), checkpoint_path(folder, step)):
        shutil.rmtree(leftover, ignore_errors=True)
    check_room(folder, needed, step)
    partial = folder / (checkpoint_path(folder, step).name + PARTIAL)
    partial.mkdir()
    return partial


def _give_up(path: Path, step: int, cause: str) -> NoReturn:
    """Remove the half of a checkpoint that is there, and raise what the user is told."""
    error = failed_write(path.parent, step, cause)
    shutil.rmtree(path, ignore_errors=True)
    raise error


def _commit(
    partial: Path, final: Path, state: TrainingState, plan: Mapping[str, Any] | None
) -> None:
    """Complete a checkpoint whose tensors are written; its marker comes last."""
    path = partial
    try:
        (partial / STATE_FILE).write_text(json.dumps(asdict(state), indent=1))
        if plan is not None:
            (partial / PLAN_FILE).write_text(json.dumps(plan, indent=1))
        path = partial.rename(final)
        manifest = {p.name: _sha256(p) for p in sorted(final.iterdir())}
        marker = final / (MARKER + PARTIAL)
        marker.write_text(json.dumps(manifest, indent=1))
        marker.rename(final / MARKER)
    except OSError as error:
        _give_up(path, state.step, error.strerror or str(error))


def read_state(folder: Path, step: int) -> TrainingState:
    """The state of a checkpoint, its file verified.

    Raises:
        DamagedCheckpointError: the file is not there or is not what was written.
        ValueError: another version has written it.
    """
    path = checkpoint_path(folder, step)
    _verify(path, STATE_FILE, _manifest(path)[STATE_FILE])
    raw = read_json(path / STATE_FILE)
    try:
        return TrainingState(**raw)
    except TypeError as error:
        raise ValueError(f"{path / STATE_FILE} is of another version of Dropdrift") from error


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
    return path.rename(aside)


def load_weights(folder: Path, step: int, model: DistributedModelParallel) -> None:
    """Load the weights of a verified checkpoint, whatever ranks and plan it was saved with.

    Raises:
        ValueError: they are those of another model, or the metadata is not tensors' alone.
    """
    weights = model.state_dict()
    _check_fits(checkpoint_path(folder, step), weights)
    load({"model": weights}, storage_reader=TensorReader(checkpoint_path(folder, step)))
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
    tensors = _tensors(model, optimizers)
    _check_fits(checkpoint_path(folder, step), tensors["model"])
    load(tensors, storage_reader=TensorReader(checkpoint_path(folder, step)))
    model.load_state_dict(dict(tensors["model"]))
    optimizers.combined.load_state_dict(tensors["optimizer"])


def prune_checkpoints(folder: Path, keep: int, best_step: int) -> None:
    """Remove all but the ``keep`` newest checkpoints and the best one; first rank only."""
    for step in committed_steps(folder)[:-keep]:
        if step != best_step:
            path = checkpoint_path(folder, step)
            (path / MARKER).unlink()
            shutil.rmtree(path)


def _tensors(model: DistributedModelParallel, optimizers: Optimizers) -> dict[str, Any]:
    return {"model": model.state_dict(), "optimizer": optimizers.combined.state_dict()}


def _manifest(path: Path) -> dict[str, str]:
    marker = path / MARKER
    try:
        manifest = read_json(marker)
    except ValueError as error:
        raise DamagedCheckpointError(str(error), path) from error
    if not isinstance(manifest, dict) or STATE_FILE not in manifest:
        raise DamagedCheckpointError(f"{marker} is damaged", path)
    for name in manifest:
        if Path(name).name != name or not name.isprintable():
            raise DamagedCheckpointError(f"{marker} is damaged", path)
    return manifest


def _verify(path: Path, name: str, digest: str) -> None:
    file = path / name
    if not file.is_file() or _sha256(file) != digest:
        problem = "damaged" if file.is_file() else "missing"
        raise DamagedCheckpointError(f"{file} is {problem}", path)


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


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
