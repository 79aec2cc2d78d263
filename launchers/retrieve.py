"""``dropdrift retrieve``: the best items for the users of a file."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dropdrift.launchers.one_line import one_line
from dropdrift.launchers.options import parse_config
from dropdrift.launchers.trained import trained_config
from dropdrift.training.retrieval.config import RetrieveConfig

if TYPE_CHECKING:
    from dropdrift.training.retrieval.answers import Counts, Retrieved, Shown


def run(arguments: list[str]) -> int:
    """Answer a file's requests, show a few of them and say what was unknown."""
    options = parse_config(
        RetrieveConfig,
        arguments,
        prog="dropdrift retrieve",
        description="Recommend items to users by a run and its index; unknown users are answered "
        "with the most popular items.",
    )
    config = trained_config(options.run_folder)
    from dropdrift.training.retrieval.answers import retrieve

    retrieved = retrieve(options, config)
    for line in warnings(retrieved.counts, options.k):
        print(line, file=sys.stderr)
    print_answers(retrieved)
    counts = retrieved.counts
    print(f"{counts.requests:,} requests, {counts.answers:,} answers written to {options.out}")
    for line in times(retrieved):
        print(line)
    return 0


def warnings(counts: Counts, k: int) -> list[str]:
    """What the requests held that is not known, a line each."""
    said = {
        "users are not in the prepared data: the most popular items": counts.unknown_users,
        "histories are empty: the most popular items": counts.empty_histories,
        "histories hold no known item: the most popular items": counts.histories_of_unknown_items,
        f"of {counts.items:,} items in histories are not in the index: skipped": (
            counts.unknown_items
        ),
        "histories have no times, which the model looks at: taken as if all was at once": (
            counts.histories_without_times
        ),
        "requests repeat a user: each is answered": counts.repeated_users,
        f"requests have fewer than {k} items to choose from": counts.short_answers,
    }
    lines = [f"{count:,} {what}" for what, count in said.items() if count]
    if counts.items and counts.unknown_items == counts.items:
        lines.append("no item is known at all: are these raw ids, and is --separator right?")
    return lines


def times(retrieved: Retrieved) -> list[str]:
    """How long an answer takes, a line each."""
    return [
        f"{latency.users:,} at once: {latency.median:.3f} ms a user in the median of "
        f"{latency.calls} calls, {latency.p99:.3f} in the 99th percentile (vector and search)"
        for latency in (retrieved.batched, retrieved.alone)
        if latency is not None
    ]


def print_answers(retrieved: Retrieved, console: Console | None = None) -> None:
    """Print the first requests: what the user did last, beside what is recommended."""
    console = console or Console()
    for shown in retrieved.shown:
        console.print(_table(shown))


def _table(shown: Shown) -> Table:
    user = "without a user" if shown.user is None else f"user {one_line(shown.user)}"
    title = Text(f"{user}, by {'the model' if shown.source == 'model' else 'popularity'}")
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    table.add_column("rank", justify="right")
    table.add_column("recommended")
    table.add_column("score", justify="right")
    table.add_column("what the user did, newest first")
    for place in range(max(len(shown.answer), len(shown.newest))):
        name, score = shown.answer[place] if place < len(shown.answer) else ("", None)
        newest = shown.newest[place] if place < len(shown.newest) else ""
        rank = str(place + 1) if name else ""
        digits = 3 if shown.source == "model" else 0
        # Text, so that brackets in a title are no markup.
        table.add_row(
            rank,
            Text(one_line(name)),
            "" if score is None else f"{score:,.{digits}f}",
            Text(one_line(newest)),
        )
    return table
