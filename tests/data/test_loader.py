from __future__ import annotations

import shutil
import threading
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from dropdrift.data.batch import Batch
from dropdrift.data.config import DataConfig
from dropdrift.data.loading.loader import Cursor, Loader
from dropdrift.data.loading.part import Part, RowGroup
from dropdrift.data.loading.prefetch import prefetch
from dropdrift.data.preparing.part_writer import PartWriter
from dropdrift.data.schema import Encoding, Field, Schema, Table

ROWS = 1003
ROWS_PER_FILE = 400
ROWS_PER_GROUP = 90
GROUPS = 13  # 5 + 5 + 3

SCHEMA = Schema(
    name="numbered",
    fields=(
        Field("tags", "multi", "number", max_length=2),
        Field("number", "categorical", "number"),
        Field("even", "categorical", "number"),
    ),
    tables=(Table("number", ROWS, 4, Encoding("hash")),),
    labels=("click", "like"),
    has_user=True,
)


@pytest.fixture(scope="module")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Parts in which every column of a row follows from the row's number."""
    folder = tmp_path_factory.mktemp("numbered")
    number = np.arange(ROWS)
    table = pa.table(
        {
            "number": pa.array(number.astype(np.int32)),
            "even": pa.array(number.astype(np.int32), mask=number % 2 == 1),
            "tags": pa.array([[n] * (n % 3) or None for n in number], pa.list_(pa.int32())),
            "label:click": pa.array((number % 5 == 0).astype(np.int8)),
            "label:like": pa.array((number % 7 == 0).astype(np.int8), mask=number % 4 == 0),
            ":user": pa.array(number * 11),
        }
    )
    for part in ("train", "validation"):
        (folder / part).mkdir()
        for file, start in enumerate(range(0, ROWS, ROWS_PER_FILE)):
            pq.write_table(
                table.slice(start, ROWS_PER_FILE),
                folder / part / f"part-{file:05d}.parquet",
                row_group_size=ROWS_PER_GROUP,
            )
    return folder


def make(
    folder: Path,
    *,
    training: bool = True,
    batch_size: int = 48,
    lanes: int = 0,
    shuffle_rows: int = 150,
    rank: int = 0,
    world_size: int = 1,
    seed: int = 3,
) -> Loader:
    config = DataConfig(folder, batch_size=batch_size, lanes=lanes, shuffle_rows=shuffle_rows)
    return Loader(
        folder,
        "train" if training else "validation",
        SCHEMA,
        config,
        rank=rank,
        world_size=world_size,
        training=training,
        seed=seed,
    )


def numbers(batch: Batch) -> list[int]:
    """The numbers of a batch's real rows."""
    return batch.features["number"].values().tolist()


def epoch(loader: Loader, number: int = 0) -> list[int]:
    return [row for batch in loader.batches(Cursor(number)) for row in numbers(batch)]


def content(batch: Batch) -> list[tuple[object, ...]]:
    """All there is in a batch, row by row, filling included."""
    features = batch.features.to_dict()
    columns = [
        [bag.tolist() for bag in features[name].to_dense()] for name in sorted(SCHEMA.field_names)
    ]
    labels = batch.labels.nan_to_num(nan=-1).tolist()
    return list(zip(*columns, labels, batch.users.tolist(), strict=True))


def same(left: list[Batch], right: list[Batch]) -> bool:
    def everything(batch: Batch) -> tuple[object, ...]:
        return content(batch), batch.step, batch.first_row, batch.size

    return list(map(everything, left)) == list(map(everything, right))


@pytest.mark.parametrize("training", [True, False])
def test_the_columns_of_a_row_stay_together(numbered: Path, training: bool) -> None:
    for batch in make(numbered, training=training, lanes=3).batches(Cursor()):
        rows = numbers(batch)
        filling = batch.rows - batch.size
        features = batch.features.to_dict()
        assert batch.size == len(rows)
        assert features["even"].lengths().tolist() == [1 - n % 2 for n in rows] + [0] * filling
        assert features["even"].values().tolist() == [n for n in rows if n % 2 == 0]
        assert features["tags"].lengths().tolist() == [n % 3 for n in rows] + [0] * filling
        assert features["tags"].values().tolist() == [n for n in rows for _ in range(n % 3)]
        assert batch.users.tolist() == [n * 11 for n in rows] + [0] * filling
        expected = [[n % 5 == 0, np.nan if n % 4 == 0 else n % 7 == 0] for n in rows]
        expected += [[np.nan, np.nan]] * filling
        np.testing.assert_array_equal(batch.labels.numpy(), np.array(expected, dtype=np.float32))


@pytest.mark.parametrize("lanes", [1, 2, 6])
@pytest.mark.parametrize("shuffle_rows", [1, 40, 90, 10_000])
def test_training_gives_every_row_once_but_a_tail(
    numbered: Path, lanes: int, shuffle_rows: int
) -> None:
    loader = make(numbered, lanes=lanes, shuffle_rows=shuffle_rows)
    rows = epoch(loader)
    assert loader.steps_per_epoch == ROWS // 48
    assert len(rows) == len(set(rows)) == ROWS - ROWS % 48


def test_the_dropped_tail_differs_by_epoch(numbered: Path) -> None:
    loader = make(numbered)
    dropped = [set(range(ROWS)) - set(epoch(loader, number)) for number in range(2)]
    assert dropped[0] != dropped[1]


def assert_order_follows_from_seed_and_epoch(folder: Path, shuffle_rows: int) -> None:
    first = epoch(make(folder, shuffle_rows=shuffle_rows))
    assert first == epoch(make(folder, shuffle_rows=shuffle_rows))
    assert first != epoch(make(folder, shuffle_rows=shuffle_rows), 1)
    assert first != epoch(make(folder, shuffle_rows=shuffle_rows, seed=4))


def test_the_order_of_row_groups_follows_from_seed_and_epoch(numbered: Path) -> None:
    assert_order_follows_from_seed_and_epoch(numbered, shuffle_rows=1)


def test_the_order_within_a_row_group_follows_from_seed_and_epoch(
    numbered: Path, tmp_path: Path
) -> None:
    (tmp_path / "train").mkdir()
    pq.write_table(pq.read_table(numbered / "train"), tmp_path / "train" / "part-00000.parquet")
    assert_order_follows_from_seed_and_epoch(tmp_path, shuffle_rows=150)


def test_rows_are_shuffled_over_row_groups_and_within(numbered: Path) -> None:
    rows = np.array(epoch(make(numbered)))
    assert np.abs(np.corrcoef(rows, np.arange(len(rows)))[0, 1]) < 0.9
    assert (np.diff(rows) == 1).mean() < 0.05


def of_all_ranks(folder: Path, world_size: int, *, training: bool, lanes: int) -> list[list[Batch]]:
    return [
        list(
            make(folder, training=training, lanes=lanes, rank=rank, world_size=world_size).batches(
                Cursor()
            )
        )
        for rank in range(world_size)
    ]


@pytest.mark.parametrize(("lanes", "world_size"), [(2, 2), (4, 2), (6, 3)])
def test_ranks_together_train_on_what_one_process_does(
    numbered: Path, lanes: int, world_size: int
) -> None:
    alone = list(make(numbered, lanes=lanes).batches(Cursor()))
    ranks = of_all_ranks(numbered, world_size, training=True, lanes=lanes)
    for whole, *shares in zip(alone, *ranks, strict=True):
        assert [row for share in shares for row in content(share)] == content(whole)
        assert [share.first_row for share in shares] == list(range(0, 48, 48 // world_size))
        assert {share.rows for share in shares} == {48 // world_size}
        assert {share.step for share in shares} == {whole.step}
        assert sum(share.size for share in shares) == whole.size


@pytest.mark.parametrize(("lanes", "world_size"), [(1, 1), (2, 1), (0, 2), (4, 2), (6, 3)])
def test_ranks_together_evaluate_every_row_and_know_its_position(
    numbered: Path, lanes: int, world_size: int
) -> None:
    alone = epoch(make(numbered, training=False))
    ranks = of_all_ranks(numbered, world_size, training=False, lanes=lanes)
    assert [row for rank in ranks for batch in rank for row in numbers(batch)] == alone
    assert len({len(rank) for rank in ranks}) == 1
    for batch in (batch for rank in ranks for batch in rank):
        assert batch.rows == 48 // world_size
        assert numbers(batch) == alone[batch.first_row : batch.first_row + batch.size]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("done", [0, 1, 7, 19, 20])
def test_resuming_gives_the_batches_that_would_have_come(
    numbered: Path, training: bool, done: int
) -> None:
    loader = make(numbered, training=training, lanes=2)
    uninterrupted = list(loader.batches(Cursor(epoch=1, batch=0, step=100)))
    resumed = list(loader.batches(Cursor(epoch=1, batch=done, step=100 + done)))
    assert same(resumed, uninterrupted[done:])


def test_the_cursor_counts_batches_and_epochs(numbered: Path) -> None:
    loader = make(numbered)
    cursor, steps = Cursor(), []
    for _ in range(2):
        for batch in loader.batches(cursor):
            steps.append(batch.step)
            cursor = cursor.after(loader.steps_per_epoch)
    assert steps == list(range(2 * loader.steps_per_epoch))
    assert cursor == Cursor(epoch=2, batch=0, step=2 * loader.steps_per_epoch)


def spy_on_reads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    reads: list[tuple[str, int]] = []
    read = Part.read

    def spy(self: Part, group: RowGroup) -> object:
        reads.append((group.path.name, group.index))
        return read(self, group)

    monkeypatch.setattr(Part, "read", spy)
    return reads


@pytest.mark.parametrize("shuffle_rows", [10, 150, 10_000])
def test_an_epoch_reads_every_row_group_once(
    numbered: Path, monkeypatch: pytest.MonkeyPatch, shuffle_rows: int
) -> None:
    reads = spy_on_reads(monkeypatch)
    epoch(make(numbered, shuffle_rows=shuffle_rows))
    assert len(reads) == len(set(reads)) == GROUPS


def test_resuming_reads_only_what_is_left(numbered: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loader = make(numbered, training=False, batch_size=50)
    reads = spy_on_reads(monkeypatch)
    list(loader.batches(Cursor(batch=18)))  # rows 900 to 1003: of the last file alone
    assert sorted(reads) == [("part-00002.parquet", 1), ("part-00002.parquet", 2)]


def test_only_the_rows_at_hand_are_read(numbered: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = spy_on_reads(monkeypatch)
    batches = make(numbered, shuffle_rows=90).batches(Cursor())
    next(batches)
    batches.close()
    # One shuffle group of 90 rows is at hand and one is read ahead; a row group has 23 to 90 rows.
    assert len(reads) <= 4


@pytest.mark.parametrize("batch_size", [17, 59, 1003, 2000])
def test_evaluation_keeps_the_order_and_fills_the_last_batch(
    numbered: Path, batch_size: int
) -> None:
    loader = make(numbered, training=False, batch_size=batch_size)
    batches = list(loader.batches(Cursor()))
    assert [row for batch in batches for row in numbers(batch)] == list(range(ROWS))
    assert len(batches) == loader.steps_per_epoch
    assert {batch.rows for batch in batches} == {batch_size}
    assert sum(batch.size for batch in batches) == ROWS
    assert all(batch.size == batch_size for batch in batches[:-1])


@pytest.mark.parametrize("batch_size", [8, 48, 400, 800, 2000])
def test_evaluation_ranks_run_alike_and_real_rows_come_first(
    numbered: Path, batch_size: int
) -> None:
    ranks = [
        list(
            make(
                numbered, training=False, batch_size=batch_size, lanes=4, rank=rank, world_size=4
            ).batches(Cursor())
        )
        for rank in range(4)
    ]
    seen = []
    for shares in zip(*ranks, strict=True):
        for share in shares:
            seen += numbers(share)
            assert share.rows == batch_size // 4
            assert share.features["number"].lengths().tolist() == [1] * share.size + [0] * (
                share.rows - share.size
            )
        # Once a rank has filling rows, those after it have nothing else.
        full = [share.size == share.rows for share in shares]
        assert full == sorted(full, reverse=True)
    assert sorted(seen) == list(range(ROWS))


def test_the_small_set_of_the_other_tests_can_be_read(prepared_folder: Path) -> None:
    schema = Schema.load(prepared_folder)
    for part, rows in (("train", 4000), ("validation", 1500), ("test", 1500)):
        loader = Loader(prepared_folder, part, schema, DataConfig(), training=False)
        batches = list(loader.batches(Cursor()))
        assert sum(batch.size for batch in batches) == rows
        assert set(batches[0].features.keys()) == set(schema.field_names)
        labels = torch.cat([batch.labels[: batch.size] for batch in batches])
        assert 0 < labels.isnan().float().mean() < 0.2
        assert 0.2 < labels.nanmean() < 0.8


@pytest.mark.parametrize("taken", [1, 9, None])
def test_no_thread_is_left(numbered: Path, taken: int | None) -> None:
    batches = prefetch(make(numbered, lanes=3, shuffle_rows=30).batches(Cursor()), 2)
    assert len(list(islice(batches, taken))) == (taken or ROWS // 48)
    batches.close()
    assert [thread for thread in threading.enumerate() if thread.name == "prefetch"] == []


def one_line(error: pytest.ExceptionInfo[ValueError]) -> bool:
    return "\n" not in str(error.value)


def test_numbers_that_do_not_divide(numbered: Path) -> None:
    with pytest.raises(ValueError, match=r"data.lanes is 4, which 3 ranks do not divide"):
        make(numbered, lanes=4, world_size=3)
    with pytest.raises(ValueError, match=r"data.batch_size is 50, which 4 lanes do not divide"):
        make(numbered, batch_size=50, lanes=4, world_size=2)
    with pytest.raises(ValueError, match=r"data.batch_size is 50, which 4 lanes do not divide"):
        make(numbered, batch_size=50, world_size=4)


def test_a_part_smaller_than_a_batch(numbered: Path) -> None:
    with pytest.raises(
        ValueError, match=r"train holds 1003 rows, fewer .* data.batch_size is 1004"
    ):
        make(numbered, batch_size=1004)


def test_a_cursor_behind_the_end(numbered: Path) -> None:
    loader = make(numbered)
    assert list(loader.batches(Cursor(batch=loader.steps_per_epoch))) == []
    with pytest.raises(ValueError, match=r"cannot go on from batch 21 of .*train, which has 20"):
        next(loader.batches(Cursor(batch=loader.steps_per_epoch + 1)))


def test_a_part_that_is_not_there_or_empty(numbered: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"test does not exist: is .* made by"):
        Loader(numbered, "test", SCHEMA, DataConfig(), training=False)
    (tmp_path / "validation").mkdir()
    with pytest.raises(ValueError, match=r"validation holds no rows"):
        make(tmp_path, training=False)
    nothing = pq.read_table(numbered / "train" / "part-00000.parquet").slice(0, 0)
    pq.write_table(nothing, tmp_path / "validation" / "part-00000.parquet")
    with pytest.raises(ValueError, match=r"validation holds no rows"):
        make(tmp_path, training=False)


@pytest.fixture
def damaged(numbered: Path, tmp_path: Path) -> Path:
    """A copy of the data to damage, of which this file is in the training part."""
    shutil.copytree(numbered, tmp_path / "copy")
    return tmp_path / "copy" / "train" / "part-00001.parquet"


def test_a_file_cut_short(damaged: Path) -> None:
    damaged.write_bytes(damaged.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"part-00001.parquet cannot be read as Parquet") as error:
        make(damaged.parents[1])
    assert one_line(error)


def test_an_empty_file(damaged: Path) -> None:
    damaged.write_bytes(b"")
    with pytest.raises(ValueError, match=r"part-00001.parquet cannot be read as Parquet") as error:
        make(damaged.parents[1])
    assert one_line(error)


def test_pages_that_are_damaged(damaged: Path) -> None:
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:4] + b"\xff" * 2000 + whole[2004:])
    loader = make(damaged.parents[1])
    with pytest.raises(ValueError, match=r"part-00001.parquet cannot be read as Parquet") as error:
        epoch(loader)
    assert one_line(error)


def test_a_flipped_bit_that_decompresses(damaged: Path) -> None:
    """Into other ids: what zstd cannot make smaller is kept as it is."""
    table = pq.read_table(damaged)
    damaged.unlink()
    ids = np.random.default_rng(0).permutation(len(table)).astype(np.int32)
    position = table.column_names.index("number")
    with PartWriter(damaged.parent / "new") as writer:
        writer.add(table.set_column(position, "number", pa.array(ids)))
    written = damaged.parent / "new" / "part-00000.parquet"
    content = bytearray(written.read_bytes())
    column = pq.read_metadata(written).row_group(0).column(position)
    content[column.dictionary_page_offset + column.total_compressed_size // 4] ^= 4
    damaged.write_bytes(content)
    assert pq.read_table(damaged).column("number").to_pylist() != ids.tolist()
    with pytest.raises(ValueError, match=r"part-00001.parquet cannot be read .*CRC") as error:
        epoch(make(damaged.parents[1]))
    assert one_line(error)


def test_a_column_that_is_absent_or_of_another_type(damaged: Path) -> None:
    table = pq.read_table(damaged)
    pq.write_table(table.drop_columns("even"), damaged)
    with pytest.raises(ValueError, match=r"part-00001.parquet: no column 'even'"):
        make(damaged.parents[1])
    position = table.column_names.index("even")
    text = table.set_column(position, "even", table["even"].cast(pa.string()))
    pq.write_table(text, damaged)
    with pytest.raises(ValueError, match=r"part-00001.parquet: column 'even' is string"):
        make(damaged.parents[1])


def test_an_id_out_of_range(damaged: Path) -> None:
    table = pq.read_table(damaged)
    position = table.column_names.index("number")
    wrong = pa.array(np.full(len(table), ROWS, dtype=np.int32))
    pq.write_table(table.set_column(position, "number", wrong), damaged)
    with pytest.raises(ValueError, match=r"part-00001.parquet: field 'number' holds id 1003"):
        epoch(make(damaged.parents[1]))
