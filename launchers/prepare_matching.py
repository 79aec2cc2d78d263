"""``dropdrift prepare LAYOUT --task matching``: interactions to sequences and a catalogue."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dropdrift.launchers.prepare_options import (
    PrepareOptions,
    print_set_aside,
    read_statistics,
)

if TYPE_CHECKING:
    from dropdrift.data.interactions.source import InteractionSource


@dataclass(frozen=True, kw_only=True)
class MatchingOptions(PrepareOptions):
    """Where the prepared interactions go."""

    task: Literal["ranking", "matching"] = "matching"


@dataclass(frozen=True, kw_only=True)
class MovieLensOptions(MatchingOptions):
    """MovieLens-1M: every rating is an interaction.

    Attributes:
        source: The file ml-1m.zip, or the folder ml-1m.
    """

    source: Path


@dataclass(frozen=True, kw_only=True)
class KuaiRandOptions(MatchingOptions):
    """KuaiRand: the videos that users clicked, or watched long, liked and so on.

    Attributes:
        source: The folder of the data set, or its folder 'data'.
        interaction: The label that makes a row of the standard logs an interaction.
        tab: Pages of the application whose rows are taken, such as 1; none: all.
    """

    source: Path
    interaction: Literal[
        "is_click", "long_view", "is_like", "is_follow", "is_comment", "is_forward", "is_hate"
    ] = "is_click"
    tab: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TableOptions(MatchingOptions):
    """Any CSV, TSV or Parquet of interactions.

    Attributes:
        source: A file, a folder, or a quoted pattern such as 'logs/day-*.csv'.
        description: YAML file that says which column is what.
    """

    source: str
    description: Path


def prepare_matching(source: InteractionSource, options: MatchingOptions) -> None:
    """Prepare ``source`` and print what has come of it."""
    from dropdrift.data.interactions.prepare import prepare_interactions
    from dropdrift.training.provenance import provenance

    schema = prepare_interactions(
        source,
        options.out,
        bad_rows=options.bad_rows,
        overwrite=options.overwrite,
        provenance=provenance(options),
    )
    statistics = read_statistics(options)
    lengths = statistics["lengths"]
    print(
        f"{options.out}: {statistics['users']:,} users, {statistics['items']:,} items, "
        f"{statistics['interactions']:,} interactions ({statistics['density']:.3%} of the pairs); "
        f"sequences of {lengths['min']:,} to {lengths['max']:,}, median {lengths['median']:,.0f}; "
        f"{len(schema.fields)} fields"
    )
    without = statistics["side_table"]["catalogue_items_not_in_it"]
    if without and statistics["side_table"]["items"]:
        print(f"items without side features, since they are not listed: {without:,}")
    print_set_aside(options, statistics)


def _movielens(options: MovieLensOptions) -> InteractionSource:
    from dropdrift.data.adaptors.movielens_interactions import MovieLensInteractions

    return MovieLensInteractions(options.source)


def _kuairand(options: KuaiRandOptions) -> InteractionSource:
    from dropdrift.data.adaptors.kuairand_interactions import KuaiRandInteractions

    return KuaiRandInteractions(options.source, options.interaction, options.tab)


def _table(options: TableOptions) -> InteractionSource:
    from dropdrift.data.adaptors.table_interactions import TableInteractions

    return TableInteractions(options.source, options.description)


MATCHING_LAYOUTS: dict[str, tuple[type[MatchingOptions], Callable[[Any], InteractionSource]]] = {
    "movielens": (MovieLensOptions, _movielens),
    "kuairand": (KuaiRandOptions, _kuairand),
    "table": (TableOptions, _table),
}
