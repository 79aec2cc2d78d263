"""A user's mistakes, end to end: one line that names what is wrong, exit code 2, nothing left."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

Mistake = Callable[..., str]
Succeed = Callable[..., Any]
Damage = Callable[[Path], object]

SMALL = (
    "--data.batch-size", 256, "--data.prefetch", 0, "--loop.max-steps", 2,
    "--model.dcnv2.deep-widths", 8, "--model.dcnv2.z-width", 4, "--model.dcnv2.cross-rank", 2,
)  # fmt: skip


@pytest.fixture(scope="module")
def trained(
    prepared_folder: Path, succeed: Succeed, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run of two steps. Do not write into the folder."""
    out = tmp_path_factory.mktemp("trained") / "run"
    succeed("train", "--data.path", prepared_folder, "--out", out, *SMALL)
    return out


@pytest.fixture(scope="module")
def evaluated(trained: Path, succeed: Succeed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The result file of the run's evaluation. Do not write to it."""
    out = tmp_path_factory.mktemp("evaluated") / "evaluation.json"
    succeed("evaluate", "--run-folder", trained, "--out", out)
    return out


@pytest.fixture
def data(prepared_folder: Path, tmp_path: Path) -> Path:
    """A prepared data set to damage."""
    return shutil.copytree(prepared_folder, tmp_path / "data")


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A run to damage."""
    return shutil.copytree(trained, tmp_path / "run")


def raw_rows(rows: int = 40) -> dict[str, list[object]]:
    """Raw values of all fields of the prepared data set, as ``predict`` takes them."""
    return {
        "user_id": [f"v{1 + i % 199}" for i in range(rows)],
        "age": [i / rows for i in range(rows)],
        "history": [[f"v{1 + i + j}" for j in range(i % 5)] for i in range(rows)],
        "item_id": [f"v{1 + i % 299}" for i in range(rows)],
        "author": [f"author {i % 7}" for i in range(rows)],
        "tags": [["v1", "v2"] for _ in range(rows)],
        "duration": [0.5 for _ in range(rows)],
        "tab": [f"v{1 + i % 5}" for i in range(rows)],
    }


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def edit_yaml(path: Path, edit: Callable[[Any], object]) -> None:
    raw = yaml.safe_load(path.read_text())
    edit(raw)
    path.write_text(yaml.safe_dump(raw, sort_keys=False))


class TestOptions:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["trian"], "unknown command 'trian'; there are: prepare, train"),
            (["prepare", "kuai"], "unknown layout 'kuai'; there are: kuairand, criteo"),
            (["prepare", "criteo", "--out", "x"], "required option --source is missing"),
            (
                ["prepare", "criteo", "--sorce", "x"],
                "unknown option --sorce; did you mean --source",
            ),
            (["prepare", "criteo", "--bad-rows", "skip"], "--bad-rows is 'skip', must be one of"),
            (["train", "--recipe", "dcn"], "unknown recipe 'dcn'; did you mean dcnv2"),
            (["train", "--recipe", ""], "unknown recipe ''"),
            (["train", "--recipe", "none.yaml"], "none.yaml does not exist"),
            (["train", "--loop.epoch", "1"], "unknown option --loop.epoch; did you mean"),
            (["train", "--loop.epochs", "1e3"], "--loop.epochs is '1e3', must be a whole number"),
            (["train", "--loop.epochs", "0"], "loop.epochs is 0, must be positive"),
            (["train", "--loop.seed", str(2**70)], "loop.seed is 1180591620717411303424, must be"),
            (["train", "--loop.timeout", "1e18"], "loop.timeout is 1e+18, must be at most"),
            (["train", "--sharding.hbm-gib", "inf"], "--sharding.hbm-gib is inf, must be a finite"),
            (["train", "--sharding.types", "row"], "--sharding.types is 'row', must be one of"),
            (["evaluate", "--run-folder", "x", "--part", "tst"], "--part is 'tst', must be one of"),
            (
                ["evaluate", "--run-folder", "x", "--seed", "-1"],
                "seed is -1, must be between 0 and",
            ),
            (
                ["evaluate", "--run-folder", "x", "--batch-size", "0"],
                "batch_size is 0, must be positive",
            ),
            (["report"], "required option --results is missing"),
            (["report", "--results"], "--results names no file"),
            (["doctor", "--jason"], "unknown option --jason; did you mean --json?"),
        ],
    )
    def test_of_the_command_line(
        self, mistake: Mistake, arguments: list[str], message: str
    ) -> None:
        assert message in mistake(*arguments)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("model: {dcn: 3}", "unknown key 'model.dcn'; did you mean dcnv2?"),
            ("loop: {epochs: many}", "loop.epochs is 'many', must be a whole number"),
            ("loop: 3", "loop is 3, must be a mapping"),
            ("- 1", "the file is [1], must be a mapping"),
            ("loop: [1", "is not valid YAML"),
            ("out: 2024-13-45", "is not valid YAML: month must be in 1..12"),
            ("[" * 5_000, "is not valid YAML"),
            ("a: \0", "is not valid YAML"),
            (b"\xff\xfe", "is no text in UTF-8"),
        ],
    )
    def test_of_a_recipe_name_the_file(
        self, mistake: Mistake, tmp_path: Path, text: str | bytes, message: str
    ) -> None:
        recipe = tmp_path / "mine.yaml"
        recipe.write_bytes(text if isinstance(text, bytes) else text.encode())
        told = mistake("train", "--recipe", recipe)
        assert told.startswith(str(recipe))
        assert message in told

    def test_nothing_that_a_file_holds_steers_the_terminal(
        self, mistake: Mistake, tmp_path: Path
    ) -> None:
        (tmp_path / "rows.csv").write_text("\x1b[2Ja,b\n1,2\n")
        (tmp_path / "d.yaml").write_text(
            "{fields: [{name: b, kind: numeric}], labels: [a], split: {}}"
        )
        told = mistake(
            "prepare", "table", "--source", tmp_path / "rows.csv",
            "--description", tmp_path / "d.yaml", "--out", tmp_path / "out",
        )  # fmt: skip
        assert "has no column 'a'" in told
        assert told.isprintable()


def parts_of(part: str) -> Callable[[Path], Path]:
    return lambda folder: folder / part / "part-00000.parquet"


def column(
    name: str, values: Callable[[list[Any]], list[Any]], kind: pa.DataType, part: str = "train"
) -> Damage:
    """Replaces a column of the part's first file."""

    def damage(folder: Path) -> None:
        path = folder / part / "part-00000.parquet"
        table = pq.read_table(path)
        index = table.schema.get_field_index(name)
        changed = pa.array(values(table.column(name).to_pylist()), kind)
        pq.write_table(table.set_column(index, name, changed), path)

    return damage


def first(value: object) -> Callable[[list[Any]], list[Any]]:
    return lambda values: [value, *values[1:]]


def everywhere(value: object) -> Callable[[list[Any]], list[Any]]:
    return lambda values: [value] * len(values)


def schema(edit: Callable[[Any], object]) -> Damage:
    return lambda folder: edit_yaml(folder / "schema.yaml", edit)


def every_part_of(name: str, part: str) -> Damage:
    """Drops a column of all files of a part."""

    def damage(folder: Path) -> None:
        for path in (folder / part).iterdir():
            pq.write_table(pq.read_table(path).drop_columns([name]), path)

    return damage


def all_rows(name: str, value: object, part: str) -> Damage:
    """Gives an int8 column one value in all files of a part."""

    def damage(folder: Path) -> None:
        for path in (folder / part).iterdir():
            table = pq.read_table(path)
            values = pa.array([value] * len(table), pa.int8())
            pq.write_table(table.set_column(table.schema.get_field_index(name), name, values), path)

    return damage


class TestPreparedData:
    @pytest.mark.parametrize(
        ("damage", "message"),
        [
            (lambda d: (d / "schema.yaml").unlink(), "schema.yaml does not exist: is"),
            (lambda d: (d / "schema.yaml").write_text(""), "expected a mapping, found NoneType"),
            (lambda d: (d / "schema.yaml").write_bytes(b"\xff"), "is no text in UTF-8"),
            (schema(lambda s: s.update(format_version=9)), "format_version is 9, this version"),
            (schema(lambda s: s.update(extra=1)), "schema has the unknown key 'extra'"),
            (schema(lambda s: s.pop("labels")), "schema has no key 'labels'"),
            (schema(lambda s: s["fields"][1].update(knd=1)), "field 'age' has the unknown key"),
            (schema(lambda s: s["fields"][1].pop("name")), "has no key 'name'"),
            (schema(lambda s: s["fields"][1].update(kind="number")), "kind is 'number', must be"),
            (schema(lambda s: s["fields"][1].update(table="ag")), "unknown table 'ag'"),
            (schema(lambda s: s["fields"].append("x")), "fields is 'x', must be a mapping"),
            (schema(lambda s: s["fields"][1].update(missing_rate=2.0)), "must be in [0, 1]"),
            (schema(lambda s: s["tables"][0].update(rows="many")), "must be of type int"),
            (schema(lambda s: s["tables"][0].update(rows=90.5)), "must be of type int"),
            (schema(lambda s: s["tables"][0].update(rows=10**12)), "rows is 1000000000000, must"),
            (schema(lambda s: s["tables"][0].pop("encoding")), "has no key 'encoding'"),
            (schema(lambda s: s.update(has_user="maybe")), "has_user is 'maybe', must be of type"),
            (
                schema(
                    lambda s: s["fields"].append(
                        {"name": "ghost", "kind": "categorical", "table": "tab"}
                    )
                ),
                "part-00000.parquet: no column 'ghost', which the schema names",
            ),
            (lambda d: shutil.rmtree(d / "vocabularies"), "user_id.parquet does not exist"),
            (
                lambda d: shutil.copy(
                    d / "vocabularies/tab.parquet", d / "vocabularies/tags.parquet"
                ),
                "tags.parquet is not the vocabulary that table 'tags' of the schema",
            ),
            (lambda d: shutil.rmtree(d / "train"), "train does not exist"),
            (lambda d: shutil.rmtree(d / "validation"), "validation does not exist"),
            (lambda d: [p.unlink() for p in (d / "train").iterdir()], "train holds no rows"),
            (
                lambda d: [p.unlink() for p in (d / "validation").iterdir()],
                "validation holds no rows",
            ),
            (
                lambda d: cut_short(d / "train/part-00001.parquet"),
                "part-00001.parquet cannot be read",
            ),
            (lambda d: cut_short(d / "validation/part-00000.parquet"), "cannot be read as Parquet"),
            (every_part_of("label:click", "train"), "no column 'label:click', which the schema"),
            (every_part_of(":user", "validation"), "no column ':user', which the schema names"),
            (every_part_of("item_id", "train"), "no column 'item_id', which the schema names"),
            (column("age", everywhere(None), pa.string()), "column 'age' is string, the schema"),
            (column("tags", everywhere(None), pa.int32()), "column 'tags' is int32, the schema"),
            (
                column("label:click", everywhere(1.0), pa.float32()),
                "is float, the schema wants int8",
            ),
            (all_rows("label:click", 1, "train"), "train: label 'click' is 1 in all rows"),
            (all_rows("label:click", 0, "validation"), "validation: label 'click' is 0 in all"),
            (all_rows("label:click", None, "validation"), "label 'click' is known in no row"),
        ],
    )
    def test_is_refused_before_the_run_begins(
        self, mistake: Mistake, data: Path, tmp_path: Path, damage: Damage, message: str
    ) -> None:
        damage(data)
        told = mistake("train", "--data.path", data, "--out", tmp_path / "run", *SMALL)
        assert message in told
        assert str(data) in told
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize(
        ("damage", "message"),
        [
            (column("item_id", first(-5), pa.int32()), "'item_id' holds id -5, table 'item' has"),
            (
                column("item_id", first(300), pa.int32()),
                "holds id 300, table 'item' has ids 0 to 299",
            ),
            (
                column("history", first([7, 300]), pa.list_(pa.int32())),
                "field 'history' holds id 300, table 'item' has ids 0 to 299",
            ),
            (
                column("history", first([7, None]), pa.list_(pa.int32())),
                "field 'history' holds a list with a null in it",
            ),
            (
                column("item_id", first(-1), pa.int32(), "validation"),
                "field 'item_id' holds id -1, table 'item' has ids 0 to 299",
            ),
            (
                column("label:click", first(7), pa.int8()),
                "label 'click' is 7, must be 0, 1 or null",
            ),
        ],
    )
    def test_wrong_values_stop_the_run_at_their_file(
        self, mistake: Mistake, data: Path, tmp_path: Path, damage: Damage, message: str
    ) -> None:
        damage(data)
        out = tmp_path / "run"
        told = mistake("train", "--data.path", data, "--out", out, *SMALL, begun=out)
        assert "part-00000.parquet: " in told
        assert message in told

    def test_users_of_one_class_each_cannot_choose_by_uauc(
        self, mistake: Mistake, data: Path, tmp_path: Path
    ) -> None:
        column(":user", lambda users: list(range(len(users))), pa.int64(), "validation")(data)
        out = tmp_path / "run"
        told = mistake(
            "train", "--data.path", data, "--out", out, *SMALL, "--loop.select-by", "uauc",
            begun=out,
        )  # fmt: skip
        assert "loop.select_by is 'uauc', but no user of the validation part" in told


class TestTraining:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--model.tasks", "clicks"], "unknown label 'clicks'; the data set has click, like"),
            (["--data.batch-size", 5000], "train holds 4000 rows, fewer than one global batch"),
            (["--data.lanes", 3], "data.batch_size is 256, which 3 lanes do not divide"),
            (
                ["--sharding.kernels", "fused_uvm"],
                "fused_uvm (sharding.kernels, sharding.tables): none exists",
            ),
            (["--sharding.types", "column_wise"], "sharding.types has 'column_wise', but"),
            (["--sharding.host-memory-gib", "1e-9"], "no sharding plan fits"),
            (
                ["--model.dcnv2.cross-layers", 0, "--model.dcnv2.deep-widths"],
                "neither cross layers",
            ),
        ],
    )
    def test_impossible_options(
        self,
        mistake: Mistake,
        prepared_folder: Path,
        tmp_path: Path,
        options: list[object],
        message: str,
    ) -> None:
        out = tmp_path / "run"
        told = mistake("train", "--data.path", prepared_folder, "--out", out, *SMALL, *options)
        assert message in told
        assert not out.exists()

    def test_a_folder_that_is_taken(
        self, mistake: Mistake, prepared_folder: Path, run: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine/notes.txt").write_text("mine")
        (tmp_path / "file").write_text("mine")
        for out, message in (
            (run, "holds a run: choose another --out, go on with --resume"),
            (tmp_path / "mine", "is not empty: choose another --out"),
            (tmp_path / "file", "file"),
            (tmp_path / "file/run", "file/run"),
        ):
            told = mistake("train", "--data.path", prepared_folder, "--out", out, *SMALL)
            assert message in told

    def test_a_diverging_run_says_so_and_leaves_no_checkpoint(
        self, mistake: Mistake, prepared_folder: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "run"
        told = mistake(
            "train", "--data.path", prepared_folder, "--out", out, *SMALL,
            "--optimizer.learning-rate", "1e30", begun=out,
        )  # fmt: skip
        assert "lower optimizer.learning_rate" in told


def committed(run: Path) -> Path:
    (checkpoint,) = (run / "checkpoints").iterdir()
    return checkpoint


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


BROKEN_CHECKPOINTS = [
    (lambda r: flip_a_byte(next(committed(r).glob("*.distcp"))), ".distcp is damaged: remove"),
    (lambda r: next(committed(r).glob("*.distcp")).unlink(), ".distcp is missing: remove"),
    (lambda r: (committed(r) / "state.json").write_text("{}"), "state.json is damaged: remove"),
    (lambda r: (committed(r) / "COMMITTED").write_text("{"), "COMMITTED is not valid JSON"),
    (lambda r: (committed(r) / "COMMITTED").write_text("[]"), "COMMITTED is damaged: remove"),
    (lambda r: (r / "config.yaml").write_text("a: ["), "config.yaml is not valid YAML"),
]


class TestResuming:
    @pytest.mark.parametrize(
        ("damage", "message"),
        [
            *BROKEN_CHECKPOINTS,
            (lambda r: shutil.rmtree(r), "holds no checkpoint to resume from"),
            (lambda r: (r / "config.yaml").unlink(), "holds no checkpoint to resume from"),
            (lambda r: (r / "config.yaml").write_text("- 1"), "config.yaml is damaged"),
            (lambda r: shutil.rmtree(r / "checkpoints"), "has ended and its checkpoints are gone"),
        ],
    )
    def test_a_damaged_run(
        self, mistake: Mistake, prepared_folder: Path, run: Path, damage: Damage, message: str
    ) -> None:
        damage(run)
        told = mistake("train", "--data.path", prepared_folder, "--out", run, *SMALL, "--resume")
        assert message in told
        assert str(run) in told

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--data.batch-size", 128], "--data.batch_size was 256, and is now 128"),
            (["--optimizer.learning-rate", 0.5], "--optimizer.learning_rate was 0.001, and is now"),
            (["--model.tasks", "like"], "--model.tasks was [], and is now ['like']"),
        ],
    )
    def test_other_options(
        self,
        mistake: Mistake,
        prepared_folder: Path,
        run: Path,
        options: list[object],
        message: str,
    ) -> None:
        told = mistake(
            "train", "--data.path", prepared_folder, "--out", run, *SMALL, *options, "--resume"
        )
        assert message in told

    def test_data_of_another_schema(self, mistake: Mistake, data: Path, run: Path) -> None:
        schema(lambda s: s["fields"][1].update(missing_rate=0.9))(data)
        told = mistake("train", "--data.path", data, "--out", run, *SMALL, "--resume")
        assert f"the schema of {data} is not the one that was trained on" in told

    def test_a_run_stopped_before_its_first_checkpoint_begins_again(
        self, mistake: Mistake, succeed: Succeed, prepared_folder: Path, run: Path
    ) -> None:
        again = ("train", "--data.path", prepared_folder, "--out", run, *SMALL)
        (run / "result.json").unlink()
        committed(run).rename(run / "checkpoints" / "step-000000002.partial")
        (run / "checkpoints/step-000000002.partial/COMMITTED").unlink()
        with (run / "log.jsonl").open("a") as log:
            log.write('{"kind": "tra')
        assert "holds a run: choose another --out, go on with --resume" in mistake(*again)
        assert "2 steps" in succeed(*again, "--resume").output
        steps = [json.loads(line)["step"] for line in (run / "log.jsonl").read_text().splitlines()]
        assert steps == [2, 2]

    def test_a_complete_run_is_left_as_it_is(
        self, succeed: Succeed, prepared_folder: Path, run: Path
    ) -> None:
        before = (run / "result.json").read_text(), (run / "log.jsonl").read_text()
        succeed("train", "--data.path", prepared_folder, "--out", run, *SMALL, "--resume")
        assert ((run / "result.json").read_text(), (run / "log.jsonl").read_text()) == before


class TestUsingARun:
    @pytest.mark.parametrize("command", ["evaluate", "predict"])
    @pytest.mark.parametrize(
        ("damage", "message"),
        [
            *BROKEN_CHECKPOINTS,
            (lambda r: shutil.rmtree(r), "holds no run, which has a config.yaml"),
            (lambda r: shutil.rmtree(r / "checkpoints"), "holds no whole checkpoint"),
            (lambda r: (committed(r) / "COMMITTED").unlink(), "holds no whole checkpoint"),
            (lambda r: (r / "schema.yaml").unlink(), "schema.yaml does not exist"),
            (
                lambda r: edit_yaml(r / "config.yaml", lambda c: c.update(extra=1)),
                "config.yaml: unknown key 'extra'",
            ),
            (
                lambda r: edit_yaml(r / "config.yaml", lambda c: c["loop"].update(epochs="many")),
                "config.yaml: loop.epochs is 'many'",
            ),
            (
                lambda r: edit_yaml(
                    r / "config.yaml", lambda c: c["model"]["dcnv2"].update(z_width=16)
                ),
                "is of another model than the run's config.yaml describes",
            ),
            (
                lambda r: edit_yaml(r / "config.yaml", lambda c: c["model"].update(method="base")),
                "is of another model than the run's config.yaml describes",
            ),
        ],
    )
    def test_that_is_damaged(
        self,
        mistake: Mistake,
        run: Path,
        tmp_path: Path,
        command: str,
        damage: Damage,
        message: str,
    ) -> None:
        pq.write_table(pa.table(raw_rows()), tmp_path / "rows.parquet")
        damage(run)
        source = ["--source", tmp_path / "rows.parquet"] if command == "predict" else []
        told = mistake(command, "--run-folder", run, *source, "--out", tmp_path / "out")
        assert message in told
        assert str(run) in told

    @pytest.mark.parametrize(
        ("damage", "message"),
        [
            (lambda d: shutil.rmtree(d), "is not there: give --data"),
            (schema(lambda s: s["fields"][1].update(missing_rate=0.9)), "differs in field 'age'"),
            (schema(lambda s: s.update(name="other")), "differs in name, which is 'other'"),
            (schema(lambda s: s["labels"].reverse()), "differs in the order of fields, tables"),
            (lambda d: shutil.rmtree(d / "test"), "test does not exist"),
            (all_rows("label:click", 1, "test"), "test: label 'click' is 1 in all rows"),
        ],
    )
    def test_on_data_it_cannot_be_evaluated_on(
        self,
        mistake: Mistake,
        trained: Path,
        data: Path,
        tmp_path: Path,
        damage: Damage,
        message: str,
    ) -> None:
        damage(data)
        out = tmp_path / "evaluation.json"
        told = mistake("evaluate", "--run-folder", trained, "--data", data, "--out", out)
        assert message in told
        assert str(data) in told

    def test_outputs_that_cannot_be_written_are_told_first(
        self, mistake: Mistake, trained: Path, evaluated: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "file").write_text("mine")
        pq.write_table(pa.table(raw_rows()), tmp_path / "rows.parquet")
        commands: list[list[object]] = [
            ["evaluate", "--run-folder", trained],
            ["predict", "--run-folder", trained, "--source", tmp_path / "rows.parquet"],
            ["report", "--results", evaluated],
        ]
        for command in commands:
            told = mistake(*command, "--out", tmp_path / "file" / "out")
            assert "file/out cannot be written" in told
            told = mistake(*command, "--out", tmp_path)
            assert f"{tmp_path} " in told


class TestPrediction:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda t: t.slice(0, 0), "holds no rows"),
            (lambda t: t.rename_columns([f"x{i}" for i in range(t.num_columns)]), "has none of"),
            (lambda t: t.append_column("age", t["age"]), "has the column 'age' more than once"),
            (
                lambda t: t.set_column(0, "user_id", pa.array([["v1"]] * len(t))),
                "column 'user_id' has type list<element: string>, which has no text form",
            ),
            (
                lambda t: t.set_column(1, "age", pa.array([[1.0]] * len(t))),
                "column 'age' has type list<element: double>, which holds no numbers",
            ),
        ],
    )
    def test_of_an_impossible_table(
        self,
        mistake: Mistake,
        trained: Path,
        tmp_path: Path,
        change: Callable[[pa.Table], pa.Table],
        message: str,
    ) -> None:
        source = tmp_path / "rows.parquet"
        pq.write_table(change(pa.table(raw_rows())), source)
        told = mistake(
            "predict", "--run-folder", trained, "--source", source, "--out", tmp_path / "p"
        )
        assert told.startswith(str(source))
        assert message in told

    def test_of_no_parquet(self, mistake: Mistake, trained: Path, tmp_path: Path) -> None:
        source = tmp_path / "rows.parquet"
        predict = ("predict", "--run-folder", trained, "--source", source, "--out", tmp_path / "p")
        assert "does not exist or is no file" in mistake(*predict)
        source.write_text("user_id,age\nv1,0.5\n")
        assert "rows.parquet cannot be read as Parquet" in mistake(*predict)
        pq.write_table(pa.table(raw_rows()), source)
        cut_short(source)
        assert "rows.parquet cannot be read as Parquet" in mistake(*predict)

    def test_of_a_file_damaged_in_the_middle(
        self, mistake: Mistake, trained: Path, tmp_path: Path
    ) -> None:
        source = tmp_path / "rows.parquet"
        pq.write_table(pa.table(raw_rows(4000)), source, compression="zstd", use_dictionary=False)
        content = bytearray(source.read_bytes())
        content[60:3000] = np.random.default_rng(0).bytes(2940)
        source.write_bytes(content)
        told = mistake(
            "predict", "--run-folder", trained, "--source", source, "--out", tmp_path / "p"
        )
        assert "rows.parquet cannot be read as Parquet" in told

    def test_keeping_what_cannot_be_kept(
        self, mistake: Mistake, trained: Path, tmp_path: Path
    ) -> None:
        source = tmp_path / "rows.parquet"
        pq.write_table(pa.table({**raw_rows(), "score:click": [0.0] * 40}), source)
        predict = ("predict", "--run-folder", trained, "--source", source, "--out", tmp_path / "p")
        assert "has no column 'ghost' to keep" in mistake(*predict, "--keep", "ghost")
        assert "--keep score:click: " in mistake(*predict, "--keep", "score:click")

    def test_never_overwrites(self, mistake: Mistake, trained: Path, tmp_path: Path) -> None:
        source = tmp_path / "rows.parquet"
        pq.write_table(pa.table(raw_rows()), source)
        before = source.read_bytes()
        told = mistake("predict", "--run-folder", trained, "--source", source, "--out", source)
        assert "rows.parquet exists: choose another --out" in told
        assert source.read_bytes() == before

    def test_with_half_of_the_columns_and_unseen_ids_works_and_says_so(
        self, succeed: Succeed, trained: Path, tmp_path: Path
    ) -> None:
        source, out = tmp_path / "rows.parquet", tmp_path / "scores.parquet"
        rows = raw_rows()
        rows["user_id"] = ["a new user"] * 10 + rows["user_id"][10:]
        rows["age"] = ["unknown", *rows["age"][1:]]
        rows["age"] = [str(value) for value in rows["age"]]
        names = ("user_id", "age", "item_id", "tab")
        pq.write_table(pa.table({name: rows[name] for name in names}), source)
        ended = succeed(
            "predict",
            "--run-folder",
            trained,
            "--source",
            source,
            "--out",
            out,
            "--keep",
            "user_id",
        )
        assert "4 of 8 fields have no column: history, author, tags, duration" in ended.messages
        assert "user_id: 25.0% of the values were not seen in training" in ended.messages
        assert "age: 1 values are no numbers, taken as missing" in ended.messages
        scores = pq.read_table(out)
        assert scores.column_names == ["user_id", "score:click"]
        assert len(scores) == 40
        assert all(0 < score < 1 for score in scores["score:click"].to_pylist())
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            "rows.parquet",
            "scores.parquet",
        ]


class TestReport:
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("", "not valid JSON"),
            ("[" * 100_000, "not valid JSON"),
            ("[]", "the file holds list, must be a mapping"),
            ('{"steps": 2}', "this is no evaluation's result"),
        ],
    )
    def test_of_a_file_that_is_no_result(
        self, mistake: Mistake, evaluated: Path, tmp_path: Path, content: str, message: str
    ) -> None:
        path = tmp_path / "result.json"
        path.write_text(content)
        told = mistake("report", "--results", evaluated, path, "--out", tmp_path / "report.html")
        assert told.startswith(str(path))
        assert message in told

    def test_of_files_that_are_not_there_or_of_one_model(
        self, mistake: Mistake, evaluated: Path, tmp_path: Path
    ) -> None:
        assert "does not exist" in mistake("report", "--results", tmp_path / "none.json")
        assert "cannot be read: Is a directory" in mistake("report", "--results", tmp_path)
        told = mistake("report", "--results", evaluated, evaluated)
        assert "two results are of" in told

    @pytest.mark.parametrize(
        ("edit", "message"),
        [
            (lambda r: r.update(tasks={}), "tasks is empty"),
            (
                lambda r: r["tasks"]["click"]["complete"].update(rows=0),
                "rows is 0, must be positive",
            ),
            (
                lambda r: r["provenance"].update(seed=[1]),
                "provenance.seed is [1], must be an integer",
            ),
        ],
    )
    def test_of_a_result_that_was_edited(
        self,
        mistake: Mistake,
        evaluated: Path,
        tmp_path: Path,
        edit: Callable[[Any], object],
        message: str,
    ) -> None:
        raw = json.loads(evaluated.read_text())
        edit(raw)
        path = tmp_path / "edited.json"
        path.write_text(json.dumps(raw))
        told = mistake("report", "--results", path)
        assert told.startswith(str(path))
        assert message in told
