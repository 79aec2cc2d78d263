"""A mistake that one rank alone finds ends all ranks, in one line each and at once."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

SMALL = (
    "--data.batch-size", 256, "--loop.max-steps", 2, "--model.dcnv2.deep-widths", 8,
    "--model.dcnv2.z-width", 4,
)  # fmt: skip

pytestmark = pytest.mark.timeout(280)


@pytest.fixture
def data(prepared_folder, tmp_path) -> Path:
    return shutil.copytree(prepared_folder, tmp_path / "data")


def replace(path: Path, name: str, values: pa.Array) -> None:
    table = pq.read_table(path)
    pq.write_table(table.set_column(table.schema.get_field_index(name), name, values), path)


def messages_of(launch, data: Path, out: Path, *options: str) -> list[str]:
    """What the two ranks say; torchrun says more, which is its own."""
    # "--": or torchrun takes options for its own.
    ended = launch(
        2, "-m", "dropdrift", "--", "train", "--data.path", data, "--out", out, *SMALL, *options
    )
    assert ended.returncode != 0
    assert not (out / "result.json").exists()
    assert not list(out.glob("checkpoints/*/COMMITTED"))
    # The prefix of a rank's traceback.
    assert "[rank" not in ended.stderr
    return [line for line in ended.stderr.splitlines() if line.startswith("dropdrift rank")]


def test_metrics_that_only_the_first_rank_has(launch, data, tmp_path):
    part = data / "validation" / "part-00000.parquet"
    rows = pq.read_metadata(part).num_rows
    replace(part, ":user", pa.array(np.arange(rows)))
    told = messages_of(launch, data, tmp_path / "run", "--loop.select-by", "uauc")
    assert any(
        line.startswith("dropdrift rank 0: loop.select_by is 'uauc', but no user") for line in told
    )


def test_a_row_that_only_the_last_rank_reads(launch, data, tmp_path):
    part = data / "validation" / "part-00000.parquet"
    ids = pq.read_table(part).column("item_id").to_pylist()
    replace(part, "item_id", pa.array([*ids[:-1], 10**6], pa.int32()))
    # Row groups of 600 rows: the damaged one is the last rank's alone.
    pq.write_table(pq.read_table(part), part, row_group_size=600)
    told = messages_of(launch, data, tmp_path / "run")
    assert any(line.startswith("dropdrift rank 1: ") and "id 1000000" in line for line in told)
    assert all("another rank has ended" in line for line in told if "rank 0" in line)


def test_a_plan_that_the_first_rank_does_not_find(launch, data, tmp_path):
    """Its error holds what was planned, and the other rank is told what it says."""
    told = messages_of(launch, data, tmp_path / "run", "--sharding.host-memory-gib", "1e-6")
    assert told
    assert all("no sharding plan fits" in line for line in told), told
