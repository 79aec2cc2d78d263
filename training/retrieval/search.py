"""Nearest items by inner product: a FAISS index that always finds as many as were asked for.

FAISS is imported when it is needed: ``--help`` and training run without it.

Shapes: Q queries, I items, W the vectors' width, K items of an answer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dropdrift.training.retrieval.config import IndexConfig, IndexKind

Vectors = NDArray[np.float32]
Rows = NDArray[np.int64]

# FAISS's own bound, below which it says that a list is too small.
ITEMS_PER_LIST = 39
# Scores that exact search holds at once: 32 MiB.
_SCORES = 1 << 23


@dataclass(frozen=True)
class Found:
    """The K best items of each query, best first.

    Attributes:
        rows: int64 [Q, K], the items' rows; -1 where there is none.
        scores: float32 [Q, K], inner products; -inf where there is none.
    """

    rows: Rows
    scores: Vectors


class ItemSearch:
    """An index over item vectors, and exact search over the same vectors.

    Args:
        index: the FAISS index, which holds the vectors as they are.
        kind: what it is.
    """

    def __init__(self, index: Any, kind: IndexKind) -> None:
        self._index = index
        self.kind = kind
        self.items, self.width = int(index.ntotal), int(index.d)

    @staticmethod
    def build(vectors: Vectors, options: IndexConfig) -> ItemSearch:
        """An index over ``vectors`` [I, W].

        Raises:
            ValueError: there are none, or one is not finite.
        """
        if not len(vectors):
            raise ValueError("there are no items to build an index of")
        broken = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if len(broken):
            raise ValueError(
                f"the vector of item {broken[0]} (and of {len(broken) - 1} others) is not finite: "
                "the training has diverged, use another checkpoint"
            )
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        return ItemSearch(_built(vectors, options), options.kind)

    @staticmethod
    def load(path: Path, kind: IndexKind) -> ItemSearch:
        """The index in the file ``path``; ValueError where it cannot be read."""
        faiss = _faiss()
        try:
            return ItemSearch(faiss.read_index(str(path)), kind)
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"{path} is damaged or no index: {reason[-120:]}") from error

    def save(self, path: Path) -> None:
        """Write the index into the file ``path``."""
        _faiss().write_index(self._index, str(path))

    def set_effort(self, *, ef_search: int = 0, probes: int = 0) -> None:
        """Search more or less thoroughly than the index was built for; 0: as it was built.

        Raises:
            ValueError: the kind of index has no such setting.
        """
        for name, value, kind in (("ef_search", ef_search, "hnsw"), ("probes", probes, "ivf")):
            if value and self.kind != kind:
                raise ValueError(
                    f"{name} is {value}, but the index is {self.kind!r}: it is a setting of {kind}"
                )
        if ef_search:
            self._index.hnsw.efSearch = ef_search
        if probes:
            self._index.nprobe = min(probes, self._index.nlist)

    @property
    def parameters(self) -> dict[str, int]:
        """What decides the search besides the vectors."""
        if self.kind == "hnsw":
            hnsw = self._index.hnsw
            return {
                "links": hnsw.nb_neighbors(1),
                "ef_construction": hnsw.efConstruction,
                "ef_search": hnsw.efSearch,
            }
        if self.kind == "ivf":
            return {"lists": self._index.nlist, "probes": self._index.nprobe}
        return {}

    @cached_property
    def vectors(self) -> Vectors:
        """The item vectors [I, W]; a copy, made when exact search first needs it."""
        if self.kind == "ivf":
            self._index.make_direct_map()
        vectors: Vectors = self._index.reconstruct_n(0, self.items)
        return vectors

    def search(self, queries: Vectors, k: int) -> Found:
        """The index's ``min(k, I)`` best items of ``queries`` [Q, W].

        A graph or a few lists may lead to fewer: then the query is answered exactly.
        """
        found = self._search(queries, min(k, self.items))
        lacking = np.flatnonzero((found.rows < 0).any(axis=1))
        if len(lacking):
            exact = self.exact(queries[lacking], k)
            found.rows[lacking], found.scores[lacking] = exact.rows, exact.scores
        return found

    def search_without(self, queries: Vectors, k: int, excluded: list[Rows]) -> Found:
        """As :meth:`search`, without the rows ``excluded`` for each query.

        More items than wanted are fetched and the excluded ones are left out; a query that has too
        few left is answered exactly. A row is -1 only where fewer than k items are not excluded.
        """
        k = min(k, self.items)
        fetched = self.search(queries, 2 * k + 32)
        found = Found(
            np.full((len(queries), k), -1, dtype=np.int64),
            np.full((len(queries), k), -np.inf, dtype=np.float32),
        )
        for query, banned in enumerate(excluded):
            kept = np.flatnonzero(~np.isin(fetched.rows[query], banned))[:k]
            exact = self._exact_without(queries[query], k, banned) if len(kept) < k else None
            rows, scores = exact or (fetched.rows[query, kept], fetched.scores[query, kept])
            found.rows[query, : len(rows)], found.scores[query, : len(rows)] = rows, scores
        return found

    def exact(self, queries: Vectors, k: int) -> Found:
        """The ``min(k, I)`` best items of ``queries`` [Q, W] by comparing all of them."""
        k = min(k, self.items)
        step = max(1, _SCORES // self.items)
        parts = [
            _best(queries[start : start + step] @ self.vectors.T, k)
            for start in range(0, len(queries), step)
        ]
        if not parts:
            return Found(np.zeros((0, k), dtype=np.int64), np.zeros((0, k), dtype=np.float32))
        rows, scores = zip(*parts, strict=True)
        return Found(np.concatenate(rows), np.concatenate(scores))

    def _search(self, queries: Vectors, k: int) -> Found:
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        effort = None
        if self.kind == "hnsw":  # fewer candidates than wanted could never be enough
            effort = _faiss().SearchParametersHNSW(efSearch=max(self._index.hnsw.efSearch, k))
        scores, rows = self._index.search(queries, k, params=effort)
        return Found(rows, np.where(rows < 0, -np.inf, scores).astype(np.float32))

    def _exact_without(self, query: Vectors, k: int, banned: Rows) -> tuple[Rows, Vectors]:
        """Rows and scores of the best items that are not ``banned``; fewer where there are."""
        scores = self.vectors @ query
        scores[banned] = -np.inf
        rows, best = _best(scores[None], min(k, self.items - len(np.unique(banned))))
        return rows[0], best[0]


def recall(found: Rows, exact: Rows) -> float:
    """The share of the exact answers [Q, K] that is among those ``found`` [Q, K]."""
    hits = sum(len(np.intersect1d(ours, theirs)) for ours, theirs in zip(found, exact, strict=True))
    return hits / exact.size


def use_threads(threads: int) -> None:
    """Have FAISS use so many threads: it takes no notice of how many torch was given."""
    _faiss().omp_set_num_threads(threads)


def _faiss() -> Any:
    import faiss

    return faiss


def _built(vectors: Vectors, options: IndexConfig) -> Any:
    faiss = _faiss()
    items, width = vectors.shape
    if options.kind == "hnsw":
        index = faiss.IndexHNSWFlat(width, options.hnsw_links, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = options.ef_construction
        index.hnsw.efSearch = options.ef_search
    elif options.kind == "ivf":
        lists = _lists(items, options.ivf_lists)
        quantizer = faiss.IndexFlatIP(width)
        index = faiss.IndexIVFFlat(quantizer, width, lists, faiss.METRIC_INNER_PRODUCT)
        index.cp.seed = options.seed % 2**31
        index.cp.min_points_per_centroid = 1  # a list may be small: no warning
        index.nprobe = min(options.probes or math.ceil(lists / 8), lists)
        index.train(vectors)
    else:
        index = faiss.IndexFlatIP(width)
    index.add(vectors)
    return index


def _lists(items: int, wanted: int) -> int:
    usual = min(4 * math.isqrt(items), items // ITEMS_PER_LIST)
    return min(wanted or max(1, usual), items)


def _best(scores: Vectors, k: int) -> tuple[Rows, Vectors]:
    """Rows and scores [Q, k] of the largest of ``scores`` [Q, I]; ties by row."""
    if k < scores.shape[1]:
        rows = np.sort(np.argpartition(-scores, k, axis=1)[:, :k], axis=1)
    else:
        rows = np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    best = np.take_along_axis(scores, rows, axis=1)
    order = np.argsort(-best, axis=1, kind="stable")
    return np.take_along_axis(rows, order, axis=1), np.take_along_axis(best, order, axis=1)
