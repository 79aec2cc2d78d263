"""A trained model's weights as one file that any program may read, and what they belong to.

The file is in the safetensors format: numbers and names, nothing that could be run.
"""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from dropdrift.data.json_file import read_json
from dropdrift.data.schema import Schema, Table
from dropdrift.training.checkpoint import checkpoint_path, read_state
from dropdrift.training.checkpoint_reader import WEIGHTS, described_weights, load_tensors
from dropdrift.training.config import ExportConfig, TrainConfig
from dropdrift.training.provenance import (
    check_writable,
    plain,
    provenance,
    whole_file,
    write_result,
)
from dropdrift.training.run_folder import RunFolder


def export_weights(options: ExportConfig, config: TrainConfig) -> int:
    """Write the weights of a run's best checkpoint, on one process and without a model.

    ``options.out`` holds every weight whole, by its name in the model, whatever ranks and plan it
    was trained with. The file of this name that ends in ``.json`` says what they are. All of the
    weights are in memory at once.

    Returns:
        The bytes of the weights.

    Raises:
        ValueError: no good checkpoint, or files that are there already or cannot be written.
    """
    about_file = options.out.with_suffix(".json")
    for path in (options.out, about_file):
        if path.exists():
            raise ValueError(f"{path} exists: choose another --out")
        check_writable(path)
    schema, run = Schema.load(options.run_folder), RunFolder(options.run_folder)
    step = run.best_step(schema)
    weights = read_weights(checkpoint_path(run.checkpoints, step))
    about = _about(run, step, schema, config, weights)
    about["provenance"]["export"] = provenance({"export": options})
    with whole_file(options.out) as partial:
        try:
            save_file(weights, partial, metadata={"format": "pt"})
        except SafetensorError as error:
            raise ValueError(f"{options.out} cannot be written: {error}") from error
        with partial.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    file = {"name": options.out.name, "sha256": digest}
    write_result(about_file, {"kind": "weights", "file": file, **about})
    return sum(tensor.nbytes for tensor in weights.values())


def read_weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    """The model's tensors of a verified checkpoint, whole, by their names in the model.

    Raises:
        ValueError: its metadata is not tensors' alone.
    """
    weights = {
        name: torch.empty(item.size, dtype=item.properties.dtype)
        for name, item in described_weights(checkpoint).items()
    }
    nested = {WEIGHTS.removesuffix("."): weights}
    with warnings.catch_warnings():
        # One process is what is wanted here.
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        load_tensors(checkpoint, nested, alone=True)
    return weights


def _about(
    run: RunFolder,
    step: int,
    schema: Schema,
    config: TrainConfig,
    weights: dict[str, torch.Tensor],
) -> dict[str, Any]:
    state = read_state(run.checkpoints, step)
    trained = read_json(run.provenance_file)
    validated = state.best_step == step
    return {
        "step": step,
        "metric": {"name": config.chosen_by, "value": state.best_value} if validated else None,
        "validation": state.best_metrics if validated else None,
        "schema": schema.fingerprint(),
        "tables": [_about_table(table, schema, weights) for table in schema.tables],
        "config": config,
        "versions": trained.get("versions"),
        "provenance": {"training": trained},
    }


def _about_table(table: Table, schema: Schema, weights: dict[str, torch.Tensor]) -> dict[str, Any]:
    """How the table's ids come about, where its rows are, and which fields look them up.

    A matching model has its own width for all tables; one that it does not use has no tensor.
    """
    ending = f".embedding_bags.{table.name}.weight"
    tensor = next((name for name in weights if name.endswith(ending)), None)
    shape = weights[tensor].shape if tensor else (table.rows, None)
    return {
        **plain(table),
        "rows": shape[0],
        "width": shape[1],
        "tensor": tensor,
        "fields": [plain(field) for field in schema.fields if field.table == table.name],
    }
