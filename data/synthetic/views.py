"""Fields of the synthetic set: each an exact, a coarse or a noisy view of the world.

Noise belongs to an entity: a field of the user is wrong in the same way in all rows of the user, a
statistic that is made anew every day in the same way for that day.

Shapes: B rows, C choices.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dropdrift.data import counter
from dropdrift.data.counter import Floats, Ints, Keys
from dropdrift.data.schema import FieldGroup
from dropdrift.data.source import FieldSpec
from dropdrift.data.synthetic.world import Impressions, World, scrambled

Entity = Literal["user", "user day", "song", "song day", "artist", "row"]
Scale = Literal["share", "count", "plain"]
Truth = Callable[[World, Impressions], NDArray[Any]]

BUCKETS = 16


@dataclass(frozen=True)
class View(ABC):
    """A field.

    Attributes:
        name: of the field.
        block: the fields that it goes missing with (see ``missing``).
        entity: what its noise belongs to.
    """

    name: str
    block: str
    entity: Entity

    @property
    def noise_stream(self) -> str:
        """Name of its random numbers: fields with the same one show the same noise."""
        return self.name

    def spec(self, group: FieldGroup, width: int) -> FieldSpec:
        """What ``prepare`` is told about the field."""
        return FieldSpec(self.name, "categorical", "vocabulary", group=group, width=width)

    @abstractmethod
    def values(self, world: World, rows: Impressions, key: Keys) -> pa.Array:
        """The field in each row, none missing [B]; ``key`` is that of its noise in each row [B]."""


@dataclass(frozen=True)
class Identifier(View):
    """The id of a user, a song and so on: the number that ``truth`` gives, scrambled.

    Attributes:
        truth: index of the entity in each row.
        table: name of the table, where fields share one.
    """

    truth: Truth
    table: str = ""

    def spec(self, group: FieldGroup, width: int) -> FieldSpec:
        """An identifier; values seen once train the row of the unseen ones."""
        return FieldSpec(
            self.name,
            "categorical",
            "vocabulary",
            min_count=2,
            group=group,
            identifier=True,
            table=self.table,
            width=width,
        )

    def values(self, world: World, rows: Impressions, key: Keys) -> pa.Array:
        """Ids, int64."""
        del key
        return pa.array(scrambled(self.truth(world, rows)))


@dataclass(frozen=True)
class Known(View):
    """A category of the world itself, shown wrongly now and then.

    Attributes:
        truth: the category in each row.
        choices: number of categories; a wrong one is drawn evenly from all.
        error: share of entities that show a drawn category.
        names: text of each category; empty: its number.
    """

    truth: Truth
    choices: int
    error: float = 0.0
    names: tuple[str, ...] = ()

    def values(self, world: World, rows: Impressions, key: Keys) -> pa.Array:
        """Numbers or names of categories."""
        shown = self.truth(world, rows)
        if self.error:
            chance = counter.uniform(key) / self.error
            shown = np.where(chance < 1, (chance * self.choices).astype(np.int64), shown)
        return named(shown, self.names)


@dataclass(frozen=True)
class Quantity(View):
    """A number of the world itself."""

    truth: Truth

    def spec(self, group: FieldGroup, width: int) -> FieldSpec:
        """A numeric field in quantile buckets."""
        return _numeric(self.name, group, width)

    def values(self, world: World, rows: Impressions, key: Keys) -> pa.Array:
        """The numbers."""
        del key
        return pa.array(self.truth(world, rows))


@dataclass(frozen=True)
class Number(View):
    """A statistic: a weighted sum of factors, with noise, brought to a natural scale.

    Attributes:
        weights: of the factors, of which only the proportions count; empty: noise alone.
        noise: standard deviation of the noise in the sum, whose own is about 1.
        scale: ``share`` is in 0..1, ``count`` a whole number with a long tail.
    """

    weights: Mapping[str, float]
    noise: float
    scale: Scale = "plain"

    def spec(self, group: FieldGroup, width: int) -> FieldSpec:
        """A numeric field in quantile buckets."""
        return _numeric(self.name, group, width)

    def values(self, world: World, rows: Impressions, key: Keys) -> pa.Array:
        """Numbers of the scale."""
        del world
        return _scaled(_blurred(_weighted(rows, self.weights), self.noise, key), self.scale)


@dataclass(frozen=True)
class Score(View):
    """A number as of ``Number``, of something that no weighted sum of factors gives.

    Attributes:
        truth: what is measured, of about unit variance.
    """

    truth: Truth
    noise: float
    scale: Scale = "plain"

    def spec(self, group: FieldGroup, width: int) -> FieldSpec:
        """A numeric field in quantile buckets."""
        return _numeric(self.name, group, width)

    def values(self, world: World, rows: Impressions, key: Keys) -> pa.Array:
        """Numbers of the scale."""
        return _scaled(_blurred(self.truth(world, rows), self.noise, key), self.scale)


@dataclass(frozen=True)
class Level(View):
    """An ordered category: a sum as of ``Number``, cut at the quantiles of the normal law."""

    weights: Mapping[str, float]
    noise: float
    levels: int

    def values(self, world: World, rows: Impressions, key: Keys) -> pa.Array:
        """Numbers of levels from 0."""
        del world
        edges = [NormalDist().inv_cdf(level / self.levels) for level in range(1, self.levels)]
        seen = _blurred(_weighted(rows, self.weights), self.noise, key)
        return pa.array(np.searchsorted(edges, seen))


@dataclass(frozen=True)
class Cluster(View):
    """An unordered category: of C directions drawn for the field, the one nearest to some factors.

    Attributes:
        factors: neighbouring factors that decide.
        noise: standard deviation of the noise on each factor.
        choices: C.
    """

    factors: tuple[str, ...]
    noise: float
    choices: int

    def values(self, world: World, rows: Impressions, key: Keys) -> pa.Array:
        """Numbers of categories from 0."""
        return pa.array(np.argmax(self.nearness(world, rows, key), axis=1))

    def nearness(self, world: World, rows: Impressions, key: Keys) -> Floats:
        """How near each direction is [B, C]."""
        width = len(self.factors)
        directions = counter.normals(world.keys(self.name, np.arange(self.choices)), width)
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        seen = rows.block(self.factors) + self.noise * counter.normals(key, width)
        return seen @ directions.T


def statistics(
    block: str,
    entity: Entity,
    measures: Mapping[str, Mapping[str, float]],
    noise_of_window: Mapping[str, float],
) -> Iterator[View]:
    """One ``Number`` for each measure and window, of the name that the entity begins with."""
    owner = entity.split()[0]
    for measure, weights in measures.items():
        scale: Scale = "share" if measure.endswith("_rate") else "count"
        for window, noise in noise_of_window.items():
            yield Number(f"{owner}_{measure}_{window}", block, entity, weights, noise, scale)


def named(values: Ints, names: tuple[str, ...]) -> pa.Array:
    """The name of each of ``values``; the values themselves where there are no names."""
    return pa.array(names).take(pa.array(values)) if names else pa.array(values)


def _numeric(name: str, group: FieldGroup, width: int) -> FieldSpec:
    return FieldSpec(name, "numeric", "buckets", size=BUCKETS, group=group, width=width)


def _weighted(rows: Impressions, weights: Mapping[str, float]) -> Floats:
    """The weighted sum of factors, of about unit variance [B]."""
    length = float(np.linalg.norm(list(weights.values())))
    total = np.zeros(len(rows.row), dtype=np.float32)
    for name, weight in weights.items():
        total += np.float32(weight / length) * rows.factor(name)
    return total


def _blurred(signal: Floats, noise: float, key: Keys) -> Floats:
    return np.sqrt(1 - noise**2) * signal + noise * counter.normal(key)


def _scaled(numbers: Floats, scale: Scale) -> pa.Array:
    if scale == "share":
        return pa.array(np.round(1 / (1 + np.exp(1 - numbers)), 5))
    if scale == "count":
        return pa.array(np.exp(numbers + 3).astype(np.int64))
    return pa.array(np.round(numbers, 4))
