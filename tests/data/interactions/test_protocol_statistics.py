from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dropdrift.data.adaptors.movielens_interactions import MovieLensInteractions
from dropdrift.data.config import DataConfig, SequenceConfig
from dropdrift.data.interactions.loader import SequenceLoader
from dropdrift.data.interactions.prepare import prepare_interactions
from dropdrift.data.interactions.protocol_statistics import ProtocolStatistics, protocol_statistics
from dropdrift.data.interactions.sequences import Sequences
from dropdrift.data.loading.loader import Cursor
from dropdrift.data.schema import Schema

# What the paper's Table 1 prints, and how far two draws of its windows differ.
PAPER_INTERACTIONS, SPREAD = 643_979, 2_950


def test_interactions_are_distinct_pairs_in_the_windows(
    tmp_path: Path, write_interactions: Callable[..., Path]
) -> None:
    generator = np.random.default_rng(2)
    users = [generator.integers(0, 25, n).tolist() for n in generator.integers(5, 60, 30)]
    folder = write_interactions(tmp_path / "data", users, items=25)
    schema = Schema.load(folder)
    config = SequenceConfig("paper", window=8, training="one_window", windows_per_user=3)
    sequences = Sequences.load(folder, schema, "time", 5)
    everything = protocol_statistics(sequences, SequenceConfig())
    pairs = {(number, item) for number, user in enumerate(users) for item in user}
    assert everything == ProtocolStatistics(30, len({i for _, i in pairs}), len(pairs))

    found = protocol_statistics(sequences, config, seed=4)
    # The loader's own windows, and those that the validation users would have had.
    pairs = set()
    for part in ("train", "test"):
        options = DataConfig(folder, batch_size=1, sequence=config)
        loader = SequenceLoader(folder, part, schema, options, training=part == "train", seed=4)
        for batch in loader.batches(Cursor()):
            pairs |= _pairs(users, [*batch.items[0].tolist(), int(batch.targets[0, -1])])
    assert pairs
    assert found.users == 30
    assert len(pairs) <= found.interactions <= len(pairs) + 2 * 27


def _pairs(users: list[list[int]], window: list[int]) -> set[tuple[int, int]]:
    known = [item for item in window if item >= 0]
    owners = [
        number
        for number, user in enumerate(users)
        if any(user[i : i + len(known)] == known for i in range(len(user)))
    ]
    assert len(owners) == 1
    return {(owners[0], item) for item in known}


@pytest.fixture(scope="module")
def movielens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if "DROPDRIFT_DATASETS" not in os.environ:
        pytest.skip("DROPDRIFT_DATASETS is not set")
    folder = tmp_path_factory.mktemp("movielens") / "data"
    source = MovieLensInteractions(Path(os.environ["DROPDRIFT_DATASETS"]) / "ml-1m.zip")
    prepare_interactions(source, folder, progress=False)
    return folder


def test_the_papers_table_1(movielens: Path) -> None:
    """Four draws of its windows, in the order of the file: on average the printed number."""
    sequences = Sequences.load(movielens, Schema.load(movielens), "file", 5)
    draws = [
        protocol_statistics(sequences, SequenceConfig("paper", "file", split_seed=s), seed=s)
        for s in range(4)
    ]
    assert {draw.users for draw in draws} == {6040}
    assert all(abs(draw.items - 3648) < 25 for draw in draws)
    assert all(abs(draw.interactions - PAPER_INTERACTIONS) < 3 * SPREAD for draw in draws)
    mean = np.mean([draw.interactions for draw in draws])
    assert abs(mean - PAPER_INTERACTIONS) < SPREAD
    # A simulation of the published sampling gave 647,090.
    assert abs(mean - 647_090) < 2 * SPREAD


@pytest.mark.parametrize(
    ("protocol", "rows"),
    [
        ("paper", {"train": 43_490, "validation": 483, "test": 1208}),
        ("standard", {"train": 60_400, "validation": 6040, "test": 6040}),
    ],
)
def test_parts_of_movielens(movielens: Path, protocol: str, rows: dict[str, int]) -> None:
    schema = Schema.load(movielens)
    sequence = SequenceConfig(protocol, training="one_window")  # type: ignore[arg-type]
    config = DataConfig(movielens, sequence=sequence)
    for part, wanted in rows.items():
        loader = SequenceLoader(movielens, part, schema, config, training=part == "train")
        assert loader.rows == wanted
        batch = next(loader.batches(Cursor()))
        assert batch.items.shape == (512, 50)
        assert (batch.targets[: batch.size, -1] >= 0).all()
        times = batch.times[:100]
        later = (times[:, 1:] >= times[:, :-1]) | (times[:, :-1] == 0)
        assert later.all()
