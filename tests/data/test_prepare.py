import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dropdrift.data.encoding.encoder import Encoder, encode_users
from dropdrift.data.preparing import part_writer
from dropdrift.data.preparing.prepare import prepare
from dropdrift.data.quarantine import BadRows
from dropdrift.data.schema import Schema
from dropdrift.data.source import DatasetSpec, FieldSpec, FractionSplit, TimeSplit

SPEC = DatasetSpec(
    name="toy",
    fields=(
        FieldSpec("city", "categorical", "vocabulary", min_count=2),
        FieldSpec("price", "numeric", "buckets", size=4),
        FieldSpec("tags", "multi", "vocabulary", separator="|", max_length=3),
    ),
    labels=("click", "like"),
    split=TimeSplit(600, 800),
    user="who",
    time="when",
)


class Rows:
    """A source of given columns, cut into batches."""

    def __init__(
        self, columns: dict[str, list[object]], spec: DatasetSpec = SPEC, size: int = 70
    ) -> None:
        self.spec = spec
        self._table = pa.table(columns)
        self._size = size

    @property
    def total_rows(self) -> int | None:
        return self._table.num_rows

    def batches(self, bad_rows: BadRows) -> Iterator[pa.RecordBatch]:  # noqa: ARG002  # protocol
        yield from self._table.to_batches(max_chunksize=self._size)


def columns(rows: int = 1000) -> dict[str, list[object]]:
    """Times are the row numbers; the last 200 rows (the test part) know a city of their own."""
    return {
        "city": [None if i % 10 == 0 else "new" if i >= 800 else f"c{i % 7}" for i in range(rows)],
        "price": [float(i % 13) for i in range(rows)],
        "tags": ["|".join(str(j) for j in range(i % 4)) for i in range(rows)],
        "click": [i % 3 == 0 for i in range(rows)],
        "like": [None if i % 5 == 0 else i % 2 for i in range(rows)],
        "who": [i % 11 for i in range(rows)],
        "when": list(range(rows)),
    }


def read_part(out: Path, part: str) -> pa.Table:
    return pq.read_table(out / part)


def statistics(out: Path) -> dict[str, object]:
    content: dict[str, object] = json.loads((out / "statistics.json").read_text())
    return content


def test_the_parts_hold_the_encoded_rows_in_order(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    rows = columns()
    schema = prepare(Rows(rows), out, progress=False)
    assert Schema.load(out) == schema
    assert (schema.has_user, schema.has_time) == (True, True)
    encoder = Encoder.load(out)
    users = encode_users(pa.array(rows["who"])).to_pylist()
    for part, start, stop in [("train", 0, 600), ("validation", 600, 800), ("test", 800, 1000)]:
        written = read_part(out, part)
        raw = pa.table(rows).slice(start, stop - start)
        assert written.select(schema.field_names).equals(encoder.encode(raw))
        assert written["label:click"].to_pylist() == [i % 3 == 0 for i in range(start, stop)]
        assert written["label:like"].to_pylist() == raw["like"].to_pylist()
        assert written[":user"].to_pylist() == users[start:stop]
        assert written[":time"].to_pylist() == list(range(start, stop))
    types = {f.name: str(f.type) for f in written.schema}
    assert types["label:like"] == "int8"
    assert types[":user"] == "int64"
    assert types[":time"] == "double"
    assert sorted(p.name for p in out.iterdir()) == sorted(
        ["schema.yaml", "statistics.json", "example.parquet", "vocabularies",
         "train", "validation", "test"]
    )  # fmt: skip
    assert [p.name for p in out.parent.iterdir()] == ["out"]


def test_the_best_auc_is_that_of_the_true_probabilities(tmp_path: Path) -> None:
    spec = dataclasses.replace(SPEC, oracle="truth")
    rows: dict[str, list[object]] = {**columns(), "truth": [0.1 + i % 2 / 2 for i in range(1000)]}
    prepare(Rows(rows, spec), tmp_path / "out", progress=False)
    # Half of the rows have 0.1, half 0.6; pairs within a half count half.
    right, wrong, even = 0.6 * 0.9, 0.1 * 0.4, 0.6 * 0.4 + 0.1 * 0.9
    expected = (right + even / 2) / (right + wrong + even)
    best = statistics(tmp_path / "out")["bayes_optimal_auc"]
    assert best == dict.fromkeys(["train", "validation", "test"], pytest.approx(expected, abs=2e-3))
    assert "truth" not in read_part(tmp_path / "out", "train").column_names
    rows["truth"][3] = 1.5
    with pytest.raises(ValueError, match=r"row 4: the true probability 'truth' is 1\.5"):
        prepare(Rows(rows, spec), tmp_path / "other", progress=False)


def test_only_the_training_part_is_fitted(tmp_path: Path) -> None:
    out = tmp_path / "out"
    rows = columns()
    rows["price"] = [float(i % 13) if i < 600 else 1e9 for i in range(1000)]
    schema = prepare(Rows(rows), out, progress=False)
    values = pq.read_table(out / "vocabularies" / "city.parquet")["value"].to_pylist()
    assert sorted(values) == [f"c{i}" for i in range(7)]
    assert set(read_part(out, "test")["city"].to_pylist()) == {0, None}
    assert max(schema.table("price").encoding.edges) <= 12
    assert schema.field("city").missing_rate == 0.1
    fields = statistics(out)["parts"]["test"]["fields"]  # type: ignore[index]  # JSON
    assert fields["city"]["out_of_vocabulary"] == 1.0
    assert fields["tags"]["out_of_vocabulary"] == 0.0


def test_statistics_count_what_is_there(tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare(Rows(columns()), out, progress=False, provenance={"command": "make it"})
    found = statistics(out)
    train = found["parts"]["train"]  # type: ignore[index]  # JSON
    assert train["rows"] == 600
    assert train["labels"] == {
        "click": {"known": 600, "rate": 1 / 3},
        "like": {"known": 480, "rate": 0.5},
    }
    assert train["fields"]["city"] == {
        "missing_rate": 0.1, "pooling_factor": 0.9, "out_of_vocabulary": 0.0,
    }  # fmt: skip
    assert train["fields"]["tags"]["pooling_factor"] == 1.5
    tags = found["tables"]["tags"]  # type: ignore[index]  # JSON
    assert (tags["rows"], tags["distinct_ids"], tags["lookups"]) == (4, 3, 900)
    assert tags["top_share"] == {"1": 0.5, "10": 1.0, "100": 1.0, "1000": 1.0}
    assert tags["histogram"] == [
        {"from": 128, "ids": 1, "lookups": 150},
        {"from": 256, "ids": 2, "lookups": 750},
    ]
    assert found["name"] == "toy"
    assert found["bad_rows"] == {}
    assert found["provenance"] == {"command": "make it"}


def test_the_example_is_the_first_raw_rows_of_the_test_part(tmp_path: Path) -> None:
    out = tmp_path / "out"
    schema = prepare(Rows(columns(4000)), out, progress=False)
    example = pq.read_table(out / "example.parquet")
    assert example.column_names == [*schema.field_names, "click", "like", "who", "when"]
    assert example["when"].to_pylist() == list(range(800, 1800))
    encoded = Encoder.load(out).encode(example)
    assert encoded.equals(read_part(out, "test").select(schema.field_names).slice(0, 1000))


def test_bad_rows_are_set_aside_and_counted_once(tmp_path: Path) -> None:
    rows = columns()
    rows["price"] = [str(i % 13) if i != 17 else "cheap" for i in range(1000)]
    rows["when"] = [None if i == 900 else i for i in range(1000)]
    with pytest.raises(ValueError, match=r"row 18: column 'price' holds no number \('cheap'\)"):
        prepare(Rows(rows), tmp_path / "out", progress=False)
    assert list(tmp_path.iterdir()) == []
    prepare(Rows(rows), tmp_path / "out", progress=False, bad_rows="quarantine")
    assert statistics(tmp_path / "out")["bad_rows"] == {
        "column 'price' holds no number": 1,
        "column 'when', the time, is missing": 1,
    }
    lines = (tmp_path / "out" / "quarantine.jsonl").read_text().splitlines()
    assert [json.loads(line)["row"] for line in lines] == [18, 901]
    assert read_part(tmp_path / "out", "train").num_rows == 599
    assert read_part(tmp_path / "out", "test").num_rows == 199


def split(rows: dict[str, list[object]], spec: DatasetSpec, out: Path) -> dict[str, list[object]]:
    prepare(Rows(rows, spec), out, progress=False, overwrite=True)
    parts = ("train", "validation", "test")
    return {part: read_part(out, part)["label:click"].to_pylist() for part in parts}


def test_shares_of_the_rows_follow_time_and_keep_equal_times_together(tmp_path: Path) -> None:
    rows = columns()
    order = np.random.default_rng(0).permutation(1000)
    rows["when"] = (order // 30).tolist()
    spec = dataclasses.replace(SPEC, split=FractionSplit(0.2, 0.1))
    prepare(Rows(rows, spec), tmp_path / "out", progress=False)
    times = {part: read_part(tmp_path / "out", part)[":time"].to_numpy()
             for part in ("train", "validation", "test")}  # fmt: skip
    assert times["train"].max() < times["validation"].min()
    assert times["validation"].max() < times["test"].min()
    assert 100 <= len(times["test"]) < 130
    assert 170 < len(times["validation"]) < 230


def test_without_time_the_order_of_the_rows_is_taken(tmp_path: Path) -> None:
    spec = dataclasses.replace(SPEC, split=FractionSplit(0.2, 0.1), time="")
    rows = columns()
    schema = prepare(Rows(rows, spec), tmp_path / "out", progress=False)
    assert not schema.has_time
    test = read_part(tmp_path / "out", "test")
    assert ":time" not in test.column_names
    assert test["label:like"].to_pylist() == rows["like"][900:]
    assert (
        read_part(tmp_path / "out", "validation")["label:like"].to_pylist() == rows["like"][700:900]
    )


def replaced(**changes: object) -> Rows:
    rows = columns()
    return Rows(rows | changes)  # type: ignore[arg-type]  # columns


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (replaced(when=[i * 0.1 for i in range(1000)]),
         "the validation part is empty: validation begins at 600 and test at 800, but column "
         "'when' goes from 0 to 99.9"),
        (replaced(when=[i + 700 for i in range(1000)]), "the train part is empty"),
        (Rows({n: v[:0] for n, v in columns().items()}), "data set 'toy' has no row"),
        (replaced(click=[i >= 600 for i in range(1000)]),
         "label 'click' is 0 in all rows of the train part"),
        (replaced(click=[1 if i < 800 else None for i in range(1000)]),
         "label 'click' has no value in the test part"),
        (replaced(click=[3] * 1000), "label 'click' is 3, must be 0, 1 or missing"),
    ],
)  # fmt: skip
def test_data_that_cannot_be_trained_on_is_refused(
    source: Rows, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        prepare(source, tmp_path / "out", progress=False)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_kept_unless_it_may_be_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare(Rows(columns()), out, progress=False)
    before = (out / "statistics.json").read_bytes()
    with pytest.raises(ValueError, match=r"out exists already: .*'--overwrite'"):
        prepare(Rows(columns()), out, progress=False)
    with pytest.raises(ValueError, match="no row"):
        prepare(Rows({n: v[:0] for n, v in columns().items()}), out, progress=False, overwrite=True)
    assert (out / "statistics.json").read_bytes() == before
    prepare(Rows(columns(1200)), out, progress=False, overwrite=True)
    assert read_part(out, "test").num_rows == 400
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_overwrite_leaves_other_folders_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    with pytest.raises(ValueError, match="holds no prepared data set"):
        prepare(Rows(columns()), tmp_path, progress=False, overwrite=True)
    with pytest.raises(ValueError, match="holds no prepared data set"):
        prepare(Rows(columns()), tmp_path / "precious", progress=False, overwrite=True)
    assert (tmp_path / "precious").read_text() == "mine"


def test_files_and_row_groups_have_their_sizes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part_writer, "ROW_GROUP_ROWS", 64)
    monkeypatch.setattr(part_writer, "FILE_ROWS", 250)
    prepare(Rows(columns()), tmp_path / "out", progress=False)
    files = sorted((tmp_path / "out" / "train").iterdir())
    assert [path.name for path in files] == [f"part-0000{i}.parquet" for i in range(3)]
    metadata = [pq.read_metadata(path) for path in files]
    groups = [[m.row_group(i).num_rows for i in range(m.num_row_groups)] for m in metadata]
    assert groups == [[64, 64, 64, 58], [64, 64, 64, 58], [64, 36]]
    assert read_part(tmp_path / "out", "train")[":time"].to_pylist() == list(range(600))


def test_the_result_does_not_depend_on_the_batches(tmp_path: Path) -> None:
    for size in (9, 333, 100_000):
        prepare(Rows(columns(), size=size), tmp_path / str(size), progress=False)
    for part in ("train", "validation", "test"):
        tables = [read_part(tmp_path / str(size), part) for size in (9, 333, 100_000)]
        assert tables[0].equals(tables[1])
        assert tables[0].equals(tables[2])
    assert statistics(tmp_path / "9") == statistics(tmp_path / "333")


STREAM = """
import sys, resource
from pathlib import Path
import numpy as np, pyarrow as pa
from dropdrift.data.preparing.prepare import prepare
from dropdrift.data.source import DatasetSpec, FieldSpec, FractionSplit

WORDS = np.array(["w" * 200 + str(i) for i in range(50)], dtype=object)

class Generated:
    total_rows = None
    spec = DatasetSpec(
        "generated",
        (FieldSpec("price", "numeric", "buckets", size=8),
         *(FieldSpec(f"c{i}", "categorical", "vocabulary") for i in range(3))),
        ("click",), FractionSplit())

    def batches(self, bad_rows):
        for batch in range(int(sys.argv[2])):
            generator = np.random.default_rng(batch)
            columns = {f"c{i}": WORDS[generator.integers(0, 50, 20_000)] for i in range(3)}
            columns["price"] = generator.random(20_000)
            columns["click"] = generator.integers(0, 2, 20_000)
            yield pa.RecordBatch.from_pydict(columns)

prepare(Generated(), Path(sys.argv[1]), progress=False)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    def peak_mib(batches: int) -> float:
        out = str(tmp_path / f"out{batches}")
        command = [sys.executable, "-c", STREAM, out, str(batches)]
        result = subprocess.run(command, check=True, capture_output=True, text=True)
        return int(result.stdout) / 1024

    # 300,000 rows more are 170 MiB of text; the samples of price and position hold 5 MiB of them.
    few, many = peak_mib(5), peak_mib(20)
    assert many - few < 60, f"{few:.0f} MiB for 100,000 rows, {many:.0f} MiB for 400,000"
