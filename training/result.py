"""The result file of an evaluation, which ``dropdrift evaluate`` writes and reports are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_type_hints

from dropdrift.data.json_file import read_json
from dropdrift.training.metrics import CalibrationBucket, RankingMetrics
from dropdrift.training.provenance import plain, write_result

KIND = "evaluation"

DropKind = Literal["share", "group", "identifiers"]

Numbers = TypeVar("Numbers", RankingMetrics, CalibrationBucket)


@dataclass(frozen=True)
class RobustnessPoint:
    """The metrics with some fields dropped from every row, besides what is really missing.

    Attributes:
        drop: ``share`` of the fields, drawn anew for each row; all fields of a ``group``; all
            ``identifiers`` (a cold start).
        value: the share in [0, 1]; the group's name; ``"identifiers"``.
    """

    drop: DropKind
    value: float | str
    metrics: RankingMetrics


@dataclass(frozen=True)
class TaskResult:
    """How well one label is predicted, on complete rows and with fields dropped."""

    complete: RankingMetrics
    calibration_table: tuple[CalibrationBucket, ...] = ()
    robustness: tuple[RobustnessPoint, ...] = ()

    def metrics(self, drop: DropKind, value: float | str) -> RankingMetrics | None:
        """The metrics with these fields dropped, None if they were not measured.

        A share of 0 is the complete rows.
        """
        for point in self.robustness:
            if (point.drop, point.value) == (drop, value):
                return point.metrics
        return self.complete if (drop, value) == ("share", 0) else None


@dataclass(frozen=True)
class EvaluationResult:
    """One trained model on one part of a data set.

    Attributes:
        name: the model's name; results that differ in the seed alone have the same.
        part: ``train``, ``validation`` or ``test``.
        tasks: by label.
        missing_rate: share of the part's rows in which a field is missing, by field.
        provenance: see ``training.provenance``.
    """

    name: str
    part: str
    tasks: Mapping[str, TaskResult]
    missing_rate: Mapping[str, float]
    provenance: Mapping[str, Any]

    @property
    def seed(self) -> int | None:
        """The seed that the model was trained with."""
        return self.provenance.get("seed")

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it; a metric that is not defined is None."""
        return {"kind": KIND, **plain(self)}

    @staticmethod
    def from_dict(raw: Any) -> EvaluationResult:
        """The inverse of :meth:`to_dict`; ValueError naming the key that is missing or wrong."""
        top = _mapping(raw, "the file")
        kind = top.get("kind")
        if kind != KIND:
            raise ValueError(f"kind is {kind!r}, must be {KIND!r}: this is no evaluation's result")
        tasks = _mapping(_item(top, "tasks"), "tasks")
        if not tasks:
            raise ValueError("tasks is empty, must hold the results of a label")
        rates = _mapping(_item(top, "missing_rate"), "missing_rate")
        provenance = _mapping(_item(top, "provenance"), "provenance")
        if provenance.get("seed") is not None:
            _number(provenance, "seed", int, "provenance")
        return EvaluationResult(
            name=_text(top, "name"),
            part=_text(top, "part"),
            tasks={label: _task(task, f"tasks.{label}") for label, task in tasks.items()},
            missing_rate={field: _number(rates, field, float, "missing_rate") for field in rates},
            provenance=provenance,
        )

    def save(self, path: Path) -> None:
        """Write the result file, whole or not at all."""
        write_result(path, self.to_dict())

    @staticmethod
    def load(path: Path) -> EvaluationResult:
        """Read a result file.

        Raises:
            ValueError: it is not there, is no JSON or lacks a key; names the file and the key.
        """
        raw = read_json(path)
        try:
            return EvaluationResult.from_dict(raw)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error


def _task(raw: Any, where: str) -> TaskResult:
    task = _mapping(raw, where)
    complete = _numbers(RankingMetrics, _item(task, "complete", where), f"{where}.complete")
    if complete.rows < 1:
        raise ValueError(f"{where}.complete.rows is {complete.rows}, must be positive")
    return TaskResult(
        complete=complete,
        calibration_table=tuple(
            _numbers(CalibrationBucket, bucket, f"{where}.calibration_table[{i}]")
            for i, bucket in enumerate(_list(task, "calibration_table", where))
        ),
        robustness=tuple(
            _point(point, f"{where}.robustness[{i}]")
            for i, point in enumerate(_list(task, "robustness", where))
        ),
    )


def _point(raw: Any, where: str) -> RobustnessPoint:
    point = _mapping(raw, where)
    drop = _item(point, "drop", where)
    if drop not in get_args(DropKind):
        raise ValueError(
            f"{where}.drop is {drop!r}, must be one of {', '.join(get_args(DropKind))}"
        )
    read = (
        _number(point, "value", float, where) if drop == "share" else _text(point, "value", where)
    )
    metrics = _numbers(RankingMetrics, _item(point, "metrics", where), f"{where}.metrics")
    return RobustnessPoint(drop, read, metrics)


def _numbers(kind: type[Numbers], raw: Any, where: str) -> Numbers:
    """A dataclass of integers and floats."""
    mapping, types = _mapping(raw, where), get_type_hints(kind)
    return kind(**{f.name: _number(mapping, f.name, types[f.name], where) for f in fields(kind)})


def _number(mapping: Mapping[str, Any], key: str, kind: type, where: str) -> Any:
    value = _item(mapping, key, where)
    if kind is float and value is None:
        return float("nan")
    allowed, name = (int, "an integer") if kind is int else ((int, float), "a number")
    if isinstance(value, bool) or not isinstance(value, allowed):
        raise ValueError(f"{where}.{key} is {value!r}, must be {name}")
    return kind(value)


def _text(mapping: Mapping[str, Any], key: str, where: str = "") -> str:
    value = _item(mapping, key, where)
    if not isinstance(value, str):
        raise ValueError(f"{_path(where, key)} is {value!r}, must be text")
    return value


def _list(mapping: Mapping[str, Any], key: str, where: str) -> list[Any]:
    value = _item(mapping, key, where)
    if not isinstance(value, list):
        raise ValueError(f"{where}.{key} is {value!r}, must be a list")
    return value


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{where} holds {type(value).__name__}, must be a mapping")
    return value


def _item(mapping: Mapping[str, Any], key: str, where: str = "") -> Any:
    if key not in mapping:
        raise ValueError(f"the key {_path(where, key)} is missing")
    return mapping[key]


def _path(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key
