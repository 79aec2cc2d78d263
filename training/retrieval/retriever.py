"""Answers for users, on one process: what a server would hold in memory.

Shapes: R users, I items, K items of an answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from dropdrift.data.interactions.catalogue import Catalogue
from dropdrift.data.schema import Schema
from dropdrift.training.config import TrainConfig
from dropdrift.training.distributed import process_group
from dropdrift.training.retrieval.folder import IndexFolder
from dropdrift.training.retrieval.histories import Histories
from dropdrift.training.retrieval.prior import TransitionPrior
from dropdrift.training.retrieval.search import Found, ItemSearch, Rows, Vectors, use_threads
from dropdrift.training.retrieval.towers import Towers, check_matching
from dropdrift.training.run_folder import RunFolder

# Items that the index finds for a user, besides four times those of an answer, where transition
# counts are added to their scores.
CANDIDATES = 200


@dataclass(frozen=True)
class History:
    """What one user did, oldest first.

    Attributes:
        items: raw ids; those that are not in the catalogue are skipped.
        times: when, in the unit of the prepared data; empty where unknown.
    """

    items: Sequence[str]
    times: Sequence[int] = ()


@dataclass(frozen=True)
class Recommendation:
    """One item of an answer.

    Attributes:
        item: raw id.
        title: None where the data has none.
        score: inner product of the user's and the item's vector, or how often the item occurs in
            the training data.
        source: ``model``, or ``popular`` where there was no known item to go by.
    """

    item: str
    title: str | None
    score: float
    source: str


@dataclass(frozen=True)
class Answers:
    """The best items of R users.

    Attributes:
        rows: int64 [R, K], rows of the catalogue, best first; -1 behind the last one.
        scores: float32 [R, K], see :class:`Recommendation`.
        by_model: bool [R], whether the model answers; else the most popular items.
    """

    rows: Rows
    scores: Vectors
    by_model: NDArray[np.bool_]


class Retriever:
    """Finds the best items for what users did.

    Args:
        towers: the model's.
        search: an index over the items' vectors.
        catalogue: the items, as in the index.
        interactions: int64 [I], how often each occurs in the training data.
        prior: counts of which item followed which, if there are any.
        time_order: whether histories with times are put into their order.

    Example:
        ``Retriever.load(run, index, config).recommend([History(["1193", "661"])], k=5)``
    """

    def __init__(
        self,
        towers: Towers,
        search: ItemSearch,
        catalogue: Catalogue,
        interactions: NDArray[np.int64],
        prior: TransitionPrior | None = None,
        *,
        time_order: bool = True,
    ) -> None:
        self.towers, self.search, self.catalogue = towers, search, catalogue
        self.prior = prior
        self._time_order = time_order
        self._popular = np.argsort(-interactions, kind="stable")
        self._popular_scores = interactions[self._popular].astype(np.float32)

    @staticmethod
    def load(run_folder: Path, index: Path, config: TrainConfig) -> Retriever:
        """The best checkpoint of a run and an index that was built from it.

        Args:
            run_folder: of a matching model.
            index: made by 'dropdrift index'.
            config: what the run was trained with.

        Raises:
            ValueError: one of them is not there or damaged, or the index is of another checkpoint.
        """
        check_matching(config, run_folder)
        schema = Schema.load(run_folder)
        folder = IndexFolder(index)
        run = RunFolder(run_folder)
        folder.check_of(run, schema, run.best_step(schema))
        catalogue = folder.catalogue(schema)
        with process_group(config.loop.timeout) as ranks:
            towers = Towers(run_folder, schema, config, catalogue, ranks)
        use_threads(torch.get_num_threads())
        return Retriever(
            towers,
            folder.search(),
            catalogue,
            folder.interactions(),
            folder.prior(),
            time_order=config.data.sequence.order == "time",
        )

    def recommend(
        self,
        histories: Sequence[History],
        k: int = 10,
        *,
        exclude_seen: bool = False,
        transition_weight: float = 0.0,
        noise_seed: int = 0,
    ) -> list[list[Recommendation]]:
        """The k best items for each history, best first.

        Raises:
            ValueError: a history has times, but not one for each item, or ``transition_weight`` is
                not 0 and the index holds no transition counts.
        """
        known = self._known(histories)
        answers = self.answer(
            known,
            k,
            exclude_seen=exclude_seen,
            transition_weight=transition_weight,
            noise_seed=noise_seed,
        )
        return [self._recommendations(answers, user) for user in range(len(histories))]

    def check_catalogue(self, data: Path, schema: Schema) -> None:
        """ValueError unless the prepared ``data`` has the same items in the same order."""
        theirs = Catalogue.load(data, schema).items
        if not theirs.equals(self.catalogue.items):
            both = min(len(theirs), len(self.catalogue))
            same = pc.equal(theirs[:both], self.catalogue.items[:both])
            first = pc.index(same, False).as_py()
            where = f"item {first}" if first >= 0 else f"the number of items, {len(theirs)}"
            raise ValueError(
                f"{data} has another catalogue than the index, which has {len(self.catalogue)} "
                f"items: they differ in {where}; run 'dropdrift index' again"
            )

    def rows_of(self, items: pa.Array) -> Rows:
        """The catalogue's row of each raw id; -1 where it has none."""
        found = pc.index_in(items, value_set=self.catalogue.items)
        rows: Rows = found.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        return rows

    def known(
        self, offsets: NDArray[np.int64], rows: Rows, times: NDArray[np.int64] | None
    ) -> Histories:
        """Histories without what is not in the catalogue, in the order that the model was taught.

        Args:
            offsets: int64 [R + 1], where each user's items begin, and the end.
            rows: of the items; -1 where the catalogue has none.
            times: of the items; None: unknown.
        """
        whole = Histories(offsets, rows, np.zeros_like(rows) if times is None else times)
        histories = whole.where(rows >= 0)
        by_time = self._time_order and times is not None
        return histories.in_time_order() if by_time else histories

    def answer(
        self,
        histories: Histories,
        k: int,
        *,
        exclude_seen: bool = False,
        transition_weight: float = 0.0,
        noise_seed: int = 0,
        first_row: int = 0,
    ) -> Answers:
        """The ``min(k, I)`` best items of each user; fewer only where all others are excluded.

        A user without interactions gets the items that occur most often in the training data.

        Args:
            histories: rows of the catalogue.
            k: items of an answer.
            exclude_seen: leave out all items of a user's history, however old.
            transition_weight: of the transition counts; 0: the model alone.
            noise_seed: of whatever noise the model draws.
            first_row: what that noise is keyed by besides.

        Raises:
            ValueError: there are no transition counts, but a weight for them.
        """
        self.check_weight(transition_weight)
        k = min(k, len(self.catalogue))
        by_model = histories.lengths > 0
        rows = np.tile(self._popular[:k], (len(histories), 1))
        scores = np.tile(self._popular_scores[:k], (len(histories), 1))
        if by_model.any():
            # All rows, so that noise belongs to a user's place; the empty ones are few.
            users = self.towers.users(histories, noise_seed, first_row)[by_model]
            known = histories.take(np.flatnonzero(by_model)).of_each()
            seen = known if exclude_seen else None
            if transition_weight:
                found = self._with_prior(users, k, known, seen, transition_weight)
            elif seen is not None:
                found = self.search.search_without(users, k, seen)
            else:
                found = self.search.search(users, k)
            rows[by_model], scores[by_model] = found.rows, found.scores
        return Answers(rows, scores, by_model)

    def check_weight(self, transition_weight: float) -> None:
        """ValueError where there are no transition counts to give a weight to."""
        if transition_weight and self.prior is None:
            raise ValueError(
                f"transition_weight is {transition_weight}, but the index holds no transition "
                "counts: build it by 'dropdrift index --transitions'"
            )

    def _with_prior(
        self,
        users: Vectors,
        k: int,
        histories: list[Rows],
        seen: list[Rows] | None,
        weight: float,
    ) -> Found:
        """The best of what the index finds and what followed the newest items, scored exactly."""
        assert self.prior is not None
        fetched = self.search.search(users, 4 * k + CANDIDATES).rows
        found = Found(
            np.full((len(users), k), -1, dtype=np.int64),
            np.full((len(users), k), -np.inf, dtype=np.float32),
        )
        for user, history in enumerate(histories):
            followers, sums = self.prior.followers(history[-self.towers.window :])
            candidates = np.union1d(fetched[user], followers)
            banned = np.zeros(0, dtype=np.int64) if seen is None else seen[user]
            kept = np.setdiff1d(candidates, banned)
            if len(kept) < k:
                kept = np.setdiff1d(np.arange(len(self.catalogue)), banned)
            prior = self.prior.scores(kept, followers, sums)
            scores = self.search.vectors[kept] @ users[user] + weight * prior
            best = np.argsort(-scores, kind="stable")[:k]
            found.rows[user, : len(best)] = kept[best]
            found.scores[user, : len(best)] = scores[best]
        return found

    def _recommendations(self, answers: Answers, user: int) -> list[Recommendation]:
        source = "model" if answers.by_model[user] else "popular"
        return [
            Recommendation(
                self.catalogue.items[row].as_py(),
                self.catalogue.titles[row].as_py(),
                float(score),
                source,
            )
            for row, score in zip(answers.rows[user].tolist(), answers.scores[user], strict=True)
            if row >= 0
        ]

    def _known(self, histories: Sequence[History]) -> Histories:
        items: list[str] = []
        times: list[int] = []
        lengths: list[int] = []
        for number, history in enumerate(histories):
            if history.times and len(history.times) != len(history.items):
                raise ValueError(
                    f"history {number} has {len(history.items)} items, but {len(history.times)} "
                    "times: there must be as many, or none"
                )
            items += history.items
            times += history.times or [0] * len(history.items)
            lengths.append(len(history.items))
        offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        rows = self.rows_of(pa.array(items, pa.string()))
        return self.known(offsets, rows, np.array(times, dtype=np.int64))
