"""``dropdrift index``: item vectors of a run's best checkpoint in a FAISS index, measured."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dropdrift.data.interactions.catalogue import Catalogue
from dropdrift.data.interactions.protocols import training_sequences
from dropdrift.data.interactions.sequences import Sequences
from dropdrift.data.preparing.new_folder import new_folder
from dropdrift.data.schema import Schema
from dropdrift.training.config import TrainConfig
from dropdrift.training.distributed import Ranks, on_first_rank, process_group
from dropdrift.training.evaluation import prepared_data
from dropdrift.training.provenance import provenance
from dropdrift.training.retrieval.config import IndexConfig
from dropdrift.training.retrieval.folder import (
    INDEX_FILE,
    check_free,
    checkpoint_digest,
    write_about,
    write_index,
)
from dropdrift.training.retrieval.histories import Histories
from dropdrift.training.retrieval.measure import Measured, measure, timed
from dropdrift.training.retrieval.prior import TransitionPrior
from dropdrift.training.retrieval.search import ItemSearch, Vectors, use_threads
from dropdrift.training.retrieval.towers import Towers, check_matching
from dropdrift.training.run_folder import RunFolder


@dataclass(frozen=True)
class Built:
    """What ``dropdrift index`` has made.

    Attributes:
        kind: of index.
        parameters: that decide its search.
        items: number of vectors.
        width: of a vector.
        bytes: of the index's file.
        build_seconds: to build the index from the vectors.
        vector_seconds: to load the model and compute the vectors.
        measured: recall and latency.
    """

    kind: str
    parameters: dict[str, int]
    items: int
    width: int
    bytes: int
    build_seconds: float
    vector_seconds: float
    measured: Measured


def build_index(options: IndexConfig, config: TrainConfig) -> Built | None:
    """Build, measure and write an index, on one rank or many.

    Args:
        options: run, kind of index and measurements.
        config: what the run was trained with.

    Returns:
        What was built on the first rank, None on the others.

    Raises:
        ValueError: no matching model or checkpoint, other data than the run's, or ``options.out``
            is there.
    """
    check_matching(config, options.run_folder)
    schema = Schema.load(options.run_folder)
    data = prepared_data(options.data, config, schema)
    with process_group(config.loop.timeout) as ranks:
        on_first_rank(lambda: check_free(options.out))
        catalogue = Catalogue.load(data, schema)
        sequences = Sequences.load(data, schema, config.data.sequence.order)
        catalogue.check(sequences, data)
        towers, seconds = timed(_towers, options, schema, config, catalogue, ranks)
        if not ranks.is_first:
            return None
        users = sampled_users(towers, sequences, options)
    use_threads(torch.get_num_threads())
    training, items = training_part(data, schema, config), len(catalogue)
    counts = np.bincount(training.items, minlength=items)
    prior = None
    if options.transitions:
        prior = TransitionPrior.count(training, items, options.transition)
    with new_folder(options.out, lambda: check_free(options.out)) as folder:
        search, build_seconds = timed(ItemSearch.build, towers.items, options)
        write_index(folder, search, data, counts, prior)
        built = Built(
            kind=search.kind,
            parameters=search.parameters,
            items=search.items,
            width=search.width,
            bytes=(folder / INDEX_FILE).stat().st_size,
            build_seconds=build_seconds,
            vector_seconds=seconds,
            measured=_measured(search, towers.items, users, options),
        )
        write_about(folder, _about(built, options, config, schema))
    return built


def training_part(data: Path, schema: Schema, config: TrainConfig) -> Sequences:
    """The interactions that the run was trained on."""
    sequence = config.data.sequence
    sequences = Sequences.load(data, schema, sequence.order, sequence.min_interactions)
    return training_sequences(sequences, sequence)


def sampled_users(towers: Towers, sequences: Sequences, options: IndexConfig) -> Vectors:
    """Vectors of some users by their whole histories, as they are asked for when serving."""
    drawn = np.random.default_rng(options.seed).permutation(len(sequences))[: options.sample]
    histories = Histories.of(sequences, drawn)
    size = options.batch_size
    parts = [
        towers.users(
            histories.take(np.arange(first, min(first + size, len(drawn)))), options.seed, first
        )
        for first in range(0, len(drawn), size)
    ]
    return np.concatenate(parts)


def _towers(
    options: IndexConfig,
    schema: Schema,
    config: TrainConfig,
    catalogue: Catalogue,
    ranks: Ranks,
) -> Towers:
    return Towers(options.run_folder, schema, config, catalogue, ranks)


def _measured(search: ItemSearch, items: Vectors, users: Vectors, options: IndexConfig) -> Measured:
    exact = ItemSearch.build(items, dataclasses.replace(options, kind="flat"))
    return measure(
        search,
        exact,
        users,
        k=options.k,
        batch_size=options.batch_size,
        threads=torch.get_num_threads(),
    )


def _about(
    built: Built, options: IndexConfig, config: TrainConfig, schema: Schema
) -> dict[str, Any]:
    run = RunFolder(options.run_folder)
    step = run.best_step(schema)
    return {
        "index": built,
        "run": {
            "folder": str(options.run_folder),
            "step": step,
            "checkpoint": checkpoint_digest(run, step),
            "schema": schema.fingerprint(),
        },
        "provenance": provenance({"index": options, "training": config}, options.seed),
    }
