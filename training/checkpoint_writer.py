"""Writing checkpoints, and removing them, so that a kill or a power cut leaves whole ones or none.

The order is what that rests on: everything a step needs is on the disk before the step. Files
first, then their directory; then its new name; then the manifest; then the manifest's new name,
``COMMITTED``, from which the checkpoint counts. Where one is removed, that name goes first.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

import torch.distributed as dist
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict_saver import save

from dropdrift.training.checkpoint import (
    MARKER,
    PARTIAL,
    PLAN_FILE,
    STATE_FILE,
    TrainingState,
    checkpoint_path,
    committed_steps,
    sha256_of,
    step_of,
)
from dropdrift.training.checkpoint_reader import METADATA_FILE
from dropdrift.training.checkpoint_space import (
    bytes_to_write,
    check_room,
    failed_write,
    first_failure,
)
from dropdrift.training.distributed import on_first_rank
from dropdrift.training.durable_files import rename_synced, sync, write_synced


def begin_checkpoint(folder: Path, step: int, tensors: Mapping[str, Any]) -> Path | None:
    """The directory to write the checkpoint of ``step`` to; all ranks must call.

    What was left of checkpoints that count as none is removed.

    Returns:
        The directory, or None where the checkpoint is there.

    Raises:
        ValueError: there is no room for it, on every rank.
    """
    needed = bytes_to_write(tensors)
    return on_first_rank(lambda: _begin(folder, step, needed))


def complete_checkpoint(
    partial: Path,
    tensors: dict[str, Any],
    state: TrainingState,
    plan: Mapping[str, Any] | None,
    group: dist.ProcessGroup | None = None,
) -> None:
    """Write a checkpoint that was begun, and commit it; all ranks must call.

    Args:
        partial: what :func:`begin_checkpoint` returned.
        tensors: weights and optimizer state, nested.
        state: where the run stands.
        plan: the document of the plan that the model is sharded by; none for a plan without one.
        group: whose collectives it uses; that of training by default.

    Raises:
        ValueError: it could not be written, on every rank; the half that is there is removed.
    """
    try:
        save(tensors, checkpoint_id=partial, process_group=group)
    except CheckpointException as error:  # on every rank
        failure = first_failure(error)
        on_first_rank(lambda: _give_up(partial, state.step, failure), group)
    on_first_rank(lambda: _commit(partial, state, plan), group)


def prune_checkpoints(folder: Path, keep: int, best_step: int) -> None:
    """Remove all but the ``keep`` newest checkpoints and the best one; first rank only."""
    for step in committed_steps(folder)[:-keep]:
        if step != best_step:
            _remove(checkpoint_path(folder, step))


def remove_leftovers(folder: Path) -> None:
    """Remove what was being written, or removed, when a process ended; first rank only."""
    for path in list(folder.iterdir()):
        counts = step_of(path) is not None and (path / MARKER).exists()
        if path.name.endswith(PARTIAL) or (step_of(path) is not None and not counts):
            _remove(path)


def _begin(folder: Path, step: int, needed: int) -> Path | None:
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    final = checkpoint_path(folder, step)
    if final.exists():
        return None
    check_room(folder, needed, step)
    partial = final.with_name(final.name + PARTIAL)
    partial.mkdir()
    return partial


def _give_up(path: Path, step: int, failure: BaseException) -> NoReturn:
    """Remove the half of a checkpoint that is there, and raise what the user is told."""
    error = failed_write(path.parent, step, failure)
    with suppress(OSError):  # it is no checkpoint in any case
        _remove(path)
    raise error from failure


def _commit(partial: Path, state: TrainingState, plan: Mapping[str, Any] | None) -> None:
    """Complete a checkpoint whose tensors are written and synced; its marker comes last."""
    path = partial
    try:
        write_synced(partial / STATE_FILE, json.dumps(asdict(state), indent=1))
        if plan is not None:
            write_synced(partial / PLAN_FILE, json.dumps(plan, indent=1))
        # torch syncs it without flushing it first: the end of it may not have been written then.
        sync(partial / METADATA_FILE)
        sync(partial)
        path = rename_synced(partial, checkpoint_path(partial.parent, state.step))
        manifest = {file.name: sha256_of(file) for file in sorted(path.iterdir())}
        marker = path / (MARKER + PARTIAL)
        write_synced(marker, json.dumps(manifest, indent=1))
        rename_synced(marker, path / MARKER)
    except OSError as error:
        _give_up(path, state.step, error)


def _remove(path: Path) -> None:
    """Remove a checkpoint, or what is left of one; of a link to one, the link; or a file."""
    if path.is_symlink() or not path.is_dir():
        path.unlink()
    else:
        if (path / MARKER).exists():
            (path / MARKER).unlink()
            sync(path)
        shutil.rmtree(path)
    sync(path.parent)
