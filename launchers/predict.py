"""``dropdrift predict``: scores for a Parquet file of raw rows."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from dropdrift.launchers.options import parse_config
from dropdrift.launchers.trained import trained_config
from dropdrift.training.config import PredictConfig

if TYPE_CHECKING:
    from dropdrift.data.encoding.encoder import EncodingReport


def run(arguments: list[str]) -> int:
    """Score a file and say what was missing or unknown in it."""
    options = parse_config(
        PredictConfig,
        arguments,
        prog="dropdrift predict",
        description="Score raw rows with a run; missing columns and unseen ids are answered.",
    )
    config = trained_config(options.run_folder)
    if config.model.kind != "ranking":
        raise ValueError(
            f"--run-folder {options.run_folder} holds a matching model ({config.model.kind}), "
            "which scores no rows: recommend with 'dropdrift index' and 'dropdrift retrieve'"
        )
    from dropdrift.training.prediction import predict

    report = predict(options, config)
    for line in _summary(report):
        print(line, file=sys.stderr)
    rows = next(iter(report.fields.values())).rows
    print(f"{rows:,} rows scored into {options.out}")
    return 0


def _summary(report: EncodingReport) -> list[str]:
    lines = []
    fields = report.fields
    if report.absent:
        names = ", ".join(report.absent)
        lines.append(f"{len(report.absent)} of {len(fields)} fields have no column: {names}")
    rows = sum(counts.rows for counts in fields.values())
    missing = sum(counts.missing for counts in fields.values())
    lines.append(f"{missing / rows:.1%} of all features are missing")
    for name, counts in fields.items():
        if counts.out_of_vocabulary:
            share = counts.out_of_vocabulary / counts.ids
            lines.append(f"{name}: {share:.1%} of the values were not seen in training")
        if counts.unparsable:
            lines.append(f"{name}: {counts.unparsable:,} values are no numbers, taken as missing")
    return lines
