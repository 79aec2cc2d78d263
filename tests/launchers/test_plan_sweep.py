"""``dropdrift plan sweep``, as a shell runs it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# Twelve tables of 4 GiB; GPUs of 10 hold two each.
TABLES = """
tables: [{name: t, count: 12, rows: 16_777_216, width: 64}]
labels: [click]
model: {method: base}
optimizer: {sparse: sgd}
data: {batch_size: 64}
sharding: {types: [table_wise], hbm_gib: 10, reserve: 0}
"""
ONE_PROCESS = ("--workers", 1)
SMALL = ("--sweep.nodes", 1, "--sweep.hardware", "H100", "H200")


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    """A configuration that needs six GPUs."""
    path = tmp_path / "tables.yaml"
    path.write_text(TABLES)
    return path


def test_tables_json_page_and_picture(
    tables: Path, succeed: Callable[..., Any], tmp_path: Path
) -> None:
    files = {name: tmp_path / "out" / f"sweep.{name}" for name in ("json", "html", "svg", "png")}
    written = ("--json", files["json"], "--html", files["html"], "--plot", files["svg"])
    ended = succeed("plan", "sweep", tables, *SMALL, *ONE_PROCESS, *written)
    lines = ended.output.splitlines()
    assert max(map(len, lines)) <= 120
    (answer,) = (line.split() for line in lines if line.startswith("H100 ") and "1 x 6" in line)
    assert answer[:6] == ["H100", "64", "1", "x", "6*", "6"]
    assert "TorchRec's estimates of embeddings alone" in " ".join(ended.output.split())
    document = json.loads(files["json"].read_text())
    assert (document["kind"], document["name"]) == ("sweep", str(tables))
    assert document["provenance"]["config"]["sweep"]["hardware"] == ["H100", "H200"]
    assert [point["hardware"] for point in document["points"]] == ["H100", "H200"]
    assert [one["found"]["gpus"] for one in document["smallest"]] == [6, 6]
    page = files["html"].read_text()
    assert page.count("<svg") == 2  # for wide windows and for narrow ones
    assert "http://" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "")
    assert files["svg"].read_text().startswith("<svg")
    succeed("plan", "sweep", tables, *SMALL, *ONE_PROCESS, "--plot", files["png"])
    assert files["png"].read_bytes().startswith(b"\x89PNG")


def test_json_on_the_terminal_is_all_that_is_there(
    tables: Path, succeed: Callable[..., Any]
) -> None:
    ended = succeed("plan", "sweep", tables, *SMALL, *ONE_PROCESS, "--json", "-")
    assert len(json.loads(ended.output)["points"]) == 2


def test_where_nothing_fits_the_tables_are_shown_and_the_exit_code_is_2(
    tables: Path, command: Callable[..., Any]
) -> None:
    options = (*SMALL, *ONE_PROCESS, "--sharding.hbm-gib", 3, "--gpus-per-node", 1)
    ended = command("plan", "sweep", tables, *options)
    assert ended.code == 2
    assert "none to 64 x 1" in ended.output
    (line,) = ended.messages.splitlines()
    assert line.startswith("dropdrift: no cluster of H100, H200 fits, up to 64 x 1 GPUs; on H100")
    assert "takes 4.0" in line


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--sweep.hardware", "H100", "H300"), r"unknown hardware 'H300'.*A100-40.*B200"),
        (("--sweep.hardware", "H100", "h100"), "'H100' and 'h100', which are both called H100"),
        (("--sweep.nodes",), "sweep.nodes is empty"),
        (("--sweep.nodes", 2, 0), "sweep.nodes has 0, must be positive"),
        (("--sweep.gpus-per-node", -1), "sweep.gpus_per_node has -1, must be positive"),
        (("--sweep.batch-sizes", 0), "sweep.batch_sizes has 0, must be positive"),
        (("--sweep.rows-per-gpu", 8, 8), "sweep.rows_per_gpu has 8 more than once"),
        (("--sweep.batch-sizes", *range(1, 127)), r"2,016 plans, more than 2,000"),
        (("--workers", -1), "workers is -1, must not be negative"),
        (("--plot", "picture.gif"), r"plot is picture.gif, must end in .svg, .png or .pdf"),
        (("--sweep.hardware", "CPU"), "sharding.hbm_gib is 10, but hardware CPU has no GPU"),
    ],
)
def test_mistakes_are_one_line(
    options: tuple[object, ...], message: str, tables: Path, mistake: Callable[..., str]
) -> None:
    import re

    line = mistake("plan", "sweep", tables, *ONE_PROCESS, *options)
    assert re.search(message, line), line
