from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dropdrift.training.matching.metrics import matching_metrics
from dropdrift.training.matching.result import MatchingResult, Variant, ranks_path
from dropdrift.training.matching.summary import grids


def variant(weight: float, seed: int, ranks: list[int]) -> Variant:
    metrics = matching_metrics(np.array(ranks), (1, 10))
    return Variant(weight, seed, metrics, metrics)


@pytest.fixture
def result() -> MatchingResult:
    return MatchingResult(
        name="tower",
        part="test",
        protocol="standard",
        order="time",
        items=30,
        users=4,
        users_left_out=2,
        variants=(variant(0.0, 0, [1, 3, 20]), variant(0.0, 1, [1, 30, 20])),
        provenance={"seed": 5, "config": {}},
        ranks=pa.table({"user": ["a", "b", "c"], "rank_all": [1, 3, 20]}),
    )


def test_a_result_is_read_as_it_was_written(result: MatchingResult, tmp_path: Path) -> None:
    path = tmp_path / "made" / "evaluation-test.json"
    result.save(path)
    assert MatchingResult.load(path) == result
    assert MatchingResult.load(path).ranks is None
    assert (result.seed, result.rows) == (5, 3)
    assert pq.read_table(ranks_path(path)) == result.ranks
    assert {file.name for file in path.parent.iterdir()} == {
        "evaluation-test.json",
        "ranks-test.parquet",
    }


def test_the_ranks_have_a_name_of_their_own() -> None:
    assert ranks_path(Path("a/evaluation-validation.json")) == Path("a/ranks-validation.parquet")
    assert ranks_path(Path("a/mine.json")) == Path("a/ranks-mine.parquet")


def changed(raw: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    """``raw`` with the item at ``path`` replaced, or removed where the value is ``...``."""
    raw = copy.deepcopy(raw)
    *parents, last = [int(key) if key.isdigit() else key for key in path.split("/")]
    owner: Any = raw
    for key in parents:
        owner = owner[key]
    if value is ...:
        del owner[last]
    else:
        owner[last] = value
    return raw


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("kind", "evaluation", "kind is 'evaluation', must be 'matching-evaluation'"),
        ("name", ..., "has no key 'name'"),
        ("order", "random", "order is 'random', must be one of time, file"),
        ("items", "30", "items is '30', must be of type int"),
        ("variants", [], "variants is empty"),
        ("variants/1/noise_seed", ..., "has no key 'noise_seed'"),
        ("variants/1/among_all/ndcg@10", ..., r"variants\[1\].among_all: the key ndcg@10 is miss"),
        ("variants/0/among_unseen", 3, r"variants\[0\].among_unseen is 3, must be a mapping"),
        ("provenance", [], "provenance is \\[\\], must be a mapping"),
        ("provenance/seed", "5", "provenance.seed is '5', must be a whole number"),
        ("extra", 1, "unknown key 'extra'"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(
    result: MatchingResult, tmp_path: Path, path: str, value: object, message: str
) -> None:
    file = tmp_path / "result.json"
    file.write_text(json.dumps(changed(result.to_dict(), path, value)))
    with pytest.raises(ValueError, match=message) as error:
        MatchingResult.load(file)
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)


def test_no_mapping_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    file.write_text("[]")
    with pytest.raises(ValueError, match="kind is None"):
        MatchingResult.load(file)


def test_the_table_says_what_was_measured(result: MatchingResult) -> None:
    variants = (*result.variants, variant(2.0, 0, [1, 1, 1]))
    plain, weighted = grids(dataclasses.replace(result, variants=variants, order="file"))
    assert plain.title == "tower: test part, standard protocol, FILE ORDER, which leaks"
    assert weighted.title.startswith("tower, transition weight 2: test part")
    assert plain.header == ("", "@1", "@10")
    assert plain.rows[0] == ("Recall = HR, unseen", "0.3333 ±0.0000", "0.5000 ±0.2357")
    assert weighted.rows[0] == ("Recall = HR, unseen", "1.0000", "1.0000")
    assert "3 rows ranked among all 30 items" in plain.note
    assert "mean and deviation of 2 noise seeds" in plain.note
    assert "2 users with too few interactions are left out" in plain.note
