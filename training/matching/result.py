"""The result file of an evaluation of matching, and the ranks that it was made from.

The metrics are JSON. Beside them goes a Parquet file, from which paired comparisons and bootstraps
can be made, with a row for each row of the part and each variant: ``user`` and ``item`` (text, raw
ids of the user and the target), ``rank_all`` and ``rank_unseen`` (int32, the target's ranks among
all items and among those that the user had not had), ``transition_weight`` (float64) and
``noise_seed`` (int64), both constant within a variant. Rows of a variant are in the part's order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dropdrift.data.config import Order, Protocol
from dropdrift.data.json_file import read_json
from dropdrift.data.typed_mapping import build
from dropdrift.training.matching.metrics import MatchingMetrics
from dropdrift.training.provenance import plain, whole_file, write_result

KIND = "matching-evaluation"


@dataclass(frozen=True)
class Variant:
    """One way of scoring, measured twice.

    Attributes:
        transition_weight: of the transition counts that were added to the model's scores.
        noise_seed: of the model's noise.
        among_unseen: metrics of the ranks among items that the user had not had.
        among_all: metrics of the ranks among all items.
    """

    transition_weight: float
    noise_seed: int
    among_unseen: MatchingMetrics
    among_all: MatchingMetrics


@dataclass(frozen=True)
class MatchingResult:
    """One model or baseline on one part of a data set.

    Attributes:
        name: the model's name; results that differ in the seed alone have the same.
        part: ``train``, ``validation`` or ``test``.
        protocol: see ``data.config.SequenceConfig``.
        order: of each user's interactions, see there.
        items: number of items that are ranked.
        users: number of users with enough interactions; in the standard protocol those who are no
            row of the part have too few for it.
        users_left_out: number of users with fewer than ``min_interactions`` interactions.
        variants: by weight of the transition counts and noise seed, in the order asked for.
        provenance: see ``training.provenance``.
        ranks: the rows of the Parquet file described above; None in a result that was loaded.
    """

    name: str
    part: str
    protocol: Protocol
    order: Order
    items: int
    users: int
    users_left_out: int
    variants: tuple[Variant, ...]
    provenance: Mapping[str, Any]
    ranks: pa.Table | None = field(default=None, compare=False, repr=False)

    @property
    def seed(self) -> int | None:
        """The seed that the model was trained with."""
        return self.provenance.get("seed")

    @property
    def rows(self) -> int:
        """Number of rows, each with one target."""
        return self.variants[0].among_all.rows

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it, without the ranks."""
        numbers = {
            name: plain(getattr(self, name))
            for name in self.__dataclass_fields__
            if name not in ("variants", "provenance", "ranks")
        }
        variants = [
            {
                "transition_weight": variant.transition_weight,
                "noise_seed": variant.noise_seed,
                "among_unseen": variant.among_unseen.as_numbers(),
                "among_all": variant.among_all.as_numbers(),
            }
            for variant in self.variants
        ]
        return {
            "kind": KIND,
            **numbers,
            "variants": variants,
            "provenance": plain(self.provenance),
        }

    @staticmethod
    def from_dict(raw: Any) -> MatchingResult:
        """The inverse of :meth:`to_dict`; ValueError naming the key that is missing or wrong."""
        kind = raw.get("kind") if isinstance(raw, Mapping) else None
        if kind != KIND:
            raise ValueError(
                f"kind is {kind!r}, must be {KIND!r}: this is no result of a matching evaluation"
            )
        read = build(_File, raw, "the file")
        if not read.variants:
            raise ValueError("variants is empty, must hold at least one")
        if not isinstance(read.provenance, Mapping):
            raise ValueError(f"provenance is {read.provenance!r}, must be a mapping")
        seed = read.provenance.get("seed")
        if seed is not None and type(seed) is not int:
            raise ValueError(f"provenance.seed is {seed!r}, must be a whole number")
        return MatchingResult(
            name=read.name,
            part=read.part,
            protocol=read.protocol,
            order=read.order,
            items=read.items,
            users=read.users,
            users_left_out=read.users_left_out,
            variants=tuple(_variant(v, f"variants[{i}]") for i, v in enumerate(read.variants)),
            provenance=read.provenance,
        )

    def save(self, path: Path) -> None:
        """Write the result file, and the ranks beside it if there are any (:func:`ranks_path`).

        Each whole or not at all; the result last.
        """
        if self.ranks is not None:
            with whole_file(ranks_path(path)) as partial:
                pq.write_table(self.ranks, partial, compression="zstd")
        write_result(path, self.to_dict())

    @staticmethod
    def load(path: Path) -> MatchingResult:
        """Read a result file, without the ranks.

        Raises:
            ValueError: it is not there, is no JSON or lacks a key; names the file and the key.
        """
        raw = read_json(path)
        try:
            return MatchingResult.from_dict(raw)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error


def ranks_path(path: Path) -> Path:
    """The file of ranks of a result file: ranks-test.parquet beside evaluation-test.json."""
    return path.with_name(f"ranks-{path.stem.removeprefix('evaluation-')}.parquet")


@dataclass(frozen=True)
class _FileVariant:
    transition_weight: float
    noise_seed: int
    among_unseen: Any
    among_all: Any


@dataclass(frozen=True)
class _File:
    """What JSON holds of a :class:`MatchingResult`."""

    kind: str
    name: str
    part: str
    protocol: Protocol
    order: Order
    items: int
    users: int
    users_left_out: int
    variants: tuple[_FileVariant, ...]
    provenance: Any


def _variant(read: _FileVariant, where: str) -> Variant:
    return Variant(
        transition_weight=read.transition_weight,
        noise_seed=read.noise_seed,
        among_unseen=_metrics(read.among_unseen, f"{where}.among_unseen"),
        among_all=_metrics(read.among_all, f"{where}.among_all"),
    )


def _metrics(raw: Any, where: str) -> MatchingMetrics:
    if not isinstance(raw, Mapping):
        raise ValueError(f"{where} is {raw!r}, must be a mapping")
    try:
        return MatchingMetrics.from_numbers(raw)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
