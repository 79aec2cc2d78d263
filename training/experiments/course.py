"""How a run went, from its log."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Course:
    """The log of a run.

    Attributes:
        validation: step and value of the metric that chose the checkpoint.
        last: the last numbers of the training by name.
    """

    validation: tuple[tuple[int, float], ...] = ()
    last: Mapping[str, float] = field(default_factory=dict)


def read_course(log: Path, chosen_by: str) -> Course:
    """Read the JSON lines of a run; an empty course where there are none.

    Half a line, as an interruption leaves it, is left out.
    """
    entries = list(_entries(log))
    validation = tuple(
        (int(entry["step"]), float(entry[chosen_by]))
        for entry in entries
        if entry["kind"] == "validation" and chosen_by in entry
    )
    trained = [entry for entry in entries if entry["kind"] == "train"]
    return Course(validation, _numbers(trained))


def _entries(log: Path) -> Iterator[dict[str, Any]]:
    if not log.is_file():
        return
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and {"kind", "step"} <= entry.keys():
            yield entry


def _numbers(entries: Sequence[dict[str, Any]]) -> dict[str, float]:
    if not entries:
        return {}
    return {name: float(value) for name, value in entries[-1].items() if name != "kind"}
