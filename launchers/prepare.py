"""``dropdrift prepare``: raw rows of a known layout, or of any table, to a prepared data set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dropdrift.launchers.options import parse_config
from dropdrift.launchers.prepare_matching import MATCHING_LAYOUTS, prepare_matching
from dropdrift.launchers.prepare_options import (
    PrepareOptions,
    print_set_aside,
    read_statistics,
)

if TYPE_CHECKING:
    from dropdrift.data.source import Source


@dataclass(frozen=True, kw_only=True)
class KuaiRandOptions(PrepareOptions):
    """KuaiRand-Pure: impressions of short videos; the first label is is_click.

    Attributes:
        source: The folder of the data set, or its folder 'data'.
        validation_from: First day of the validation part, as 2022-05-03 (China time).
        test_from: First day of the test part.
    """

    source: Path
    validation_from: str = "2022-05-03"
    test_from: str = "2022-05-04"


@dataclass(frozen=True, kw_only=True)
class CriteoOptions(PrepareOptions):
    """Criteo Kaggle: 13 numbers, 26 categories; the last tenths of the rows validate and test.

    Attributes:
        source: The file train.txt, or its folder.
        encoding: How categories become ids.
        min_count: Training rows that a category needs for an id of its own (vocabulary).
        hash_rows: Rows of each category's table (hash).
    """

    source: Path
    encoding: Literal["vocabulary", "hash"] = "vocabulary"
    min_count: int = 10
    hash_rows: int = 100_000


@dataclass(frozen=True, kw_only=True)
class MovieLensOptions(PrepareOptions):
    """MovieLens-1M as a ranking task: a rating of 4 or 5 is liked.

    Attributes:
        source: The file ml-1m.zip, or the folder ml-1m.
    """

    source: Path


@dataclass(frozen=True, kw_only=True)
class TableOptions(PrepareOptions):
    """Any CSV, TSV or Parquet.

    Attributes:
        source: A file, a folder, or a quoted pattern such as 'logs/day-*.csv'.
        description: YAML file that says which column is what.
    """

    source: str
    description: Path


@dataclass(frozen=True, kw_only=True)
class SyntheticOptions(PrepareOptions):
    """A music application's impressions, made from a seed, with a known Bayes-optimal AUC.

    Attributes:
        rows: Number of impressions.
        seed: Everything random follows from it.
        users: Number of listeners.
        songs: Number of songs.
        days: Length of the log; the last day is the test part, the one before it validates.
        width: Embedding width of every field, a multiple of 4.
        missing: Share of all values that are missing, from 0 to 0.8, at random and in whole blocks;
            none: about 0.28. Of one seed, nothing else changes with it.
    """

    rows: int = 200_000
    seed: int = 1
    users: int = 5_000
    songs: int = 5_000
    days: int = 10
    width: int = 8
    missing: float | None = None


def run(arguments: list[str]) -> int:
    """Prepare the data set that the first argument names."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_overview())
        return 0 if arguments else 2
    name, rest = arguments[0], arguments[1:]
    if name not in LAYOUTS:
        raise ValueError(f"unknown layout {name!r}; there are: {', '.join(LAYOUTS)}")
    if _task(rest) == "matching":
        _run_matching(name, rest)
    else:
        options_type, make_source = LAYOUTS[name]
        options = parse_config(
            options_type,
            rest,
            prog=f"dropdrift prepare {name}",
            description=(options_type.__doc__ or "").splitlines()[0],
        )
        prepare_source(make_source(options), options)
    return 0


def _task(arguments: list[str]) -> str:
    """What ``--task`` says, the last time that it is given: it decides which options there are."""
    task = ""
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if argument == "--task":
            task = following
        elif argument.startswith("--task="):
            task = argument.removeprefix("--task=")
    return task


def _run_matching(name: str, arguments: list[str]) -> None:
    if name not in MATCHING_LAYOUTS:
        raise ValueError(
            f"--task matching: layout {name!r} has no interactions; there are: "
            f"{', '.join(MATCHING_LAYOUTS)}"
        )
    options_type, make_source = MATCHING_LAYOUTS[name]
    options = parse_config(
        options_type,
        arguments,
        prog=f"dropdrift prepare {name} --task matching",
        description=(options_type.__doc__ or "").splitlines()[0],
    )
    prepare_matching(make_source(options), options)


def prepare_source(source: Source, options: PrepareOptions) -> None:
    """Prepare ``source`` and print what has come of it."""
    from dropdrift.data.preparing.prepare import prepare
    from dropdrift.training.provenance import provenance

    schema = prepare(
        source,
        options.out,
        bad_rows=options.bad_rows,
        overwrite=options.overwrite,
        provenance=provenance(options),
    )
    statistics = read_statistics(options)
    rows = ", ".join(f"{part} {p['rows']:,}" for part, p in statistics["parts"].items())
    numbers = sum(table.rows * table.width for table in schema.tables)
    missing = sum(field.missing_rate for field in schema.fields) / len(schema.fields)
    print(
        f"{options.out}: rows: {rows}; {len(schema.fields)} fields, {missing:.1%} missing; "
        f"{len(schema.tables)} tables, {numbers:,} parameters"
    )
    print_set_aside(options, statistics)


def _kuairand(options: KuaiRandOptions) -> Source:
    from dropdrift.data.adaptors.kuairand import KuaiRandSource

    return KuaiRandSource(options.source, options.validation_from, options.test_from)


def _criteo(options: CriteoOptions) -> Source:
    from dropdrift.data.adaptors.criteo import CriteoSource

    return CriteoSource(options.source, options.encoding, options.min_count, options.hash_rows)


def _movielens(options: MovieLensOptions) -> Source:
    from dropdrift.data.adaptors.movielens import MovieLensSource

    return MovieLensSource(options.source)


def _table(options: TableOptions) -> Source:
    from dropdrift.data.adaptors.table import TableSource

    return TableSource(options.source, options.description)


def _synthetic(options: SyntheticOptions) -> Source:
    from dropdrift.data.synthetic import SyntheticSource

    return SyntheticSource(
        rows=options.rows,
        seed=options.seed,
        users=options.users,
        songs=options.songs,
        days=options.days,
        width=options.width,
        missing=options.missing,
    )


LAYOUTS: dict[str, tuple[type[PrepareOptions], Callable[[Any], Source]]] = {
    "kuairand": (KuaiRandOptions, _kuairand),
    "criteo": (CriteoOptions, _criteo),
    "movielens": (MovieLensOptions, _movielens),
    "table": (TableOptions, _table),
    "synthetic": (SyntheticOptions, _synthetic),
}


def _overview() -> str:
    lines = ["usage: dropdrift prepare LAYOUT [OPTIONS]", "", "layouts:"]
    for name, (options_type, _) in LAYOUTS.items():
        lines.append(f"  {name:<10} {(options_type.__doc__ or '').splitlines()[0]}")
    matching = ", ".join(MATCHING_LAYOUTS)
    return "\n".join(
        [
            *lines,
            "",
            "'dropdrift prepare LAYOUT --help' lists its options.",
            f"With '--task matching', {matching}: sequences of interactions for matching models.",
        ]
    )
