"""The batch whose loss was not finite, kept to be looked at and tried again.

``not-finite/step-N-rank-R.safetensors`` in the run's folder holds one rank's part of the batch, and
the file of the same name that ends in ``.json`` what was found in it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from dropdrift.data.batch import Batch, SequenceBatch
from dropdrift.training.provenance import write_whole

FOLDER = "not-finite"
# In the description of a file: the kind of batch, its numbers, the keys of its jagged tensors.
_KIND, _NUMBERS, _KEYS = "kind", "numbers", "keys"
_KINDS: dict[str, type[Batch | SequenceBatch]] = {
    kind.__name__: kind for kind in (Batch, SequenceBatch)
}


def write_failed_batch(
    folder: Path,
    batch: Batch | SequenceBatch,
    rank: int,
    loss: float,
    parameters: Iterable[tuple[str, Tensor]],
) -> Path:
    """Keep this rank's part of a batch.

    Args:
        folder: of the run.
        batch: what the loss is of; the step that it was for names the file.
        rank: this process among all.
        loss: of this rank's part.
        parameters: the model's, this rank's parts of those that are sharded: those that are not
            finite are named, as then the batch is not to blame.

    Returns:
        The file with the batch.

    Raises:
        OSError: the folder or the description cannot be written.
        SafetensorError: the batch cannot be.
    """
    path = folder / FOLDER / f"step-{batch.step + 1:09d}-rank-{rank}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors, description = _taken_apart(batch)
    save_file(tensors, path, metadata=description)
    found = {
        "step": batch.step + 1,
        "rank": rank,
        "first_row": batch.first_row,
        "rows": batch.size,
        "loss": str(loss),  # JSON has no NaN
        "not_finite_in_batch": _not_finite(tensors.items()),
        "not_finite_parameters": _not_finite(parameters),
    }
    write_whole(path.with_suffix(".json"), json.dumps(found, indent=1) + "\n")
    return path


def read_failed_batch(path: Path) -> Batch | SequenceBatch:
    """The batch that :func:`write_failed_batch` has written, on the CPU."""
    with safe_open(path, "pt") as file:
        description = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 # no dict
    kind = _KINDS[description[_KIND]]
    values: dict[str, Any] = json.loads(description[_NUMBERS])
    for name, keys in json.loads(description[_KEYS]).items():
        values[name] = KeyedJaggedTensor(
            keys, tensors.pop(f"{name}.values"), lengths=tensors.pop(f"{name}.lengths")
        )
    return kind(**values, **tensors)


def _taken_apart(batch: Batch | SequenceBatch) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a batch by name, and the rest of it as text."""
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, float] = {}
    keys: dict[str, list[str]] = {}
    for field in dataclasses.fields(batch):
        value = getattr(batch, field.name)
        if isinstance(value, KeyedJaggedTensor):
            assert value.weights_or_none() is None, "loaders weigh nothing"
            keys[field.name] = value.keys()
            tensors[f"{field.name}.values"] = value.values()
            tensors[f"{field.name}.lengths"] = value.lengths()
        elif isinstance(value, Tensor):
            tensors[field.name] = value
        else:
            numbers[field.name] = value
    # Those that share memory are refused, and so are views of a part.
    kept = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    return kept, {
        _KIND: type(batch).__name__,
        _NUMBERS: json.dumps(numbers),
        _KEYS: json.dumps(keys),
    }


def _not_finite(tensors: Iterable[tuple[str, Tensor]]) -> dict[str, int]:
    """How many numbers are NaN or infinite in each tensor that has some."""
    counts = {
        name: int((~torch.isfinite(tensor)).sum())
        for name, tensor in tensors
        if tensor.is_floating_point()
    }
    return {name: count for name, count in counts.items() if count}
