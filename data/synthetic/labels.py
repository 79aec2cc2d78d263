"""The labels of the synthetic set, and their true probabilities."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dropdrift.data import counter
from dropdrift.data.bayes_optimal import Probabilities
from dropdrift.data.synthetic.world import MOOD, NEED, STYLE, TASTE, Impressions, World

LABELS = ("collect", "like")


def probability(rows: Impressions, label: str) -> Probabilities:
    """The true probability of ``label`` in each row [B] (equations: see ``world``)."""
    score = _score(rows)
    if label == "collect":
        logit = score - 2.2
    else:
        logit = 0.7 * score + 0.5 * rows.factor("quality") - 0.4 * rows.factor("hurry") - 2.8
    return 1 / (1 + np.exp(-logit))


def draw_label(world: World, rows: Impressions, label: str) -> NDArray[np.int8]:
    """The label of each row, 0 or 1 [B]."""
    chance = counter.uniform(world.keys(f"label {label}", rows.row))
    return (chance < probability(rows, label)).astype(np.int8)


def _score(rows: Impressions) -> Probabilities:
    affinity = np.sum(rows.block(TASTE) * rows.block(STYLE), axis=1, dtype=np.float64)
    fit = np.sum(rows.block(NEED) * rows.block(MOOD), axis=1, dtype=np.float64)
    return (
        0.8 * rows.factor("propensity")
        + 0.8 * rows.factor("quality")
        + 1.2 * affinity / np.sqrt(len(TASTE))
        + 0.6 * fit / np.sqrt(len(NEED))
        - 0.4 * rows.factor("exploration") * rows.factor("popularity")
        + 0.4 * rows.factor("attention")
    )
