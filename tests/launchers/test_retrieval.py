"""``dropdrift index`` and ``dropdrift retrieve``, from a tiny trained run to titles."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from rich.console import Console

from dropdrift.data.interactions.sequences import Sequences
from dropdrift.data.schema import Schema
from dropdrift.launchers.retrieve import print_answers
from dropdrift.launchers.trained import trained_config
from dropdrift.training.matching.prior import transition_prior
from dropdrift.training.retrieval import measure, towers
from dropdrift.training.retrieval import retriever as retrieving
from dropdrift.training.retrieval.answers import Retrieved, Shown
from dropdrift.training.retrieval.histories import Histories
from dropdrift.training.retrieval.retriever import History, Retriever

WINDOW = 8
RECIPE = f"""
data: {{batch_size: 16, prefetch: 0, sequence: {{window: {WINDOW}, stretch: 10}}}}
model:
  kind: t2diff
  item: {{width: 8}}
  t2diff: {{session: {{length: 4}}, diffusion: {{steps: 3, window: 8, levels: 2}}}}
optimizer: {{sparse: adam, sparse_learning_rate: 0.05, learning_rate: 0.01}}
loop: {{select_by: recall, max_steps: 4}}
"""


@pytest.fixture(scope="session")
def world(
    interactions_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
    succeed: Callable[..., Any],
) -> Path:
    """A folder with a run of a matching model and a flat index of it. Do not write into them."""
    folder = tmp_path_factory.mktemp("retrieval")
    (folder / "recipe.yaml").write_text(RECIPE)
    data = ("--data.path", interactions_folder)
    succeed("train", "--recipe", folder / "recipe.yaml", *data, "--out", folder / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "CALLS", 2)
        succeed("index", *_index(folder, "flat"))
    return folder


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "CALLS", 2)


@pytest.fixture(scope="session")
def retriever(world: Path) -> Retriever:
    return Retriever.load(world / "run", world / "flat", trained_config(world / "run"))


def _index(folder: Path, kind: str) -> list[object]:
    options = ["--run-folder", folder / "run", "--out", folder / kind, "--kind", kind, "--k", 4]
    return [*options, "--sample", 12]


def _retrieve(world: Path, source: Path, *options: object) -> list[object]:
    given = ["--run-folder", world / "run", "--index", world / "flat", "--source", source]
    return ["retrieve", *given, "--out", source.with_name("answers.parquet"), *options]


def _source(folder: Path, text: str) -> Path:
    (folder / "requests.csv").write_text(text)
    return folder / "requests.csv"


def _answers(folder: Path) -> pd.DataFrame:
    return pq.read_table(folder / "answers.parquet").to_pandas()


def _counts(folder: Path) -> dict[str, int]:
    """Those that are not zero."""
    counts = json.loads((folder / "answers.json").read_text())["counts"]
    return {name: count for name, count in counts.items() if count}


def _sequences(folder: Path) -> dict[str, list[str]]:
    items = pq.read_table(folder / "items.parquet").column(":item").to_pylist()
    users = pq.read_table(folder / "users.parquet").to_pandas()
    return {
        user: [items[row] for row in rows]
        for user, rows in zip(users[":user"], users["items"], strict=True)
    }


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf"])
def test_an_index_says_what_it_finds_and_how_quickly(
    kind: str, world: Path, tmp_path: Path, succeed: Callable[..., Any]
) -> None:
    (tmp_path / "run").symlink_to(world / "run")
    said = succeed("index", *_index(tmp_path, kind)).output
    assert "recall@4" in said
    assert f"Written to {tmp_path / kind}" in said
    about = json.loads((tmp_path / kind / "index.json").read_text())
    built = about["index"]
    assert (built["kind"], built["items"], built["width"]) == (kind, 30, 8)
    assert built["bytes"] == (tmp_path / kind / "index.faiss").stat().st_size
    assert built["measured"]["users"] == 12
    assert 0 < built["measured"]["recall"] <= 1
    assert kind != "flat" or built["measured"]["recall"] == 1
    assert about["provenance"]["config"]["index"]["kind"] == kind
    assert sorted(about["files"]) == ["index.faiss", "items.parquet"]


def test_counts_of_the_training_part_are_kept(world: Path, interactions_folder: Path) -> None:
    sequences = _sequences(interactions_folder)
    trained = [item for items in sequences.values() if len(items) >= 5 for item in items[:-2]]
    table = pq.read_table(world / "flat" / "items.parquet").to_pandas()
    counts = dict(zip(table[":item"], table[":interactions"], strict=True))
    assert {item: trained.count(item) for item in counts} == counts


def test_known_users_are_answered_in_order_and_nobody_is_lost(
    world: Path, tmp_path: Path, succeed: Callable[..., Any], interactions_folder: Path
) -> None:
    source = _source(tmp_path, "user\nu7\nnobody\nu3\nu7\n\n")
    ended = succeed(*_retrieve(world, source, "--k", 5))
    answers = _answers(tmp_path)
    assert answers["request"].tolist() == [n for n in range(4) for _ in range(5)]
    assert answers["rank"].tolist() == [1, 2, 3, 4, 5] * 4
    assert answers["user"].tolist() == [u for u in ("u7", "nobody", "u3", "u7") for _ in range(5)]
    assert set(answers.loc[answers["user"] == "nobody", "source"]) == {"popular"}
    assert set(answers.loc[answers["user"] != "nobody", "source"]) == {"model"}
    assert (answers["title"] == "Item " + answers["item"].str[1:]).all()
    by_request = answers.groupby("request")["score"]
    assert by_request.apply(lambda scores: scores.is_monotonic_decreasing).all()
    histories = _sequences(interactions_folder)
    lengths = [len(histories[user]) for user in ("u7", "u3", "u7")]
    older = sum(max(length - WINDOW, 0) for length in lengths)
    assert _counts(tmp_path) == {
        "requests": 4,
        "by_model": 3,
        "unknown_users": 1,
        "repeated_users": 1,
        "items": sum(lengths),
        "answers": 20,
    } | ({"older_items": older} if older else {})
    assert "user nobody, by popularity" in ended.output
    assert "Item " in ended.output
    assert "1 users are not in the prepared data" in ended.messages


def test_unknown_users_get_the_most_popular_items(
    world: Path, tmp_path: Path, succeed: Callable[..., Any]
) -> None:
    succeed(*_retrieve(world, _source(tmp_path, "user\nnobody\n,\n".replace(",", '""'))))
    table = pq.read_table(world / "flat" / "items.parquet").to_pandas()
    best = table.sort_values(":interactions", ascending=False, kind="stable")[:10]
    answers = _answers(tmp_path)
    assert answers["item"].tolist() == best[":item"].tolist() * 2
    assert answers["score"].tolist() == best[":interactions"].tolist() * 2
    assert answers["user"].isna().tolist() == [False] * 10 + [True] * 10


def test_histories_of_the_client(
    world: Path, tmp_path: Path, succeed: Callable[..., Any], retriever: Retriever
) -> None:
    lines = ["a,i1 i2 zzz i3,", "b,,", "c,zzz yyy,", "d,i3 i1 i2,30 10 20", "a,i1 i2 i3,"]
    source = _source(tmp_path, "user,items,times\n" + "\n".join(lines) + "\n")
    said = succeed(*_retrieve(world, source, "--k", 3)).messages
    answers = _answers(tmp_path)
    assert answers.groupby("request")["source"].first().tolist() == [
        "model", "popular", "popular", "model", "model"
    ]  # fmt: skip
    assert _counts(tmp_path) == {
        "requests": 5,
        "by_model": 3,
        "empty_histories": 1,
        "histories_of_unknown_items": 1,
        "repeated_users": 1,
        "items": 12,
        "unknown_items": 3,
        "answers": 15,
    }
    assert "3 of 12 items in histories are not in the index" in said
    assert "have no times" not in said
    items = [answers.loc[answers["request"] == n, "item"].tolist() for n in range(5)]
    histories = [History(["i1", "i2", "i3"]), History([]), History(["yyy"])]
    histories += [History(["i3", "i1", "i2"], [30, 10, 20]), History(["i1", "i2", "i3"])]
    for ours, theirs in zip(retriever.recommend(histories, 3), items, strict=True):
        assert [recommendation.item for recommendation in ours] == theirs


@pytest.mark.timeout(120)
def test_histories_without_times_are_counted_where_the_model_looks_at_times(
    interactions_folder: Path, tmp_path: Path, succeed: Callable[..., Any]
) -> None:
    recipe, index = tmp_path / "recipe.yaml", tmp_path / "index"
    recipe.write_text(RECIPE.replace("length: 4", "length: 4, time_lag: true"))
    run = tmp_path / "run"
    succeed("train", "--recipe", recipe, "--data.path", interactions_folder, "--out", run)
    succeed("index", "--run-folder", run, "--out", index)
    source = _source(tmp_path, "user,items,times\na,i1 i2,\nb,i3 i1,10 20\nc,,\n")
    out = tmp_path / "answers.parquet"
    files = ("--run-folder", run, "--index", index, "--source", source, "--out", out)
    said = succeed("retrieve", *files).messages
    assert "1 histories have no times, which the model looks at" in said
    assert _counts(tmp_path)["histories_without_times"] == 1


def test_a_history_in_the_file_is_the_user_s_whole_one(
    world: Path, tmp_path: Path, succeed: Callable[..., Any], interactions_folder: Path
) -> None:
    """The same answers, whether the data or the client knows what a user did."""
    sequences = _sequences(interactions_folder)
    users = list(sequences)[:20]
    succeed(*_retrieve(world, _source(tmp_path, "user\n" + "\n".join(users) + "\n")))
    known = _answers(tmp_path)
    (tmp_path / "given").mkdir()
    lines = [f"{user},{'|'.join(sequences[user])}" for user in users]
    source = _source(tmp_path / "given", "user,items\n" + "\n".join(lines) + "\n")
    succeed(*_retrieve(world, source, "--separator", "|", "--batch-size", 7))
    given = _answers(tmp_path / "given")
    assert known["item"].tolist() == given["item"].tolist()
    np.testing.assert_allclose(known["score"], given["score"], rtol=1e-5)


@pytest.mark.parametrize("k", [3, 20, 30, 50])
def test_what_was_seen_is_left_out(
    k: int, world: Path, tmp_path: Path, succeed: Callable[..., Any], interactions_folder: Path
) -> None:
    users = "".join(f"u{number}\n" for number in range(40))
    succeed(*_retrieve(world, _source(tmp_path, f"user\n{users}"), "--k", k, "--exclude-seen"))
    answers = _answers(tmp_path)
    short = 0
    for user, sequence in _sequences(interactions_folder).items():
        items = answers.loc[answers["user"] == user, "item"].tolist()
        assert len(items) == len(set(items)) == min(k, 30 - len(set(sequence)))
        assert not set(items) & set(sequence)
        short += len(items) < k
    assert _counts(tmp_path).get("short_answers", 0) == short


def test_a_longer_answer_than_the_catalogue_holds_all_of_it(
    world: Path, tmp_path: Path, succeed: Callable[..., Any]
) -> None:
    succeed(*_retrieve(world, _source(tmp_path, "user\nu0\nnobody\n"), "--k", 100))
    assert _answers(tmp_path).groupby("request")["item"].nunique().tolist() == [30, 30]
    assert _counts(tmp_path)["short_answers"] == 2


def test_the_retriever_wants_a_time_for_each_item(retriever: Retriever) -> None:
    with pytest.raises(ValueError, match="history 1 has 1 items, but 2 times"):
        retriever.recommend([History(["i1"]), History(["i1"], [1, 2])])
    assert retriever.recommend([]) == []


def test_an_index_of_another_checkpoint_is_refused(
    world: Path, tmp_path: Path, mistake: Callable[..., str], succeed: Callable[..., Any],
    interactions_folder: Path,
) -> None:  # fmt: skip
    other = tmp_path / "other"
    data = ("--data.path", interactions_folder, "--loop.seed", 2)
    succeed("train", "--recipe", world / "recipe.yaml", *data, "--out", other)
    source = _source(tmp_path, "user\nu0\n")
    line = mistake(*_retrieve(world, source, "--run-folder", other))
    step = json.loads((world / "flat" / "index.json").read_text())["run"]["step"]
    assert f"{world / 'flat'} was built from step {step} of the run {world / 'run'}, not " in line
    assert f"of {other}: run 'dropdrift index' again" in line


def test_a_damaged_index_is_refused(
    world: Path, tmp_path: Path, mistake: Callable[..., str]
) -> None:
    source = _source(tmp_path, "user\nu0\n")
    index = tmp_path / "index"
    shutil.copytree(world / "flat", index)
    with (index / "index.faiss").open("ab") as stream:
        stream.write(b"x")
    line = mistake(*_retrieve(world, source, "--index", index))
    assert line.startswith(f"{index / 'index.faiss'} is missing or not what was written")
    (index / "index.json").write_text('{"kind": "matching-index"}')
    line = mistake(*_retrieve(world, source, "--index", index))
    assert line.startswith(f"{index / 'index.json'} does not describe an index")
    line = mistake(*_retrieve(world, source, "--index", tmp_path))
    assert line.startswith(f"--index {tmp_path} holds no index")


def test_another_catalogue_is_refused(
    world: Path, tmp_path: Path, mistake: Callable[..., str], interactions_folder: Path
) -> None:
    """Of the same schema, so of the same vocabulary, but in another order."""
    data = tmp_path / "data"
    shutil.copytree(interactions_folder, data)
    items = pq.read_table(data / "items.parquet")
    pq.write_table(items.take(list(range(29, -1, -1))), data / "items.parquet")
    source = _source(tmp_path, "user\nu0\n")
    line = mistake(*_retrieve(world, source, "--data", data))
    assert f"{data} has another catalogue than the index" in line
    assert "they differ in item 0" in line


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--probes", 3), "probes is 3, but the index is 'flat'"),
        (("--user-column", "who"), "no column 'who'; it has user"),
        (("--out", "answers.csv"), "out is answers.csv, must end in .parquet"),
        (("--source", "nothing.csv"), "nothing.csv does not exist"),
        (("--k", 0), "k is 0, must be at least 1"),
        (("--data", "nowhere"), "nowhere is not there"),
    ],
)
def test_a_wrong_option_is_one_line(
    options: tuple[object, ...], line: str, world: Path, tmp_path: Path,
    mistake: Callable[..., str],
) -> None:  # fmt: skip
    assert line in mistake(*_retrieve(world, _source(tmp_path, "user\nu0\n"), *options))


def test_a_file_without_requests_and_an_output_that_is_there(
    world: Path, tmp_path: Path, mistake: Callable[..., str]
) -> None:
    source = _source(tmp_path, "user\n")
    assert mistake(*_retrieve(world, source)) == f"{source} holds no requests"
    (tmp_path / "answers.json").write_text("{}")
    line = mistake(*_retrieve(world, source))
    assert line == f"{tmp_path / 'answers.json'} exists: choose another --out"
    line = mistake("index", *_index(world, "flat"))
    assert line == f"{world / 'flat'} exists already: choose another --out"
    line = mistake("index", "--run-folder", tmp_path, "--out", tmp_path / "index")
    assert f"--run-folder {tmp_path} holds no run" in line


def test_a_ranking_run_has_no_index(
    world: Path, tmp_path: Path, mistake: Callable[..., str]
) -> None:
    run = tmp_path / "ranking"
    run.mkdir()
    text = (world / "run" / "config.yaml").read_text()
    text = text.replace("kind: t2diff", "kind: ranking").replace("recall", "auc")
    (run / "config.yaml").write_text(text)
    line = mistake("index", "--run-folder", run, "--out", tmp_path / "index")
    assert f"--run-folder {run} is of a ranking model" in line


@pytest.fixture(scope="session")
def with_counts(world: Path, succeed: Callable[..., Any]) -> Retriever:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "CALLS", 2)
        options = ("--transitions", "--transition.history", 3, "--transition.decay", 0.5)
        arguments = _index(world, "hnsw")
        arguments[3] = world / "counts"
        succeed("index", *arguments, *options)
    return Retriever.load(world / "run", world / "counts", trained_config(world / "run"))


@pytest.mark.parametrize("candidates", [0, 200])
def test_transition_counts_are_added_as_evaluation_adds_them(
    candidates: int,
    with_counts: Retriever,
    interactions_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of all items where all are candidates, and else of those that answer."""
    monkeypatch.setattr(retrieving, "CANDIDATES", candidates)
    assert with_counts.prior is not None
    sequences = Sequences.load(interactions_folder, Schema.load(interactions_folder))
    histories = Histories.of(sequences, np.arange(10))
    k = 30 if candidates else 2
    answers = with_counts.answer(histories, k, transition_weight=0.7)
    batch = histories.batch(WINDOW, with_counts.catalogue.features())
    config = with_counts.prior.config
    prior = transition_prior(with_counts.prior.transitions, config, 0.7)
    assert prior is not None
    assert (config.history, config.decay) == (3, 0.5)
    scores = with_counts.towers.users(histories, 0) @ with_counts.towers.items.T
    scores = scores + prior(batch)(0, 10).numpy()
    for rows, found, wanted in zip(answers.rows, answers.scores, scores, strict=True):
        np.testing.assert_allclose(found, wanted[rows], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found, np.sort(wanted)[::-1][:k], rtol=1e-4, atol=1e-5)


def test_seen_items_are_left_out_with_transition_counts_as_well(
    with_counts: Retriever, interactions_folder: Path
) -> None:
    sequences = list(_sequences(interactions_folder).values())
    answers = with_counts.recommend(
        [History(items) for items in sequences], 20, exclude_seen=True, transition_weight=1
    )
    for answer, sequence in zip(answers, sequences, strict=True):
        items = {recommendation.item for recommendation in answer}
        assert len(items) == len(answer) == min(20, 30 - len(set(sequence)))
        assert not items & set(sequence)


def test_a_weight_without_counts_is_refused(
    world: Path, tmp_path: Path, mistake: Callable[..., str]
) -> None:
    source = _source(tmp_path, "user\nu0\n")
    line = mistake(*_retrieve(world, source, "--transition-weight", 0.5))
    assert "but the index holds no transition counts" in line


def test_popular_answers_come_from_counts_alone(retriever: Retriever) -> None:
    answer = retriever.recommend([History(["zzz"])], 30)[0]
    scores = [recommendation.score for recommendation in answer]
    assert scores == sorted(scores, reverse=True)
    assert {recommendation.source for recommendation in answer} == {"popular"}
    assert dataclasses.asdict(answer[0]).keys() == {"item", "title", "score", "source"}


def test_a_compiled_reverse_process_answers_the_same(
    world: Path,
    tmp_path: Path,
    succeed: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is compiled, and that it is asked; what torch makes of it is the model's test."""
    compiled = []

    def remembered(step: Any, mode: str) -> Any:
        compiled.append((step.__name__, mode))
        return step

    source = _source(tmp_path, "user,items\na,i1 i2 i3\nb,i4 i5\n")
    succeed(*_retrieve(world, source))
    plain = _answers(tmp_path)
    for written in ("answers.parquet", "answers.json"):
        (tmp_path / written).unlink()
    monkeypatch.setattr(torch, "compile", remembered)
    monkeypatch.setattr(towers, "require_compiler", lambda _: None)
    succeed(*_retrieve(world, source, "--compile"))
    assert compiled == [("forward", "default")]
    pd.testing.assert_frame_equal(_answers(tmp_path), plain)


def test_compiling_needs_a_reverse_process(
    retriever: Retriever, monkeypatch: pytest.MonkeyPatch
) -> None:
    next_item = retriever.towers._model.dense.user.next_item
    monkeypatch.setattr(next_item, "kind", "last")
    with pytest.raises(ValueError, match="reverse process, and this run's model has none"):
        retriever.towers.compile()


def test_titles_are_shown_on_a_line_each_and_steer_no_terminal() -> None:
    shown = Shown("u\n1", ["\x1b[31mred", "[bold]b"], [("a\nb", 1.0), ("\u202ec", 0.5)], "model")
    stream = io.StringIO()
    print_answers(Retrieved(shown=[shown]), Console(file=stream, width=100))
    lines = [" ".join(line.split()) for line in stream.getvalue().splitlines()]
    assert "user u 1, by the model" in lines
    assert "1 a b 1.000 \ufffd[31mred" in lines
    assert "2 \ufffdc 0.500 [bold]b" in lines
