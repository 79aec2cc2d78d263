"""``dropdrift report``: results of several runs side by side, on the terminal and as a page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dropdrift.launchers.options import parse_config


@dataclass(frozen=True)
class ReportOptions:
    """What to compare.

    Attributes:
        results: Files that 'dropdrift evaluate' has written; the first one's model is the base.
            Results of one name are seeds of one model.
        out: HTML page to write, self-contained; none: print the tables only.
    """

    results: tuple[Path, ...]
    out: Path | None = None


def run(arguments: list[str]) -> int:
    """Print the comparison and write the page."""
    options = parse_config(
        ReportOptions,
        arguments,
        prog="dropdrift report",
        description="Compare evaluations: a table on the terminal, and a page with plots.",
    )
    if not options.results:
        raise ValueError("--results names no file")
    from dropdrift.training.provenance import check_writable
    from dropdrift.training.report import print_comparison, write_report
    from dropdrift.training.result import EvaluationResult

    if options.out is not None:
        check_writable(options.out)
    results = [EvaluationResult.load(path) for path in options.results]
    print_comparison(results)
    if options.out is not None:
        write_report(results, options.out)
        print(f"Written to {options.out}")
    return 0
