"""The scores of all rows: what is written is read, and is what an evaluation's numbers are of."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.training.small_runs import on_one_rank

from dropdrift.data.columns import USER_COLUMN, label_column
from dropdrift.launchers.evaluate import run
from dropdrift.models.config import ModelConfig
from dropdrift.training.comparison import NOTHING, Drop
from dropdrift.training.config import EvaluateConfig, LoopConfig, TrainConfig
from dropdrift.training.evaluation import evaluate
from dropdrift.training.experiments.by_user import MEASURES, user_values
from dropdrift.training.result import EvaluationResult
from dropdrift.training.run_folder import save_config
from dropdrift.training.score_file import ScoredRows, read_scores, scores_path, write_scores
from dropdrift.training.trainer import train

HALF: Drop = ("share", 0.5)
SOME_DROPS: tuple[Drop, ...] = (
    NOTHING, ("share", 0.1), HALF, ("group", "user"), ("identifiers", "identifiers")
)  # fmt: skip


@pytest.fixture
def rows() -> ScoredRows:
    """Five rows, of two labels whose names could be taken for something else."""
    generator = np.random.default_rng(1)
    labels = ("click", "label:a=b:c")
    return ScoredRows(
        users=np.array([7, 0, 2**62, 7, 1]),
        labels={label: np.array([0, 1, np.nan, 1, 0], np.float32) for label in labels},
        logits={
            (label, drop): generator.normal(size=5).astype(np.float32)
            for label in labels
            for drop in SOME_DROPS
        },
    )


def assert_same(found: ScoredRows, expected: ScoredRows) -> None:
    np.testing.assert_array_equal(found.users, expected.users)
    for given in ("labels", "logits"):
        ours, theirs = getattr(found, given), getattr(expected, given)
        assert list(ours) == list(theirs)
        for key, values in theirs.items():
            assert ours[key].dtype == np.float32
            np.testing.assert_array_equal(ours[key], values)


def test_scores_are_read_as_they_were_written(rows: ScoredRows, tmp_path: Path) -> None:
    path = tmp_path / "kind=made" / "scores-test.parquet"
    write_scores(path, rows)
    assert_same(read_scores(path), rows)
    assert [file.name for file in path.parent.iterdir()] == ["scores-test.parquet"]


def test_scores_have_a_name_of_their_own() -> None:
    assert scores_path(Path("a/evaluation-validation.json")) == Path("a/scores-validation.parquet")
    assert scores_path(Path("a/mine.json")) == Path("a/scores-mine.parquet")


class TestMistakes:
    @pytest.fixture
    def path(self, rows: ScoredRows, tmp_path: Path) -> Path:
        path = tmp_path / "scores-test.parquet"
        write_scores(path, rows)
        return path

    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"no\.parquet is not there: .* with --scores"):
            read_scores(tmp_path / "no.parquet")

    def test_a_file_that_is_cut_short(self, path: Path) -> None:
        content = path.read_bytes()
        for length in (0, 3, len(content) // 2, len(content) - 1):
            path.write_bytes(content[:length])
            with pytest.raises(ValueError, match=r"scores-test\.parquet cannot be read") as caught:
                read_scores(path)
            assert "\n" not in str(caught.value)

    def test_a_file_of_something_else(self, path: Path) -> None:
        pq.write_table(pa.table({"user": ["a"], "rank_all": [3]}), path)
        with pytest.raises(ValueError, match=r"scores-test\.parquet: these are no scores"):
            read_scores(path)

    @pytest.mark.parametrize(
        ("column", "values", "message"),
        [
            ("user", pa.array([1.0] * 5), "'user' holds double, must hold int64 alone"),
            ("user", pa.array([1, 2, None, 4, 5]), "'user' holds 1 nulls, must hold int64 alone"),
            ("label:click", None, "the column 'label:click' is missing"),
            ("logit:share=0.0:click", None, "the column 'logit:share=0.0:click' is missing"),
            (
                "logit:share=0.5:click",
                pa.array(["a"] * 5),
                "'logit:share=0.5:click' holds string, must hold float alone",
            ),
            ("logit:shar=0.5:click", pa.array([0.0] * 5), "'logit:shar=0.5:click' is none of"),
            ("logit:share=:click", pa.array([0.0] * 5), "'logit:share=:click' is none of"),
            ("logit:share=x:click", pa.array([0.0] * 5), "'logit:share=x:click' is none of"),
            ("logit:group=user:", pa.array([0.0] * 5), "'logit:group=user:' is none of"),
            ("more", pa.array([0.0] * 5), "'more' is none of"),
        ],
    )
    def test_a_column_that_is_wrong(
        self, path: Path, column: str, values: pa.Array | None, message: str
    ) -> None:
        table = pq.read_table(path)
        if column in table.column_names:
            table = table.drop_columns(column)
        if values is not None:
            table = table.append_column(column, values)
        pq.write_table(table, path)
        with pytest.raises(ValueError, match=rf"scores-test\.parquet: .*({message})"):
            read_scores(path)

    def test_a_matching_run(self, tmp_path: Path) -> None:
        model, loop = ModelConfig(kind="sasrec"), LoopConfig(select_by="ndcg")
        save_config(TrainConfig(model=model, loop=loop), tmp_path / "config.yaml")
        with pytest.raises(ValueError, match=r"--scores is for ranking models, and .*matching"):
            run(["--run-folder", str(tmp_path), "--scores"])


@pytest.fixture(scope="module")
def evaluated(
    prepared_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[EvaluationResult, Path]:
    """The result of two labels, and the folder with the file of scores."""
    folder = tmp_path_factory.mktemp("scored")
    config = on_one_rank(prepared_folder, folder / "run", max_steps=2)
    model = dataclasses.replace(config.model, tasks=("like", "click"))
    config = dataclasses.replace(config, model=model)
    train(config, show_progress=False)
    options = EvaluateConfig(
        config.out, out=folder / "mine" / "evaluation-x.json", scores=True, batch_size=200
    )
    result = evaluate(options, config, show_progress=False)
    assert result is not None
    evaluate(dataclasses.replace(options, out=None, scores=False), config, show_progress=False)
    assert not list(config.out.glob("scores-*"))
    return result, folder / "mine"


def test_scores_of_an_evaluation_are_of_the_parts_rows_in_order(
    evaluated: tuple[EvaluationResult, Path], prepared_folder: Path
) -> None:
    found = read_scores(evaluated[1] / "scores-x.parquet")
    files = sorted((prepared_folder / "test").glob("*.parquet"))
    part = pa.concat_tables([pq.read_table(file) for file in files])
    np.testing.assert_array_equal(found.users, part[USER_COLUMN].to_numpy())
    assert list(found.labels) == ["like", "click"]
    for label, values in found.labels.items():
        expected = part[label_column(label)].to_numpy().astype(np.float32)
        np.testing.assert_array_equal(values, expected)


def test_the_numbers_of_an_evaluation_follow_from_its_scores(
    evaluated: tuple[EvaluationResult, Path],
) -> None:
    result, folder = evaluated
    found = read_scores(folder / "scores-x.parquet")
    assert len(found.logits) == 2 * (1 + len(result.tasks["click"].robustness))
    for (label, drop), logits in found.logits.items():
        metrics = result.tasks[label].metrics(*drop)
        for measure in MEASURES:
            sums = user_values(measure, logits, found.labels[label], found.users)
            expected = getattr(metrics, measure)
            assert sums.values.sum() / sums.weights.sum() == pytest.approx(expected, rel=1e-12)
