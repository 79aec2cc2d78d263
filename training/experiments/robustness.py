"""What ranking models keep with fields dropped: variants by what is dropped, as grids of text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from dropdrift.training.comparison import (
    NOTHING,
    Drop,
    Estimate,
    Grid,
    Models,
    curves_of,
    drops_of,
    estimate,
    measure,
    paired,
)

# Of the shares that are measured, those that the tables have room for; figures show all.
SHOWN_SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)
DROPPED = (
    "A share of the fields is drawn anew for each row; of a side, or of the identifiers, all are "
    "dropped."
)


def robustness_grids(models: Models, base: str, label: str) -> Iterator[Grid]:
    """Of AUC and, where there are users, UAUC: the mean, and the difference to ``base`` by seed.

    A row for each variant, a column for each thing that is dropped. None where nothing was dropped;
    no differences where the base or the others have no result.

    Args:
        models: results by variant; a variant without any has no row.
        base: the variant that the others are compared with.
        label: the task.
    """
    drops = tuple(drop for drop in drops_of(models, label) if _is_shown(drop))
    if len(drops_of(models, label)) == 1:
        return
    others = others_than(base, models)
    for title, metric in curves_of(models, label):
        reads = [measure(label, metric, drop) for drop in drops]
        shown = f"{label}, {title} with fields dropped"
        means = {
            name: [Estimate((estimate(seeds, read).mean,)).text(".4f") for read in reads]
            for name, seeds in models.items()
            if seeds
        }
        yield _grid(shown, drops, means, f"Mean over seeds. {DROPPED}")
        differences = {
            name: [paired(seeds, models[base], read).text("+.4f") for read in reads]
            for name, seeds in others.items()
        }
        if differences:
            note = f"Paired by seed, mean ±standard deviation over seeds. {DROPPED}"
            yield _grid(f"{shown}, difference to {base}", drops, differences, note)


def others_than(base: str, models: Models) -> Models:
    """The variants to compare with ``base``: those with results, if the base has some."""
    if not models.get(base):
        return {}
    return {name: seeds for name, seeds in models.items() if name != base and seeds}


def blocks_of(models: Models, label: str) -> tuple[Drop, ...]:
    """What was dropped as a whole: the fields of a side, the identifiers."""
    return tuple(drop for drop in drops_of(models, label) if drop[0] != "share")


def _grid(title: str, drops: Sequence[Drop], cells: Mapping[str, Sequence[str]], note: str) -> Grid:
    rows = tuple((name, *row) for name, row in cells.items())
    return Grid(title, ("Variant", *map(_column, drops)), rows, note)


def _is_shown(drop: Drop) -> bool:
    return drop[0] != "share" or drop == NOTHING or drop[1] in SHOWN_SHARES


def _column(drop: Drop) -> str:
    kind, value = drop
    if drop == NOTHING:
        return "Nothing"
    return f"{value:.0%}" if kind == "share" else str(value).capitalize()
