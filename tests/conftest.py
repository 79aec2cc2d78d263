"""For tests of any room: prepared data sets, as ``dropdrift prepare`` writes them; a small disk."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import settings

from dropdrift.data.columns import TIME_COLUMN, USER_COLUMN, label_column
from dropdrift.data.encoding.encoder import Encoder
from dropdrift.data.encoding.vocabulary import Vocabulary
from dropdrift.data.schema import Encoding, Field, Schema, Table

# A shell has its background jobs ignore Ctrl-C, nohup the end of the terminal, and with them what
# the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Triton decides when it is imported, which torchrec does, whether it compiles or interprets.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

# The first example of a test pays for imports and a busy machine for others: no deadlines.
settings.register_profile("dropdrift", deadline=None)
settings.load_profile("dropdrift")

EDGES = (0.1, 0.25, 0.5, 0.75, 0.9)
PART_ROWS = {"train": 4000, "validation": 1500, "test": 1500}
ROWS_PER_FILE = 2500
ROWS_PER_GROUP = 600


@pytest.fixture(scope="session")
def prepared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All kinds of fields, missing values and labels, several files and row groups a part.

    The label ``click`` can be learned from the ids that are there. Do not write into the folder.
    """
    folder = tmp_path_factory.mktemp("prepared")
    schema = _with_vocabularies(_schema(), folder)
    schema.save(folder)
    generator = np.random.default_rng(7)
    effects = {table.name: generator.normal(size=table.rows) for table in schema.tables}
    for part, rows in PART_ROWS.items():
        (folder / part).mkdir()
        table = _random_table(schema, rows, effects, generator)
        for number, start in enumerate(range(0, rows, ROWS_PER_FILE)):
            pq.write_table(
                table.slice(start, ROWS_PER_FILE),
                folder / part / f"part-{number:05d}.parquet",
                row_group_size=ROWS_PER_GROUP,
                compression="zstd",
            )
    return folder


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("only root may mount a file system")
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or (done := _run(mount)).returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        assert _run(["umount", "--lazy", str(folder)]).returncode == 0


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


class WriteInteractions(Protocol):
    """Writes a prepared data set of interactions from lists, as ``--task matching`` would."""

    def __call__(
        self,
        folder: Path,
        users: Sequence[Sequence[int]],
        *,
        items: int = 0,
        times: Sequence[Sequence[int]] | None = None,
        file_order: Sequence[Sequence[int]] | None = None,
        tags: Sequence[Sequence[str]] | None = None,
        years: Sequence[int | None] | None = None,
    ) -> Path:
        """Write into ``folder``.

        Args:
            folder: where; it is made if need be.
            users: the items of each user, rows of the catalogue, in time order; user u is "u<u>".
            items: number of items, at least all that occur; item i is "i<i>", its title "Item <i>".
            times: of each interaction; without, there is no time.
            file_order: of each user's interactions; without, that of time.
            tags: of each item, a field of kind multi; without, there is no such field.
            years: of each item, a categorical field; without, there is no such field.
        """


@pytest.fixture(scope="session")
def write_interactions() -> WriteInteractions:
    return _write_interactions


@pytest.fixture(scope="session")
def interactions_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sequences that can be learned: 40 users of 6 to 40 interactions, 30 items, tags and years.

    The next item is two rows further in the catalogue, four times out of five. Do not write into
    the folder.
    """
    generator = np.random.default_rng(11)
    items, users = 30, []
    for _ in range(40):
        sequence = [int(generator.integers(items))]
        for _ in range(int(generator.integers(5, 40))):
            follows = generator.random() < 0.8
            sequence.append(int((sequence[-1] + 2) if follows else generator.integers(items)))
            sequence[-1] %= items
        users.append(sequence)
    return _write_interactions(
        tmp_path_factory.mktemp("interactions"),
        users,
        items=items,
        times=[[1000 * u + 60 * n for n in range(len(s))] for u, s in enumerate(users)],
        file_order=[generator.permutation(len(s)).tolist() for s in users],
        tags=[[f"t{i % 3}", f"t{3 + i % 5}"][: i % 7 and 1 + i % 2] for i in range(items)],
        years=[1990 + i // 4 if i % 10 else None for i in range(items)],
    )


def _write_interactions(
    folder: Path,
    users: Sequence[Sequence[int]],
    *,
    items: int = 0,
    times: Sequence[Sequence[int]] | None = None,
    file_order: Sequence[Sequence[int]] | None = None,
    tags: Sequence[Sequence[str]] | None = None,
    years: Sequence[int | None] | None = None,
) -> Path:
    items = max(items, 1 + max(max(user, default=0) for user in users))
    raw: dict[str, pa.Array] = {"item_id": pa.array([f"i{i}" for i in range(items)])}
    fields = [Field("item_id", "categorical", "item_id", "item", identifier=True)]
    if tags is not None:
        raw["tags"] = pa.array(tags, pa.list_(pa.string()))
        fields.append(Field("tags", "multi", "tags", "item", max_length=4))
    if years is not None:
        raw["year"] = pa.array([None if year is None else str(year) for year in years])
        fields.append(Field("year", "categorical", "year", "item"))
    folder.mkdir(parents=True, exist_ok=True)
    encoded = _encoded_items(folder, fields, pa.table(raw), has_time=times is not None)
    names = {":item": raw["item_id"], ":title": pa.array([f"Item {i}" for i in range(items)])}
    columns = {name: encoded.column(name) for name in encoded.column_names}
    pq.write_table(pa.table(names | columns), folder / "items.parquet")
    sequences = {
        ":user": pa.array([f"u{number}" for number in range(len(users))]),
        "items": pa.array(map(list, users), pa.list_(pa.int32())),
        "times": pa.array(times or [[0] * len(u) for u in users], pa.list_(pa.int64())),
        "file_order": pa.array(
            file_order or [list(range(len(u))) for u in users], pa.list_(pa.int32())
        ),
    }
    pq.write_table(pa.table(sequences), folder / "users.parquet")
    return folder


def _encoded_items(
    folder: Path, fields: Sequence[Field], raw: pa.Table, *, has_time: bool
) -> pa.Table:
    """Writes schema and vocabularies; every value of a field has an id."""
    vocabularies, tables = {}, []
    for field in fields:
        column = raw.column(field.name).combine_chunks()
        flat = column.flatten() if field.is_bag else column
        values = sorted(set(flat.drop_null().to_pylist()))
        vocabulary = Vocabulary(pa.array(values, pa.string()), np.ones(len(values), np.int64))
        vocabulary.save(folder, field.name)
        vocabularies[field.name] = vocabulary
        encoding = Encoding("vocabulary", digest=vocabulary.digest)
        tables.append(Table(field.name, len(values) + 1, 16, encoding))
    schema = Schema(
        "interactions",
        tuple(fields),
        tuple(tables),
        labels=(),
        has_user=True,
        has_time=has_time,
        kind="interactions",
    )
    schema.save(folder)
    return Encoder(schema, vocabularies).encode(raw)


def _schema() -> Schema:
    buckets = Encoding("buckets", EDGES)
    return Schema(
        name="small",
        fields=(
            Field("user_id", "categorical", "user_id", "user", identifier=True, missing_rate=0.05),
            Field("age", "numeric", "age", "user", missing_rate=0.3),
            Field("history", "sequence", "item", "user", max_length=6, missing_rate=0.2),
            Field("item_id", "categorical", "item", "item", identifier=True, missing_rate=0.05),
            Field("author", "categorical", "author", "item", missing_rate=0.1),
            Field("tags", "multi", "tags", "item", max_length=3, missing_rate=0.25),
            Field("duration", "numeric", "duration", "item", missing_rate=0.1),
            Field("tab", "categorical", "tab", "context"),
        ),
        tables=(
            Table("user_id", 200, 16, Encoding("vocabulary")),
            Table("age", len(EDGES) + 2, 4, buckets),
            Table("item", 300, 16, Encoding("vocabulary")),
            Table("author", 50, 8, Encoding("hash")),
            Table("tags", 20, 8, Encoding("vocabulary"), pooling="sum"),
            Table("duration", len(EDGES) + 2, 4, buckets),
            Table("tab", 6, 4, Encoding("vocabulary")),
        ),
        labels=("click", "like"),
        has_user=True,
        has_time=True,
    )


def _with_vocabularies(schema: Schema, folder: Path) -> Schema:
    """Writes a vocabulary for each table that needs one: value i is "v<i>"."""
    tables = []
    for table in schema.tables:
        if table.encoding.kind == "vocabulary":
            values = [f"v{number}" for number in range(1, table.rows)]
            vocabulary = Vocabulary(pa.array(values), np.ones(len(values), np.int64))
            vocabulary.save(folder, table.name)
            encoding = Encoding("vocabulary", digest=vocabulary.digest)
            table = dataclasses.replace(table, encoding=encoding)
        tables.append(table)
    return dataclasses.replace(schema, tables=tuple(tables))


def _random_table(
    schema: Schema,
    rows: int,
    effects: dict[str, np.ndarray[tuple[int], np.dtype[np.float64]]],
    generator: np.random.Generator,
) -> pa.Table:
    columns = {}
    logits = np.zeros(rows)
    for field in schema.fields:
        absent = generator.random(rows) < field.missing_rate
        ids = generator.integers(0, schema.table(field.table).rows, (rows, field.max_length))
        if field.is_bag:
            lengths = np.where(absent, 0, generator.integers(1, field.max_length + 1, rows))
            bags = [
                bag[:length].tolist() if length else None
                for bag, length in zip(ids, lengths, strict=True)
            ]
            columns[field.name] = pa.array(bags, pa.list_(pa.int32()))
        else:
            columns[field.name] = pa.array(ids[:, 0].astype(np.int32), mask=absent)
            logits += np.where(absent, 0, effects[field.table][ids[:, 0]])
    for label in schema.labels:
        values = generator.random(rows) < 1 / (1 + np.exp(-logits))
        unknown = generator.random(rows) < (0.15 if label == "like" else 0.02)
        columns[label_column(label)] = pa.array(values.astype(np.int8), mask=unknown)
    columns[USER_COLUMN] = pa.array(generator.integers(1, 100, rows) * 7919)
    columns[TIME_COLUMN] = pa.array(np.sort(generator.random(rows)))
    return pa.table(columns)
