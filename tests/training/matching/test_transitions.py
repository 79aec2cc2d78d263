"""Counting against slow references, and against what is known of MovieLens-1M."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropdrift.data.adaptors.movielens_interactions import MovieLensInteractions
from dropdrift.data.config import DataConfig, SequenceConfig
from dropdrift.data.interactions.prepare import prepare_interactions
from dropdrift.training.matching.baselines import evaluate_baseline
from dropdrift.training.matching.config import (
    PopularityBaseline,
    TransitionBaseline,
    TransitionConfig,
)
from dropdrift.training.matching.transitions import Transitions

ITEMS = 6

sequences = st.lists(st.lists(st.integers(0, ITEMS - 1), max_size=8), max_size=5)
configs = st.builds(
    TransitionConfig,
    distance=st.integers(1, 9),
    decay=st.sampled_from([0.5, 0.9, 1.0]),
    history=st.integers(1, 9),
    recency=st.sampled_from([0.5, 1.0]),
    normalise=st.booleans(),
    popularity=st.sampled_from([0.0, 0.25]),
)


def counted(users: list[list[int]], config: TransitionConfig) -> Transitions:
    offsets = np.cumsum([0, *map(len, users)])
    items = np.array([item for user in users for item in user], np.int32)
    return Transitions.count(offsets, items, ITEMS, config)


def slow_counts(users: list[list[int]], config: TransitionConfig) -> dict[int, dict[int, float]]:
    counts: dict[int, dict[int, float]] = defaultdict(lambda: defaultdict(float))
    for user in users:
        for place, item in enumerate(user):
            for distance in range(1, config.distance + 1):
                if place + distance < len(user):
                    counts[item][user[place + distance]] += config.decay ** (distance - 1)
    if config.normalise:
        for followers in counts.values():
            total = sum(followers.values())
            for item in followers:
                followers[item] /= total
    return counts


@given(sequences, configs)
def test_counts_are_those_of_the_definition(
    users: list[list[int]], config: TransitionConfig
) -> None:
    found = counted(users, config)
    expected = slow_counts(users, config)
    for item in range(ITEMS):
        of_item = slice(found.offsets[item], found.offsets[item + 1])
        row = dict(zip(found.followers[of_item].tolist(), found.counts[of_item], strict=True))
        assert row == pytest.approx(dict(expected[item]))
        assert list(row) == sorted(row)
    interactions = Counter(item for user in users for item in user)
    shares = [interactions[item] / max(interactions.total(), 1) for item in range(ITEMS)]
    assert found.popularity.tolist() == pytest.approx(shares)


@given(sequences, configs, st.lists(st.lists(st.integers(-1, ITEMS - 1), min_size=7, max_size=7)))
def test_scores_are_those_of_the_definition(
    users: list[list[int]], config: TransitionConfig, histories: list[list[int]]
) -> None:
    transitions = counted(users, config)
    counts = slow_counts(users, config)
    found = transitions.scores(np.array(histories, np.int64).reshape(-1, 7), config)
    assert found.shape == (len(histories), ITEMS)
    for history, scores in zip(histories, found, strict=True):
        newest = [item for item in reversed(history) if item >= 0][: config.history]
        expected = [
            sum(config.recency**k * counts[item].get(other, 0.0) for k, item in enumerate(newest))
            + config.popularity * transitions.popularity[other]
            for other in range(ITEMS)
        ]
        assert scores.tolist() == pytest.approx(expected)


def slow_ranks(users: list[list[int]], config: TransitionConfig | None) -> list[tuple[int, int]]:
    """Standard protocol, test part; popularity where there is no configuration."""
    training = [user[:-2] for user in users]
    popularity = Counter(item for user in training for item in user)
    counts = slow_counts(training, config) if config else {}
    ranks = []
    for user in users:
        known, target = user[:-1], user[-1]
        scores = {item: float(popularity[item]) for item in range(30)}
        if config:
            newest = known[::-1][: config.history]
            for item in range(30):
                share = popularity[item] / popularity.total()
                scores[item] = config.popularity * share
                for k, had in enumerate(newest):
                    scores[item] += config.recency**k * counts[had].get(item, 0.0)
        # Sums in another order differ in the last digits.
        ahead = [i for i in scores if i != target and scores[i] >= scores[target] - 1e-12]
        ranks.append((1 + len(ahead), 1 + sum(item not in known for item in ahead)))
    return ranks


def read_users(folder: Path) -> list[list[int]]:
    users: list[list[int]] = pq.read_table(folder / "users.parquet")["items"].to_pylist()
    return users


@pytest.mark.parametrize("config", [None, TransitionConfig(), TransitionConfig(1, 1.0, 1, 1.0)])
def test_baselines_rank_as_slow_references(
    interactions_folder: Path, config: TransitionConfig | None
) -> None:
    data = DataConfig(interactions_folder, batch_size=16)
    options = (
        TransitionBaseline(data=data, transition=config)
        if config
        else PopularityBaseline(data=data)
    )
    result = evaluate_baseline(options)
    assert result.ranks is not None
    found = list(
        zip(
            result.ranks["rank_all"].to_pylist(),
            result.ranks["rank_unseen"].to_pylist(),
            strict=True,
        )
    )
    users = read_users(interactions_folder)
    assert found == slow_ranks(users, config)
    assert result.ranks["user"].to_pylist() == [f"u{number}" for number in range(len(users))]
    assert result.ranks["item"].to_pylist() == [f"i{user[-1]}" for user in users]
    assert (result.name, result.rows, result.items) == (
        "transitions" if config else "popularity",
        len(users),
        30,
    )


def test_the_part_and_the_protocol_are_those_of_the_data(interactions_folder: Path) -> None:
    """Sequences in which an item is followed by the one two rows on, four times out of five."""
    sequence = SequenceConfig(protocol="paper", split_seed=1)
    data = DataConfig(interactions_folder, batch_size=16, sequence=sequence)
    by_order = {}
    for order in ("time", "file"):
        ordered = dataclasses.replace(sequence, order=order)
        options = TransitionBaseline(
            data=dataclasses.replace(data, sequence=ordered), part="validation", name="counts"
        )
        result = evaluate_baseline(options)
        assert (result.name, result.part, result.protocol) == ("counts", "validation", "paper")
        assert result.order == order
        assert result.rows == 3  # a tenth of four fifths of 40 users
        by_order[order] = result.variants[0].among_all.mean_rank
    assert by_order["time"] < by_order["file"]  # the order of the file is random here


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"distance": 0}, "transition.distance is 0, must be positive"),
        ({"history": -1}, "transition.history is -1, must be positive"),
        ({"decay": 0.0}, "transition.decay is 0.0, must be in"),
        ({"recency": 1.5}, "transition.recency is 1.5, must be in"),
        ({"popularity": -0.1}, "transition.popularity is -0.1, must not be negative"),
    ],
)
def test_wrong_options_are_refused(change: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TransitionConfig(), **change)


@pytest.mark.skipif("DROPDRIFT_DATASETS" not in os.environ, reason="DROPDRIFT_DATASETS is not set")
@pytest.mark.timeout(120)
def test_bigrams_of_movielens(tmp_path: Path) -> None:
    """In file order, the next item follows from the last one; in time order, it hardly does.

    The bounds are some four standard errors of 1,208 rows around a plain count table of another
    split: .247 and .676 in file order, .058 and .240 in time order.
    """
    source = MovieLensInteractions(Path(os.environ["DROPDRIFT_DATASETS"]) / "ml-1m.zip")
    prepare_interactions(source, tmp_path / "ml1m")
    bounds = {"file": ((0.20, 0.30), (0.62, 0.73)), "time": ((0.03, 0.09), (0.19, 0.29))}
    for order, (at_2, at_20) in bounds.items():
        sequence = SequenceConfig(protocol="paper", order=order)
        options = TransitionBaseline(
            data=DataConfig(tmp_path / "ml1m", sequence=sequence),
            transition=TransitionConfig(1, 1.0, 1, 1.0, normalise=False, popularity=0.0),
            ks=(2, 20),
        )
        result = evaluate_baseline(options)
        assert result.rows == 1208
        recall = result.variants[0].among_all.recall
        assert at_2[0] < recall[0] < at_2[1], (order, recall)
        assert at_20[0] < recall[1] < at_20[1], (order, recall)
