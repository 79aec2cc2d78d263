"""Rows that cannot be read: refused at once, or set aside and counted."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

BadRowMode = Literal["strict", "quarantine"]

MAX_LISTED = 10_000


@dataclass
class BadRows:
    """Collects bad rows of a pass over a source.

    Attributes:
        mode: ``strict`` raises at the first bad row; ``quarantine`` counts all and lists the first
            10,000.
        reasons: number of bad rows by reason.
    """

    mode: BadRowMode = "strict"
    reasons: Counter[str] = field(default_factory=Counter)
    _listed: list[dict[str, str | int]] = field(default_factory=list)

    @property
    def count(self) -> int:
        """How many rows were set aside."""
        return self.reasons.total()

    def add(self, file: Path | str, row: int, reason: str, value: str = "") -> None:
        """Set aside row ``row`` (from 1, header not counted) of ``file``; raise in strict mode.

        ``reason`` is the same for all rows of its kind; what differs goes into ``value``.
        """
        if self.mode == "strict":
            detail = f" ({value[:80]!r})" if value else ""
            raise ValueError(
                f"{file}, row {row}: {reason}{detail}; '--bad-rows quarantine' sets such rows aside"
            )
        self.reasons[reason] += 1
        if len(self._listed) < MAX_LISTED:
            self._listed.append(
                {"file": str(file), "row": row, "reason": reason, "value": value[:200]}
            )

    def save(self, path: Path) -> None:
        """Write the listed rows as JSON lines."""
        with path.open("w", encoding="utf-8") as stream:
            for entry in self._listed:
                stream.write(json.dumps(entry, ensure_ascii=False) + "\n")
