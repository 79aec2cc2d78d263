"""From ranks to a result and to the tables that a terminal shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from rich.console import Console

from dropdrift.data.config import SequenceConfig
from dropdrift.data.interactions.loader import SequenceLoader
from dropdrift.training.comparison import Estimate, Grid
from dropdrift.training.matching.metrics import MatchingMetrics, matching_metrics
from dropdrift.training.matching.ranks import Ranked
from dropdrift.training.matching.result import MatchingResult, Variant
from dropdrift.training.terminal import print_grid

_MEASURES = (("Recall = HR", "recall"), ("MRR", "mrr"), ("NDCG", "ndcg"))
_KINDS = (("unseen", "among_unseen"), ("all", "among_all"))


@dataclass(frozen=True)
class RankedVariant:
    """Ranks, and what was done for them (see ``result.Variant``)."""

    transition_weight: float
    noise_seed: int
    ranked: Ranked


def matching_result(
    variants: Sequence[RankedVariant],
    loader: SequenceLoader,
    sequence: SequenceConfig,
    *,
    name: str,
    part: str,
    ks: Sequence[int],
    provenance: Mapping[str, Any],
) -> MatchingResult:
    """The metrics of ranks over all rows of an evaluation.

    Args:
        variants: of all rows of the part, in order.
        loader: that the rows come from.
        sequence: how they were made.
        name: of the model.
        part: of the data.
        ks: lengths of the lists.
        provenance: see ``training.provenance``.
    """
    what = f"the {part} part"
    return MatchingResult(
        name=name,
        part=part,
        protocol=sequence.protocol,
        order=sequence.order,
        items=len(loader.catalogue),
        users=len(loader.sequences),
        users_left_out=loader.sequences.left_out,
        variants=tuple(
            Variant(
                transition_weight=variant.transition_weight,
                noise_seed=variant.noise_seed,
                among_unseen=matching_metrics(variant.ranked.among_unseen, ks, what),
                among_all=matching_metrics(variant.ranked.among_all, ks, what),
            )
            for variant in variants
        ),
        provenance=provenance,
        ranks=pa.concat_tables(_rank_table(variant, loader) for variant in variants),
    )


def grids(result: MatchingResult) -> list[Grid]:
    """A table for each weight of the transition counts; the mean and spread over noise seeds."""
    by_weight: dict[float, list[Variant]] = {}
    for variant in result.variants:
        by_weight.setdefault(variant.transition_weight, []).append(variant)
    return [_grid(result, weight, variants) for weight, variants in by_weight.items()]


def print_result(result: MatchingResult) -> None:
    """All tables on the terminal."""
    console = Console()
    for grid in grids(result):
        print_grid(grid, console)


def _grid(result: MatchingResult, weight: float, variants: Sequence[Variant]) -> Grid:
    rows = []
    for title, measure in _MEASURES:
        for kind, attribute in _KINDS:
            metrics: list[MatchingMetrics] = [getattr(v, attribute) for v in variants]
            values = zip(*(getattr(metric, measure) for metric in metrics), strict=True)
            cells = [Estimate(tuple(at_k)).text(".4f") for at_k in values]
            rows.append((f"{title}, {kind}", *cells))
    order = "time order" if result.order == "time" else "FILE ORDER, which leaks"
    added = f", transition weight {weight:g}" if weight else ""
    seeds = f"; mean and deviation of {len(variants)} noise seeds" if len(variants) > 1 else ""
    return Grid(
        title=f"{result.name}{added}: {result.part} part, {result.protocol} protocol, {order}",
        header=("", *(f"@{k}" for k in variants[0].among_all.ks)),
        rows=tuple(rows),
        note=f"{result.rows:,} rows ranked among all {result.items:,} items, and among those that "
        f"the user had not had{seeds}. A tie counts against the model.{_left_out(result)}",
    )


def _left_out(result: MatchingResult) -> str:
    if not result.users_left_out:
        return ""
    return f" {result.users_left_out:,} users with too few interactions are left out."


def _rank_table(variant: RankedVariant, loader: SequenceLoader) -> pa.Table:
    ranked, rows = variant.ranked, len(variant.ranked.targets)
    return pa.table(
        {
            "user": pa.array(loader.raw_users(0, rows), pa.string()),
            "item": loader.catalogue.items.take(pa.array(ranked.targets)),
            "rank_all": ranked.among_all.astype(np.int32),
            "rank_unseen": ranked.among_unseen.astype(np.int32),
            "transition_weight": np.full(rows, variant.transition_weight),
            "noise_seed": np.full(rows, variant.noise_seed),
        }
    )
