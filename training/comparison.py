"""Evaluation results side by side: several seeds a model, differences paired by seed.

The first model is the base that the others are compared with. Numbers come as grids of text,
which the terminal and the HTML page both show.
"""

from __future__ import annotations

import operator
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from dropdrift.data.schema import FIELD_GROUPS
from dropdrift.training.metrics import RankingMetrics, relative_improvement
from dropdrift.training.result import DropKind, EvaluationResult

Seeds = tuple[EvaluationResult, ...]
Models = Mapping[str, Seeds]
Measure = Callable[[EvaluationResult], float]
Drop = tuple[DropKind, float | str]

NOTHING: Drop = ("share", 0.0)
UNDEFINED = "-"

# Column title, attribute of RankingMetrics, whether it is compared with the first model's.
METRICS = (
    ("AUC", "auc", True),
    ("UAUC", "uauc", True),
    ("Log loss", "log_loss", False),
    ("Norm. entropy", "normalised_entropy", False),
    ("Calibration", "calibration", False),
)


@dataclass(frozen=True)
class Estimate:
    """One value for each seed."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Their mean, NaN without any."""
        return statistics.fmean(self.values) if self.values else float("nan")

    def text(self, form: str) -> str:
        """Mean, and sample standard deviation where there are several seeds."""
        if self.mean != self.mean:
            return UNDEFINED
        mean = format(self.mean, form)
        if len(self.values) == 1:
            return mean
        return f"{mean} ±{format(statistics.stdev(self.values), form.lstrip('+'))}"


@dataclass(frozen=True)
class Grid:
    """A table of text, a row for each entry of ``rows``; ``note`` says how to read it."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def by_model(results: Sequence[EvaluationResult]) -> Models:
    """The results of each model, in the order in which the models first come.

    Raises:
        ValueError: they cannot be compared: there are none, two are of one model and seed, or they
            are of different parts or, with one seed, of different rows.
    """
    if not results:
        raise ValueError("there is no evaluation result to compare")
    models: dict[str, Seeds] = {}
    for result in results:
        if result.part != results[0].part:
            raise ValueError(
                f"{_title(results[0])} is of the {results[0].part} part and {_title(result)} of "
                f"the {result.part} part: evaluate both on the same part"
            )
        if any(result.seed == other.seed for other in models.get(result.name, ())):
            raise ValueError(f"two results are of {_title(result)}: give one of them another name")
        models[result.name] = (*models.get(result.name, ()), result)
    for seeds in models.values():
        for new, base in _pairs(seeds, next(iter(models.values()))):
            _check_same_rows(new, base)
    return models


def labels_of(models: Models) -> tuple[str, ...]:
    """All labels, in the order in which they first come."""
    tasks = (label for seeds in models.values() for result in seeds for label in result.tasks)
    return tuple(dict.fromkeys(tasks))


def drops_of(models: Models, label: str) -> tuple[Drop, ...]:
    """All that was dropped in some result: nothing, ascending shares, groups, identifiers."""
    drops = {
        (point.drop, point.value)
        for seeds in models.values()
        for result in seeds
        if label in result.tasks
        for point in result.tasks[label].robustness
    }
    shares: list[Drop] = sorted(d for d in drops if d[0] == "share" and d != NOTHING)
    blocks: list[Drop] = [("group", group) for group in FIELD_GROUPS]
    blocks.append(("identifiers", "identifiers"))
    return (NOTHING, *shares, *(block for block in blocks if block in drops))


def metric_title(metric: str) -> str:
    """``AUC`` of ``auc``; a name that is none of :data:`METRICS` as it is."""
    return next((title for title, name, _ in METRICS if name == metric), metric)


def curves_of(models: Models, label: str) -> tuple[tuple[str, str], ...]:
    """Title and metric of what robustness is shown by: AUC and, where there are users, UAUC."""
    return tuple(
        (title, metric)
        for title, metric in (("AUC", "auc"), ("UAUC", "uauc"))
        if any(estimate(seeds, measure(label, metric)).values for seeds in models.values())
    )


def measure(label: str, metric: str, drop: Drop = NOTHING) -> Measure:
    """Reads one metric of a result; NaN where it was not measured."""

    def read(result: EvaluationResult) -> float:
        """The metric of one result; NaN where it was not measured."""
        task = result.tasks.get(label)
        metrics = task.metrics(*drop) if task else None
        return float(getattr(metrics, metric)) if metrics else float("nan")

    return read


def estimate(seeds: Seeds, read: Measure) -> Estimate:
    """The values of all seeds that have one."""
    values = (read(result) for result in seeds)
    return Estimate(tuple(value for value in values if value == value))


def paired(
    new: Seeds,
    base: Seeds,
    read: Measure,
    difference: Callable[[float, float], float] = operator.sub,
) -> Estimate:
    """The difference to ``base`` for each seed that both have."""
    values = (difference(read(n), read(b)) for n, b in _pairs(new, base))
    return Estimate(tuple(value for value in values if value == value))


def metric_grid(models: Models, label: str) -> Grid:
    """Models by metrics on complete rows, with the relative improvement over the first model."""
    base, *others = models
    header, rows = ["Model"], []
    for title, _, compared in METRICS:
        header += [title, "RelaImpr"] if compared and others else [title]
    for name, seeds in models.items():
        row = [name]
        for _, metric, compared in METRICS:
            read = measure(label, metric)
            row.append(estimate(seeds, read).text(".4f"))
            if compared and others:
                change = paired(seeds, models[base], read, relative_improvement)
                row.append("" if name == base else change.text("+.3%"))
        rows.append(tuple(row))
    first = next(r for seeds in models.values() for r in seeds if label in r.tasks)
    notes = [f"{_rows_text(first.tasks[label].complete)}."]
    counts = [f"{name}: {len(seeds)}" for name, seeds in models.items()]
    if any(len(seeds) > 1 for seeds in models.values()):
        notes.append(f"Mean ±standard deviation over seeds ({', '.join(counts)}).")
    if others:
        notes.append(f"RelaImpr: (new - base) / base, paired by seed; the base is {base}.")
    return Grid(f"{label}, complete rows", tuple(header), tuple(rows), " ".join(notes))


def robustness_grid(models: Models, label: str, title: str, metric: str) -> Grid:
    """What is dropped by models, with the difference to the first model."""
    base, *others = models
    header = ["Dropped", base]
    for name in others:
        header += [name, "Difference"]
    rows = []
    for drop in drops_of(models, label):
        read = measure(label, metric, drop)
        row = [drop_text(drop), estimate(models[base], read).text(".4f")]
        for name in others:
            row.append(estimate(models[name], read).text(".4f"))
            row.append(paired(models[name], models[base], read).text("+.4f"))
        rows.append(tuple(row))
    note = f"Difference: to {base}, paired by seed." if others else ""
    return Grid(f"{label}, {title} with fields dropped", tuple(header), tuple(rows), note)


def drop_text(drop: Drop) -> str:
    """What was dropped, such as ``all user fields``."""
    kind, value = drop
    if drop == NOTHING:
        return "nothing"
    if kind == "share":
        return f"{value:.0%} of fields"
    return f"all {value} fields" if kind == "group" else "all identifiers"


def _pairs(new: Seeds, base: Seeds) -> list[tuple[EvaluationResult, EvaluationResult]]:
    base_of = {result.seed: result for result in base}
    return [(result, base_of[result.seed]) for result in new if result.seed in base_of]


def _rows_text(metrics: RankingMetrics) -> str:
    text = f"{metrics.rows:,} rows, {metrics.positives / metrics.rows:.1%} positive"
    users = metrics.users_counted + metrics.users_left_out
    if not users:
        return f"{text}; no users"
    return (
        f"{text}; UAUC over {metrics.users_counted:,} of {users:,} users, "
        f"{metrics.users_left_out:,} having rows of one class alone"
    )


def _check_same_rows(new: EvaluationResult, base: EvaluationResult) -> None:
    for label in new.tasks.keys() & base.tasks.keys():
        first, second = (
            (r.tasks[label].complete.rows, r.tasks[label].complete.positives) for r in (base, new)
        )
        if first != second:
            raise ValueError(
                f"label {label!r}: {_title(base)} has {first[0]:,} rows with {first[1]:,} "
                f"positives and {_title(new)} {second[0]:,} with {second[1]:,}: evaluate both on "
                "the same data"
            )


def _title(result: EvaluationResult) -> str:
    return f"{result.name!r} (seed {result.seed})"
