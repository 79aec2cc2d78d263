"""What an experiment reads of ranking models: metrics by name, and the scores of each row."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from dropdrift.data.json_file import read_json
from dropdrift.data.loading.part import Part
from dropdrift.data.preparing.statistics import STATISTICS_FILE
from dropdrift.data.schema import FieldGroup, Schema
from dropdrift.models.ranking import task_names
from dropdrift.training.comparison import NOTHING, Drop
from dropdrift.training.config import TrainConfig
from dropdrift.training.experiments.by_user import Measure, user_values
from dropdrift.training.experiments.measures import Measured, UserValues, check_published
from dropdrift.training.experiments.plan import Plan
from dropdrift.training.experiments.runs import PART
from dropdrift.training.result import EvaluationResult
from dropdrift.training.scenarios import SHARES, robustness_scenarios
from dropdrift.training.score_file import ScoredRows, read_scores, scores_path

_METRIC = re.compile(r"(?:(?P<label>[^/]+)/)?(?P<measure>\w+)(?:@(?P<drop>[\w%]+))?")
_SHOWN: dict[Measure, str] = {
    "auc": "AUC",
    "uauc": "UAUC",
    "log_loss": "Log loss",
    "normalised_entropy": "Norm. entropy",
    "calibration": "Calibration",
}
_RELATIVE = ("auc", "uauc")
IDENTIFIERS: Drop = ("identifiers", "identifiers")

# Logits that differ by less, and a variance of z that is less, are a collapse: in sound runs both
# are above 1e-2.
CONSTANT_LOGITS = 1e-4
CONSTANT_Z = 1e-6


class RankingMeasures:
    """See :class:`~dropdrift.training.experiments.measures.Measures`.

    Args:
        plan: names the metrics: ``auc``, ``uauc@50%``, ``log_loss@user``, ``is_like/auc``.

    Raises:
        ValueError: a metric is unknown.
    """

    def __init__(self, plan: Plan) -> None:
        self._parsed = {metric: _parse(metric) for metric in plan.metrics}
        check_published(plan.published, plan.metrics)
        self.titles: Mapping[str, str] = {m: _title(*found) for m, found in self._parsed.items()}
        self.note = "Of rows as they are, unless a column says what is dropped."
        self.relative = tuple(
            metric
            for metric, (_, measure, drop) in self._parsed.items()
            if measure in _RELATIVE and drop == NOTHING
        )

    def evaluation_options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Everything that can be dropped, and the scores of all rows."""
        del given
        return {"robustness": True, "scores": True}

    def check(self, config: TrainConfig, base: TrainConfig, schema: Schema) -> None:
        """See :class:`~dropdrift.training.experiments.measures.Measures`."""
        tasks, others = (task_names(schema, model) for model in (config.model, base.model))
        if tasks[0] != others[0]:
            raise ValueError(
                f"its first label (model.tasks) is {tasks[0]!r} and the base's is {others[0]!r}: "
                "give both the same, of which all that is compared is"
            )
        part = Part(config.data.path, PART, schema)
        for task in tasks:
            part.check_label(task)
        blocks = [(s.drop, s.value) for s in robustness_scenarios(schema) if s.drop != "share"]
        for metric, (label, measure, drop) in self._parsed.items():
            if label and label not in tasks:
                raise ValueError(
                    f"metrics names {metric!r}, but the tasks are {', '.join(tasks)} (model.tasks)"
                )
            if measure == "uauc" and not schema.has_user:
                raise ValueError(
                    f"metrics names {metric!r}, but {config.data.path} does not say whose rows are "
                    "whose: leave it out, or prepare the data with a user column"
                )
            if drop[0] != "share" and drop not in blocks:
                raise ValueError(
                    f"metrics names {metric!r}, but {config.data.path} has no such fields, or no "
                    "others"
                )

    def measured(self, result_file: Path, last: Mapping[str, float]) -> dict[str, Measured]:
        """One entry, with the scores taken apart by user."""
        result = EvaluationResult.load(result_file)
        numbers = {
            metric: _number(result, metric, *found) for metric, found in self._parsed.items()
        }
        rows = read_scores(scores_path(result_file))
        return {"": Measured(numbers, self._users(rows), _collapse(rows, last), result)}

    def curve_title(self, chosen_by: str) -> str:
        """``AUC`` of ``auc``."""
        return next(title for measure, title in _SHOWN.items() if measure == chosen_by)

    def data_facts(self, config: TrainConfig, schema: Schema) -> dict[str, Any]:
        """Rows, label and missing values of the parts, and the best AUC there can be."""
        task = task_names(schema, config.model)[0]
        facts: dict[str, Any] = {
            "Label": task,
            "Fields": len(schema.fields),
            "Missing rate": fmean(field.missing_rate for field in schema.fields),
        }
        path = config.data.path / STATISTICS_FILE
        if not path.is_file():
            return facts
        statistics = read_json(path)
        parts = statistics["parts"]
        for part, counted in parts.items():
            facts[f"Rows of the {part} part"] = counted["rows"]
        facts["Positive in the training part"] = parts["train"]["labels"][task]["rate"]
        best = statistics.get("bayes_optimal_auc", {}).get(PART)
        if best is not None and task == schema.labels[0]:  # of other labels it is not known
            facts["Bayes-optimal AUC"] = best
        return facts

    def _users(self, rows: ScoredRows) -> UserValues:
        """Columns in the order of the metrics."""
        sums = [
            user_values(
                measure,
                rows.logits[label or next(iter(rows.labels)), drop],
                rows.labels[label or next(iter(rows.labels))],
                rows.users,
            )
            for label, measure, drop in self._parsed.values()
        ]
        values, weights = (
            np.stack([getattr(found, name) for found in sums], axis=1)
            for name in ("values", "weights")
        )
        units = "users" if rows.users.any() else "rows"
        return UserValues(sums[0].users, values, weights, units)


def _parse(metric: str) -> tuple[str, Measure, Drop]:
    """The label, none being the first task's; the measure; and what is dropped."""
    found = _METRIC.fullmatch(metric)
    measure = next((m for m in _SHOWN if found and m == found["measure"]), None)
    if found is None or measure is None:
        raise ValueError(
            f"metrics names {metric!r}: name {', '.join(_SHOWN)}, with @50% (of the fields "
            "dropped), @user, @item, @context or @identifiers behind it, and a label and / in "
            "front where it is not of the first task"
        )
    return found["label"] or "", measure, _drop(found["drop"], metric)


def _drop(text: str | None, metric: str) -> Drop:
    shares = {f"{share:.0%}": share for share in SHARES}
    if text is None:
        return NOTHING
    if text in shares:
        return ("share", shares[text])
    if text in get_args(FieldGroup):
        return ("group", text)
    if text == IDENTIFIERS[0]:
        return IDENTIFIERS
    raise ValueError(
        f"metrics names {metric!r}: behind @ stands one of {', '.join(shares)}, "
        f"{', '.join(get_args(FieldGroup))}, {IDENTIFIERS[0]}"
    )


def _title(label: str, measure: Measure, drop: Drop) -> str:
    title = _SHOWN[measure] if not label else f"{label}: {_SHOWN[measure]}"
    kind, value = drop
    if drop == NOTHING:
        return title
    if kind == "share":
        return f"{title}, {value:.0%} dropped"
    return f"{title}, no {value}{' fields' if kind == 'group' else ''}"


def _number(
    result: EvaluationResult, metric: str, label: str, measure: Measure, drop: Drop
) -> float:
    label = label or next(iter(result.tasks))
    metrics = result.tasks[label].metrics(*drop) if label in result.tasks else None
    if metrics is None:
        raise ValueError(f"the evaluation of {result.name!r} has no {metric}")
    return float(getattr(metrics, measure))


def _collapse(rows: ScoredRows, last: Mapping[str, float]) -> str:
    """What shows that a model has given up telling rows apart; empty where it has not."""
    for (label, drop), logits in rows.logits.items():
        if drop == NOTHING and float(np.ptp(logits)) < CONSTANT_LOGITS:
            return f"all scores of {label!r} are {_probability(logits):.4f}"
    for name, what in (("z_variance", "z"), ("denoised_variance", "the denoised z")):
        if last.get(name, 1.0) < CONSTANT_Z:
            return f"the variance of {what} is {last[name]:.1e} at step {last['step']:.0f}"
    return ""


def _probability(logits: NDArray[np.float32]) -> float:
    return float(1 / (1 + np.exp(-logits.astype(np.float64).mean())))
