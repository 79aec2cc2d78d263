"""A series of experiments: one plan on several data sets, which differ in what is missing in them.

Read from what each experiment has written; nothing is measured anew.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from dropdrift.data.json_file import read_json
from dropdrift.data.typed_mapping import suggestion
from dropdrift.training.comparison import Estimate, metric_title
from dropdrift.training.experiments.report import KIND, NUMBERS
from dropdrift.training.experiments.statistics import Interval
from dropdrift.training.experiments.summary import Difference

# Facts of an experiment's data.
DATA, LABEL, MISSING_RATE, BEST = "Data", "Label", "Missing rate", "Bayes-optimal AUC"
# What the best there can be is known of.
BEST_OF = "auc"

NO_VALUES = Estimate(())

# What makes two plans the same; titles and what is said about them may differ.
_PLAN_KEYS = ("base", "metrics", "recipe", "options", "seen", "seed_options", "evaluate")


@dataclass(frozen=True)
class Point:
    """One experiment of a series, by one metric.

    Attributes:
        name: of its folder.
        data: name of its data.
        missing_rate: mean over the fields of the share of training rows in which one is missing.
        best: the metric that no model can surpass; NaN where it is not known.
        values: the metric by row, each seed that counts.
        gains: the differences to the base by row.
        command: that ran the experiment.
        provenance: of the experiment.
    """

    name: str
    data: str
    missing_rate: float
    best: float
    values: Mapping[str, Estimate]
    gains: Mapping[str, Difference]
    command: str
    provenance: Mapping[str, Any]

    @property
    def rate(self) -> str:
        """The missing rate as it is shown."""
        return f"{self.missing_rate:.1%}"


@dataclass(frozen=True)
class Series:
    """Experiments of one plan by one metric.

    Attributes:
        title: of the plan.
        base: the row that the others are compared with.
        metric: its name.
        points: at least two, by ascending missing rate.
    """

    title: str
    base: str
    metric: str
    points: tuple[Point, ...]

    @property
    def metric_title(self) -> str:
        """The metric as it is shown."""
        return metric_title(self.metric)

    @property
    def rows(self) -> tuple[str, ...]:
        """All rows that some experiment has, in the order of their tables."""
        return tuple(dict.fromkeys(row for point in self.points for row in point.values))

    @property
    def compared(self) -> tuple[str, ...]:
        """The rows that share a seed with the base somewhere."""
        return tuple(row for row in self.rows if any(gain.values for gain in self.gains(row)))

    def values(self, row: str) -> list[Estimate]:
        """The metric of a row in each experiment; without values where it has none."""
        return [point.values.get(row, NO_VALUES) for point in self.points]

    def gains(self, row: str) -> list[Estimate]:
        """The differences of a row to the base, likewise."""
        found = (point.gains.get(row) for point in self.points)
        return [gain.seeds if gain else NO_VALUES for gain in found]

    @property
    def knows_best(self) -> bool:
        """Whether the best there can be is known somewhere."""
        return any(not math.isnan(point.best) for point in self.points)


def read_series(folders: Sequence[Path], metric: str | None = None) -> Series:
    """Put the experiments of these folders together.

    Args:
        folders: at least two folders of experiments.
        metric: as the plan names it; None: the plan's first.

    Raises:
        ValueError: a folder holds no experiment or a damaged one, its data's missing rate is not
            known or that of another, the plans differ or do not have the metric.
    """
    assert len(folders) > 1
    experiments = [(folder / NUMBERS, _read(folder)) for folder in folders]
    first_path, first = experiments[0]
    for path, raw in experiments[1:]:
        for key, value in _compared(raw).items():
            if value != _compared(first)[key]:
                raise ValueError(
                    f"{path} and {first_path} differ in their {key}: a series is of one plan, on "
                    "data sets of one kind"
                )
    known = first["plan"]["metrics"]
    metric = known[0] if metric is None else metric
    if metric not in known:
        raise ValueError(
            f"--metric is {metric!r}, which the plan does not have"
            f"{suggestion(metric, known, str)}; there are: {', '.join(known)}"
        )
    points = [_point(path, raw, metric) for path, raw in experiments]
    points.sort(key=lambda point: point.missing_rate)
    for one, following in pairwise(points):
        if one.rate == following.rate:
            raise ValueError(
                f"the data of {one.name!r} and {following.name!r} have the same missing rate, "
                f"{one.rate}: name experiments on different data"
            )
    return Series(first["title"], first["plan"]["base"], metric, tuple(points))


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is damaged: remove it and run 'dropdrift experiment' again"
        ) from error


def _read(folder: Path) -> Mapping[str, Any]:
    path = folder / NUMBERS
    if not path.is_file():
        raise ValueError(
            f"{folder} holds no {NUMBERS}: name the --out of a 'dropdrift experiment' that has "
            "come to its end"
        )
    raw: Mapping[str, Any] = read_json(path)
    with _reading(path):
        if raw["kind"] != KIND:
            raise ValueError(f"{path} is of the kind {raw['kind']!r}, must be {KIND!r}")
        if not isinstance(raw["title"], str):
            raise TypeError
        _compared(raw)
    return raw


def _compared(raw: Mapping[str, Any]) -> dict[str, Any]:
    """What experiments of a series have in common: how models are made, and what they predict."""
    plan = raw["plan"]
    variants = {
        name: (variant["recipe"], variant["options"]) for name, variant in plan["variants"].items()
    }
    return {
        **{key: plan[key] for key in _PLAN_KEYS},
        "variants": variants,
        LABEL: raw["data"].get(LABEL),
    }


def _point(path: Path, raw: Mapping[str, Any], metric: str) -> Point:
    with _reading(path):
        rate, best = raw["data"].get(MISSING_RATE), raw["data"].get(BEST)
        if not isinstance(rate, float):
            raise ValueError(
                f"{path} does not say the {MISSING_RATE!r} of its data: of ranking models it does, "
                "once 'dropdrift experiment' has been run again"
            )
        return Point(
            name=path.parent.name,
            data=str(raw["data"].get(DATA, "")),
            missing_rate=rate,
            best=math.nan if best is None or metric != BEST_OF else float(best),
            values={name: _values(row, metric) for name, row in raw["rows"].items()},
            gains={
                name: _difference(row["difference"][metric])
                for name, row in raw["rows"].items()
                if row["difference"]
            },
            command=str(raw["provenance"]["command"]),
            provenance=raw["provenance"],
        )


def _values(row: Mapping[str, Any], metric: str) -> Estimate:
    """Of the seeds that have neither failed nor collapsed."""
    sound = (
        seed["metrics"][metric]
        for seed in row["seeds"].values()
        if not (seed["failure"] or seed.get("collapse"))
    )
    return Estimate(tuple(value for value in sound if value is not None))


def _difference(raw: Mapping[str, Any]) -> Difference:
    by_seed, by_user = (
        Interval(*(math.nan if bound is None else bound for bound in raw[key]))
        for key in ("seed_interval", "user_interval")
    )
    values = tuple(value for value in raw["by_seed"] if value is not None)
    return Difference(Estimate(values), by_seed, by_user)
