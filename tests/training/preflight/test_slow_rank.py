"""A real slow rank: one of three that is stopped nine tenths of the time."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(280)

SLOW_RANK = 1


@pytest.fixture(scope="module")
def checked(launch, tmp_path_factory):
    """What is printed, and the document."""
    out = tmp_path_factory.mktemp("preflight") / "preflight.json"
    program = Path(__file__).with_name("slow_rank_program.py")
    ended = launch(3, program, SLOW_RANK, out)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout, json.loads(out.read_text())


def test_the_slow_rank_is_named_by_its_work_and_by_its_links(checked):
    output, document = checked
    warnings = [line for line in output.splitlines() if line.startswith("warning: ")]
    slow = f"warning: rank {SLOW_RANK} on {socket.gethostname()} is slow: "
    named = [line.removeprefix(slow) for line in warnings if line.startswith(slow)]
    assert [line for line in named if line.startswith(("it multiplies", "it copies"))], output
    assert [line for line in named if line.startswith("its quickest link within")], output
    assert [finding["text"] for finding in document["findings"]] == [
        line.removeprefix("warning: ") for line in warnings
    ]


def test_the_table_has_all_ranks_and_exchanges_in_100_columns(checked):
    output, document = checked
    lines = [line for line in output.splitlines() if not line.startswith("warning: ")]
    assert max(map(len, lines)) <= 100
    for rank in document["ranks"]:
        (line,) = [line for line in lines if line.startswith(f"{rank['rank']} on ")]
        assert line.split()[3] == str(rank["process"])
    shown = re.findall(r"^(all-reduce|all-to-all) +([\d.]+ \w+)", output, re.MULTILINE)
    collectives = ("all-reduce", "all-to-all")
    assert shown == [(name, size) for name in collectives for size in ("1 MiB", "16 MiB")]


def test_every_rank_and_link_is_in_the_document(checked):
    _, document = checked
    assert [rank["rank"] for rank in document["ranks"]] == [0, 1, 2]
    assert len({rank["process"] for rank in document["ranks"]}) == 3
    assert [work["rank"] for work in document["works"]] == [0, 1, 2]
    pairs = [(link["source"], link["target"]) for link in document["links"]]
    assert sorted(pairs) == [(a, b) for a in range(3) for b in range(3) if a != b]
    assert all(link["seconds"] > 0 and link["size"] == 1 << 24 for link in document["links"])
    assert all(exchange["ranks"] == 3 for exchange in document["exchanges"])
    assert document["provenance"]["world_size"] == 3
