"""Baselines that are counted and not trained, on the data, parts and protocols of models."""

from __future__ import annotations

import torch

from dropdrift.data.interactions.loader import SequenceLoader
from dropdrift.data.loading.loader import Cursor
from dropdrift.data.schema import Schema
from dropdrift.training.distributed import silence_expected_warnings
from dropdrift.training.matching.config import (
    PopularityBaseline,
    TransitionBaseline,
    TransitionConfig,
)
from dropdrift.training.matching.prior import (
    popularity_scores,
    training_transitions,
    transition_scores,
)
from dropdrift.training.matching.ranks import Prior, Ranked, batch_ranks, ranked_rows
from dropdrift.training.matching.result import MatchingResult
from dropdrift.training.matching.summary import RankedVariant, matching_result
from dropdrift.training.provenance import provenance


def evaluate_baseline(options: PopularityBaseline | TransitionBaseline) -> MatchingResult:
    """Count in the training part, and rank the targets of another. On one process.

    Raises:
        ValueError: the data cannot be used for matching, or the part has no rows.
    """
    silence_expected_warnings()
    data = options.data
    schema = Schema.load(data.path)
    loader = SequenceLoader(data.path, options.part, schema, data, training=False)
    counted = isinstance(options, TransitionBaseline)
    config = options.transition if isinstance(options, TransitionBaseline) else TransitionConfig()
    transitions = training_transitions(loader, data.sequence, config)
    scores = transition_scores(transitions, config) if counted else popularity_scores(transitions)
    name = "transitions" if counted else "popularity"
    return matching_result(
        [RankedVariant(0.0, 0, _ranked(loader, scores))],
        loader,
        data.sequence,
        name=options.name or name,
        part=options.part,
        ks=options.ks,
        provenance=provenance({"baseline": name, "evaluation": options}),
    )


def _ranked(loader: SequenceLoader, scores: Prior) -> Ranked:
    """Ranks by ``scores`` alone, in double precision: vectors that are zero add nothing."""
    items = torch.zeros(len(loader.catalogue), 1, dtype=torch.float64)
    rows = [
        batch_ranks(items.new_zeros(batch.size, 1), items, batch, loader, [scores])
        for batch in loader.batches(Cursor())
    ]
    return ranked_rows(torch.cat(rows))[0]
