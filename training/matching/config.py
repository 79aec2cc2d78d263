"""Options of evaluations and baselines of matching. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from dropdrift.data.config import DataConfig

# Lengths of the lists that are measured.
DEFAULT_KS = (1, 2, 5, 10, 20, 50, 100)


@dataclass(frozen=True)
class TransitionConfig:
    """Counts of which item followed which in the training part, and scores made from them.

    The defaults did well on the validation part of MovieLens-1M, standard protocol.

    Attributes:
        distance: How many places later an item still counts as a follower.
        decay: Weight of a follower one place later, relative to the place before.
        history: Newest items of a user whose followers are added up.
        recency: Weight of an item one place earlier in the history, relative to the one after it.
        normalise: Divide the followers of an item by their sum, so that a frequent item has no more
            say than a rare one.
        popularity: Weight of the items' shares of all interactions, added to the sum of followers.
            A small one puts items that never followed in order; 0: they tie, at the end.
    """

    distance: int = 5
    decay: float = 0.7
    history: int = 10
    recency: float = 0.7
    normalise: bool = True
    popularity: float = 0.01

    def __post_init__(self) -> None:
        for name in ("distance", "history"):
            if getattr(self, name) < 1:
                raise ValueError(f"transition.{name} is {getattr(self, name)}, must be positive")
        for name in ("decay", "recency"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"transition.{name} is {getattr(self, name)}, must be in (0, 1]")
        if self.popularity < 0:
            raise ValueError(f"transition.popularity is {self.popularity}, must not be negative")


@dataclass(frozen=True, kw_only=True)
class PopularityBaseline:
    """Items ranked by how often they come in the training part.

    Attributes:
        part: Part to evaluate: train, validation or test.
        ks: Lengths of the lists that Recall, MRR and NDCG look at, ascending.
        name: Name of the baseline in reports; none: its own.
        out: JSON file to write, with the ranks of all rows beside it; none: print the metrics only.
    """

    data: DataConfig = field(default_factory=DataConfig)
    part: Literal["train", "validation", "test"] = "test"
    ks: tuple[int, ...] = DEFAULT_KS
    name: str | None = None
    out: Path | None = None

    def __post_init__(self) -> None:
        check_ks(self.ks)


@dataclass(frozen=True, kw_only=True)
class TransitionBaseline(PopularityBaseline):
    """Items ranked by how often they followed the user's newest ones in the training part."""

    transition: TransitionConfig = field(default_factory=TransitionConfig)


def check_ks(ks: Sequence[int]) -> None:
    """ValueError unless ``ks`` are positive and ascending, at least one."""
    if not ks or min(ks) < 1 or list(ks) != sorted(set(ks)):
        shown = " ".join(map(str, ks)) or "empty"
        raise ValueError(f"ks is {shown}, must be positive whole numbers, ascending")
