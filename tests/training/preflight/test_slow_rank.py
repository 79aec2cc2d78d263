"""A real slow rank, one of three that is stopped most of the time, and a dead one."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import dropdrift

pytestmark = pytest.mark.timeout(280)

PROGRAM = Path(__file__).with_name("slow_rank_program.py")
SLOW_RANK = 1


@pytest.fixture(scope="module")
def checked(launch, tmp_path_factory):
    """What is printed, and the document."""
    out = tmp_path_factory.mktemp("preflight") / "preflight.json"
    ended = launch(3, PROGRAM, SLOW_RANK, out)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout, json.loads(out.read_text())


def test_the_slow_rank_is_named_with_its_host_and_the_figures(checked):
    output, document = checked
    warnings = [line for line in output.splitlines() if line.startswith("warning: ")]
    slow = f"warning: rank {SLOW_RANK} on {socket.gethostname()} is slow: it"
    named = [line for line in warnings if line.startswith(slow)]
    assert named, output
    assert all(re.search(r"[\d.]+ (GFLOP|GB)/s.* in the median", line) for line in named)
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


def test_a_rank_that_stands_still_is_named(tmp_path):
    """It joins and stops; the other waits seven seconds for it."""
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port = chosen.getsockname()[1]
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(dropdrift.__file__).parents[1]),
        "CUDA_VISIBLE_DEVICES": "",
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    processes = []
    try:
        for rank in ("0", "1"):
            with (tmp_path / rank).open("w") as said:
                process = subprocess.Popen(
                    [sys.executable, PROGRAM, str(SLOW_RANK)],
                    env=environment | {"RANK": rank, "LOCAL_RANK": rank},
                    stderr=said,
                )
            processes.append(process)
        assert processes[0].wait(timeout=200) != 0
    finally:
        for process in processes:
            process.kill()
            process.wait()
    stopped = rf"rank 1 \(host {socket.gethostname()}, process {processes[1].pid}\)"
    told = (tmp_path / "0").read_text()
    assert re.search(rf"HungRankError: {stopped} has not answered", told), told
