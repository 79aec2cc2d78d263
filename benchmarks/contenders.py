"""The user towers that ``benchmarks.t2diff`` times, and whether they compute what they should.

Legend: B users, L positions, K items, d width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dropdrift.benchmarks.config import T2DiffOptions
from dropdrift.data.batch import SequenceBatch
from dropdrift.models.matching.config import SASRecConfig
from dropdrift.models.matching.gather import gather_items
from dropdrift.models.matching.sasrec import SASRec
from dropdrift.models.noise import RowNoise
from dropdrift.models.t2diff.config import (
    DiffusionConfig,
    EstimatorKind,
    NextItemKind,
    T2DiffConfig,
)
from dropdrift.models.t2diff.next_item import ESTIMATED
from dropdrift.models.t2diff.user_tower import T2DiffTower

SASREC = "SASRec"
LAST = "T2Diff, x_hat last"
NAMES: dict[EstimatorKind, str] = {"unet": "U-Net", "mlp": "MLP"}

# Answers of a request, and the largest relative error of a drift that rounding may explain.
ANSWERS = 100
TOLERANCE = 1e-3
# Users with whom an uncompiled tower is checked: enough for every layout that it has.
CHECKED_USERS = 24


class WrongResultError(Exception):
    """A tower that is made quick does not compute what the plain one does."""


@dataclass(frozen=True)
class Contender:
    """Something that is timed.

    Attributes:
        name: for the table.
        tower: what makes the users' vectors; None for the scores.
        call: what is timed.
    """

    name: str
    tower: T2DiffTower | SASRec | None
    call: Callable[[SequenceBatch], Tensor]


def make_contenders(options: T2DiffOptions, x: Tensor) -> list[Contender]:
    """All of them, for items' embeddings x [K, d], with weights at random."""
    towers: list[tuple[str, T2DiffTower | SASRec]] = [
        (SASREC, _sasrec(options, x.shape[1])),
        (LAST, _t2diff(options, x.shape[1], "last", DiffusionConfig(window=options.window))),
    ]
    for estimator in options.estimators:
        every = [(steps, 0) for steps in options.steps]
        skipped = [(options.skipped_from, count) for count in options.sampling_steps]
        for steps, count in every + skipped:
            diffusion = DiffusionConfig(
                steps=steps,
                sampling_steps=count,
                estimator=estimator,
                window=options.window,
                noise_in_sampling=options.noise,
            )
            taken = f"{count} of T = {steps}" if count else f"T = {steps}"
            name = f"T2Diff, {NAMES[estimator]}, {taken}"
            towers.append((name, _t2diff(options, x.shape[1], "diffusion", diffusion)))
    contenders = []
    for name, tower in towers:
        tower.to(x.device).eval()
        contenders.append(Contender(name, tower, _serving(tower, x, options.seed)))
    return [*contenders, _scoring(x)]


def check_contender(contender: Contender, x: Tensor, batch: SequenceBatch, seed: int) -> float:
    """The relative error of the drifts of ``batch`` as they are served; 0 without diffusion.

    Raises:
        WrongResultError: more than rounding explains.
    """
    tower = contender.tower
    if not isinstance(tower, T2DiffTower) or tower.next_item.kind not in ESTIMATED:
        return 0.0
    sequence, present = gather_items(x, batch.items[:, -tower.window :])
    noise = RowNoise(seed, 0, batch.first_row, x.device)
    served = tower.next_item.serve(sequence, present, noise)
    expected = tower.next_item.reference(sequence, present, noise)
    assert served is not None
    drift = torch.linalg.vector_norm(expected - sequence[:, -1] * present[:, -1:])
    error = float(torch.linalg.vector_norm(served - expected) / drift)
    if not error <= TOLERANCE:
        raise WrongResultError(
            f"{contender.name}, width {x.shape[1]}: served drifts differ from the plain reverse "
            f"process by {error:.2g} of their norm, more than {TOLERANCE:g}: no speed is reported"
        )
    return error


def _sasrec(options: T2DiffOptions, width: int) -> SASRec:
    torch.manual_seed(options.seed)
    return SASRec(SASRecConfig(max_positions=options.window), width, width, 0.0, options.seed)


def _t2diff(
    options: T2DiffOptions, width: int, kind: NextItemKind, diffusion: DiffusionConfig
) -> T2DiffTower:
    """A tower whose weights are all at random: at the beginning an estimator's last are zero."""
    torch.manual_seed(options.seed)
    config = T2DiffConfig(next_item=kind, diffusion=diffusion)
    tower = T2DiffTower(config, width, width, options.window, 0.0, options.seed)
    if options.compile:
        tower.next_item.compile_serving()
    with torch.no_grad():
        for parameter in tower.next_item.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return tower


def _serving(
    tower: T2DiffTower | SASRec, x: Tensor, seed: int
) -> Callable[[SequenceBatch], Tensor]:
    @torch.no_grad()
    def call(batch: SequenceBatch) -> Tensor:
        """User vectors of a batch [B, o]."""
        return tower.serve(x, batch, seed)

    return call


def _scoring(x: Tensor) -> Contender:
    """The scores of all items and the best of them: what follows a user's vector."""
    users = nn.functional.normalize(x)

    @torch.no_grad()
    def call(batch: SequenceBatch) -> Tensor:
        """Rows of the best items for each user of a batch."""
        rows = batch.items[:, -1].clamp(min=0)
        return (users[rows] @ x.T).topk(min(ANSWERS, len(x))).indices

    return Contender(f"best {min(ANSWERS, len(x))} of {len(x):,} items", None, call)
