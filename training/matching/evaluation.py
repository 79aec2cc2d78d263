"""Evaluation of a trained matching model: every target ranked over the whole catalogue."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from rich.progress import Progress, TaskID

from dropdrift.data.batch import SequenceBatch
from dropdrift.data.interactions.loader import SequenceLoader
from dropdrift.data.loading.loader import Cursor
from dropdrift.data.progress import progress_bar
from dropdrift.data.schema import Schema
from dropdrift.training.config import EvaluateConfig, TrainConfig
from dropdrift.training.distributed import Ranks, process_group
from dropdrift.training.evaluation import (
    check_ranks_of_evaluation,
    prepared_data,
    restore_model,
)
from dropdrift.training.matching.prior import training_transitions, transition_prior
from dropdrift.training.matching.ranks import Prior, rank_with_priors
from dropdrift.training.matching.result import MatchingResult
from dropdrift.training.matching.summary import RankedVariant, matching_result
from dropdrift.training.provenance import provenance
from dropdrift.training.run_folder import RunFolder


def evaluate_matching(
    options: EvaluateConfig, config: TrainConfig, *, show_progress: bool = True
) -> MatchingResult | None:
    """Evaluate the best checkpoint of a run, on one rank or many.

    Args:
        options: run, part, noise seeds and weights of the transition counts.
        config: what the run was trained with.
        show_progress: whether the first rank shows a progress bar.

    Returns:
        The result on the first rank, None on the others.

    Raises:
        ValueError: no checkpoint, data of another schema, a part without rows, or scores that are
            not finite.
    """
    schema = Schema.load(options.run_folder)
    data = prepared_data(options.data, config, schema)
    with process_group(config.loop.timeout) as ranks:
        check_ranks_of_evaluation(ranks, options)
        loader = SequenceLoader(
            data,
            options.part,
            schema,
            dataclasses.replace(config.data, batch_size=options.batch_size),
            rank=ranks.rank,
            world_size=ranks.world_size,
            training=False,
        )
        ranked = _ranked(options, config, schema, loader, ranks, show_progress)
        if ranked is None:
            return None
        return matching_result(
            ranked,
            loader,
            config.data.sequence,
            name=options.name or options.run_folder.resolve().name,
            part=options.part,
            ks=options.ks,
            provenance=provenance({"evaluation": options, "training": config}, config.loop.seed),
        )


def _ranked(
    options: EvaluateConfig,
    config: TrainConfig,
    schema: Schema,
    loader: SequenceLoader,
    ranks: Ranks,
    show_progress: bool,
) -> list[RankedVariant] | None:
    """The ranks of every weight and noise seed, on the first rank; None on the others."""
    model = restore_model(RunFolder(options.run_folder), schema, config, ranks)
    priors = _priors(options, config, loader)
    variants: list[RankedVariant] = []
    with progress_bar(show_progress and ranks.is_first) as progress:
        bar = progress.add_task("rank", total=loader.rows * options.noise_seeds)
        for noise_seed in range(options.seed, options.seed + options.noise_seeds):
            batches = _tracked(progress, bar, loader, ranks.world_size)
            found = rank_with_priors(model, loader, batches, ranks, noise_seed, priors)
            for weight, ranked in zip(options.transition_weights, found or (), strict=False):
                variants.append(RankedVariant(weight, noise_seed, ranked))
    return variants if ranks.is_first else None


def _priors(
    options: EvaluateConfig, config: TrainConfig, loader: SequenceLoader
) -> list[Prior | None]:
    """Of each weight; nothing is counted where all are 0."""
    if not any(options.transition_weights):
        return [None] * len(options.transition_weights)
    transitions = training_transitions(loader, config.data.sequence, options.transition)
    return [
        transition_prior(transitions, options.transition, weight)
        for weight in options.transition_weights
    ]


def _tracked(
    progress: Progress, bar: TaskID, loader: SequenceLoader, world_size: int
) -> Iterator[SequenceBatch]:
    """The loader's batches; rows of all ranks are counted, assuming that all have as many."""
    for batch in loader.batches(Cursor()):
        yield batch
        progress.update(bar, advance=batch.size * world_size)
