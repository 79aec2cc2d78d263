"""What all of ``dropdrift prepare`` has in common, whatever the task."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class PrepareOptions:
    """Where the prepared data goes.

    Attributes:
        out: Folder to make.
        task: What the data is prepared for: ranking rows of impressions, or matching users with
            items by the sequences of their interactions (movielens, kuairand and table; add
            '--task matching' to '--help' for the options that it has).
        bad_rows: What a row that cannot be read does: strict ends with an error, quarantine sets
            it aside and counts it.
        overwrite: Replace a prepared data set that is there.
    """

    out: Path
    task: Literal["ranking", "matching"] = "ranking"
    bad_rows: Literal["strict", "quarantine"] = "strict"
    overwrite: bool = False


def read_statistics(options: PrepareOptions) -> dict[str, Any]:
    """What was counted while the data was prepared."""
    from dropdrift.data.preparing.statistics import STATISTICS_FILE

    text = (options.out / STATISTICS_FILE).read_text(encoding="utf-8")
    statistics: dict[str, Any] = json.loads(text)
    return statistics


def print_set_aside(options: PrepareOptions, statistics: dict[str, Any]) -> None:
    """Say how many rows were set aside, if any."""
    from dropdrift.data.preparing.statistics import QUARANTINE_FILE

    set_aside = sum(statistics["bad_rows"].values())
    if set_aside:
        print(f"{set_aside:,} rows set aside, listed in {options.out / QUARANTINE_FILE}")
