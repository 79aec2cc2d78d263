"""What one rank alone meets in its data, in mid-training: all ranks stop before it counts."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.faults.jobs import (
    RANKS,
    STEPS_PER_EPOCH,
    check_same,
    last_step,
    torchrun,
    train_command,
)

from dropdrift.data.config import DataConfig
from dropdrift.data.loading.loader import Loader
from dropdrift.data.loading.part import RowGroup
from dropdrift.data.schema import Schema

pytestmark = pytest.mark.timeout(400)

ROWS_PER_GROUP = 600
# From the message of the rank that finds it to the end of all processes, on a machine that is busy.
SECONDS_TO_STOP = 30


def last_row_group(data: Path) -> RowGroup:
    """The last row group of the first epoch, which is the last rank's alone."""
    config = DataConfig(path=data, batch_size=60, shuffle_rows=300, lanes=RANKS)
    loader = Loader(data, "train", Schema.load(data), config, training=True, seed=1)
    return loader._part.row_groups[loader._row_group_order(0)[-1]]


def an_id_out_of_range(group: RowGroup) -> str:
    """In the last row."""
    table = pq.read_table(group.path)
    column = table.schema.get_field_index("item_id")
    ids = table.column(column).to_pylist()
    ids[group.index * ROWS_PER_GROUP + group.rows - 1] = 10**6
    changed = table.set_column(column, "item_id", pa.array(ids, pa.int32()))
    pq.write_table(changed, group.path, row_group_size=ROWS_PER_GROUP, compression="zstd")
    return f"{group.path}: field 'item_id' holds id 1000000"


def a_damaged_row_group(group: RowGroup) -> str:
    """The file's own description of it is whole."""
    content = bytearray(group.path.read_bytes())
    place = group.metadata.row_group(group.index).column(0)
    content[place.data_page_offset : place.data_page_offset + 60] = b"\xff" * 60
    group.path.write_bytes(content)
    return f"{group.path} cannot be read as Parquet"


@pytest.mark.parametrize(
    "spoil", [an_id_out_of_range, pytest.param(a_damaged_row_group, marks=pytest.mark.faults)]
)
def test_bad_data_of_one_rank_in_mid_training(
    undisturbed, prepared_folder, tmp_path, start, spoil: Callable[[RowGroup], str]
):
    """Nothing of it is trained: when it is mended, the run ends as the undisturbed one."""
    data, run = shutil.copytree(prepared_folder, tmp_path / "data"), tmp_path / "run"
    group = last_row_group(data)
    good = group.path.read_bytes()
    problem = spoil(group)
    job = start(torchrun(*train_command(data, run)), run)
    job.await_message(problem)
    assert job.end(seconds=SECONDS_TO_STOP) == 1
    told = job.messages()
    assert next(line for line in told if problem in line).startswith("dropdrift rank 1: ")
    assert all("another rank has ended" in line for line in told if "rank 0" in line)
    assert 0 < last_step(run) < STEPS_PER_EPOCH
    log = (run / "log.jsonl").read_text()
    assert (undisturbed / "log.jsonl").read_text().startswith(log)

    group.path.write_bytes(good)
    (run / "data.json").unlink()  # of the bad data
    again = start(torchrun(*train_command(data, run, "--resume")), run)
    assert again.end() == 0, again.said
    check_same(run, undisturbed)
