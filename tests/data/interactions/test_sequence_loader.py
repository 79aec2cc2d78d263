"""In these sequences every interaction has an item of its own, which says whose it is and when."""

from __future__ import annotations

import dataclasses
import math
import tracemalloc
from collections import Counter
from collections.abc import Callable
from functools import cache
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dropdrift.data.batch import SequenceBatch
from dropdrift.data.config import DataConfig, SequenceConfig
from dropdrift.data.interactions.loader import SequenceLoader
from dropdrift.data.loading.loader import Cursor
from dropdrift.data.schema import Schema

LENGTHS = [4, 5, 6, 30, 3, 11, 12, 13, 50, 7, 8, 9, 5, 25, 31, 17, 5, 40, 6, 19, 2, 22, 23, 9, 10]
WINDOW = 7
STRETCH = 10

Write = Callable[..., Path]
Row = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]


def sequences() -> list[list[int]]:
    ends = np.cumsum(LENGTHS).tolist()
    return [list(range(e - n, e)) for e, n in zip(ends, LENGTHS, strict=True)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, write_interactions: Write) -> Path:
    users = sequences()
    times = [[100 + 3 * item for item in user] for user in users]
    years = [1900 + item % 9 if item % 4 else None for item in range(sum(LENGTHS))]
    return write_interactions(
        tmp_path_factory.mktemp("numbered") / "data", users, times=times, years=years
    )


def make(
    folder: Path,
    part: str = "train",
    *,
    batch_size: int = 12,
    rank: int = 0,
    world_size: int = 1,
    seed: int = 5,
    **options: Any,
) -> SequenceLoader:
    sequence = SequenceConfig(
        **{
            "window": WINDOW,
            "stretch": STRETCH,
            "stretches": "all",
            "windows_per_user": 4,
            **options,
        }
    )
    return SequenceLoader(
        folder,
        part,
        load_schema(folder),
        DataConfig(folder, batch_size=batch_size, sequence=sequence),
        rank=rank,
        world_size=world_size,
        training=part == "train",
        seed=seed,
    )


@cache
def load_schema(folder: Path) -> Schema:
    return Schema.load(folder)


@cache
def decoding(folder: Path) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The item of each id of the field item_id, -1 for id 0."""
    values = sorted(f"i{i}" for i in range(load_schema(folder).table("item_id").rows - 1))
    return np.array([-1, *(int(value[1:]) for value in values)])


def catalogue_items(batch: SequenceBatch, folder: Path) -> list[int]:
    """The item of each row of the batch's catalogue, -1 for a filling row."""
    feature = batch.catalogue["item_id"]
    items = np.full(len(feature.lengths()), -1)
    items[feature.lengths().numpy() > 0] = decoding(folder)[feature.values().numpy()]
    return items.tolist()


def rows(batch: SequenceBatch, folder: Path) -> list[Row]:
    """Items, times and targets of each row, as items whatever the catalogue's order."""
    named = [*catalogue_items(batch, folder), -1]
    return [
        (tuple(named[i] for i in items), tuple(times), tuple(named[t] for t in targets))
        for items, times, targets in zip(
            batch.items.tolist(), batch.times.tolist(), batch.targets.tolist(), strict=True
        )
    ]


def epoch_rows(loader: SequenceLoader, folder: Path, epoch: int = 0) -> list[Row]:
    return [row for batch in loader.batches(Cursor(epoch)) for row in rows(batch, folder)]


def all_rows(folder: Path, epoch: int = 0, **options: Any) -> list[Row]:
    """Every row of an epoch: a batch of one row leaves none out."""
    return epoch_rows(make(folder, batch_size=1, **options), folder, epoch)


def trained(protocol: str, folder: Path) -> list[list[int]]:
    """What may be trained on, in plain Python; the paper's users as the loader splits them."""
    users = [user for user in sequences() if len(user) >= 5]
    if protocol == "standard":
        return [user[:-2] for user in users]
    held = {
        index
        for part in ("validation", "test")
        for index in make(folder, part, protocol=protocol).users
    }
    return [user for index, user in enumerate(users) if index not in held]


def padded(values: list[int], length: int, fill: int) -> tuple[int, ...]:
    return (fill,) * (length - len(values)) + tuple(values)


def expected(items: list[int], targets: list[int], length: int) -> Row:
    times = [100 + 3 * item for item in items]
    return padded(items, length, -1), padded(times, length, 0), padded(targets, length, -1)


@pytest.mark.parametrize("protocol", ["standard", "paper"])
@pytest.mark.parametrize("negatives", [0, 9])
def test_stretches_have_every_target_once_in_an_epoch(
    folder: Path, protocol: str, negatives: int
) -> None:
    users = trained(protocol, folder)
    cuts = set()
    for epoch in range(3):
        found = all_rows(folder, epoch, protocol=protocol, negatives=negatives)
        assert len(found) == sum(math.ceil((len(user) - 1) / STRETCH) for user in users)
        for row in found:
            items = [item for item in row[0] if item >= 0]
            user = next(user for user in users if items[0] in user)
            start = user.index(items[0])
            stop = start + len(items)
            assert 1 <= len(items) <= STRETCH
            assert row == expected(user[start:stop], user[start + 1 : stop + 1], STRETCH)
        targets = Counter(target for row in found for target in row[2] if target >= 0)
        assert targets == Counter(item for user in users for item in user[1:])
        cuts.add(frozenset(row[0] for row in found))
    assert len(cuts) == 3


@pytest.mark.parametrize("protocol", ["standard", "paper"])
@pytest.mark.parametrize("negatives", [0, 9])
@pytest.mark.parametrize("fixed", [True, False])
def test_windows_have_distinct_targets(
    folder: Path, protocol: str, negatives: int, fixed: bool
) -> None:
    users = trained(protocol, folder)
    options = {"training": "one_window", "fixed_windows": fixed, "negatives": negatives}
    epochs = [all_rows(folder, epoch, protocol=protocol, **options) for epoch in range(3)]
    for found in epochs:
        assert len(found) == 4 * len(users)
        targets = Counter(row[2][-1] for row in found)
        for user in users:
            shortest = 1 if protocol == "standard" else min(10, len(user) - 1)
            choices = user[shortest:]
            drawn = [targets[item] for item in choices]
            assert sum(drawn) == 4
            assert max(drawn) - min(drawn) <= 1
            assert len(choices) < 4 or max(drawn) == 1
        for row in found:
            user = next(user for user in users if row[2][-1] in user)
            place = user.index(row[2][-1])
            history = user[max(0, place - WINDOW) : place]
            assert row == (
                *expected(history, [], WINDOW)[:2],
                (-1,) * (WINDOW - 1) + (user[place],),
            )
    assert len({frozenset(found) for found in epochs}) == (1 if fixed else 3)
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize(("part", "behind"), [("test", 1), ("validation", 2)])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_the_standard_protocol_evaluates_the_last_interactions(
    folder: Path, part: str, behind: int, world_size: int
) -> None:
    users = [user for user in sequences() if len(user) >= 5]
    found, seen, shapes = [], [], set()
    for rank in range(world_size):
        loader = make(folder, part, batch_size=6, rank=rank, world_size=world_size)
        assert loader.rows == len(users)
        for batch in loader.batches(Cursor()):
            shapes.add((rank, batch.rows, batch.negatives, len(batch.log_expected)))
            content = rows(batch, folder)
            assert all(row == expected([], [], WINDOW) for row in content[batch.size :])
            found += content[: batch.size]
            assert batch.first_row + batch.size <= loader.rows or not batch.size
            offsets, items = loader.seen(batch.first_row, batch.size)
            seen += [items[start:stop].tolist() for start, stop in pairwise(offsets)]
            assert len(offsets) == batch.size + 1
    assert found == [
        (
            *expected(user[:-behind][-WINDOW:], [], WINDOW)[:2],
            (-1,) * (WINDOW - 1) + (user[-behind],),
        )
        for user in users
    ]
    assert seen == [user[:-behind] for user in users]
    total = sum(LENGTHS)
    assert shapes == {(rank, 6 // world_size, total, total) for rank in range(world_size)}


def test_the_paper_protocol_splits_users(folder: Path) -> None:
    users = [user for user in sequences() if len(user) >= 5]
    parts = {p: make(folder, p, protocol="paper") for p in ("validation", "test")}
    assert parts["test"].rows == round(0.2 * len(users))
    assert parts["validation"].rows == round(0.1 * (len(users) - parts["test"].rows))
    assert not set(parts["test"].users) & set(parts["validation"].users)
    for loader in parts.values():
        for index, row in zip(loader.users, epoch_rows(loader, folder), strict=False):
            user = users[index]
            place = user.index(row[2][-1])
            assert place >= min(10, len(user) - 1)
            assert row[0] == padded(user[max(0, place - WINDOW) : place], WINDOW, -1)
    raw = parts["test"].raw_users(0, 2)
    kept = [f"u{number}" for number, length in enumerate(LENGTHS) if length >= 5]
    assert raw == [kept[index] for index in parts["test"].users[:2]]
    others = [make(folder, "test", protocol="paper", split_seed=s).users.tolist() for s in range(9)]
    assert len(set(map(tuple, others))) > 5
    targets = {
        make(folder, "test", protocol="paper", split_seed=s).evaluated.positions[0]
        for s in range(9)
    }
    assert len(targets) > 1


@pytest.mark.parametrize("training", ["every_position", "one_window"])
@pytest.mark.parametrize("protocol", ["standard", "paper"])
def test_nothing_that_is_evaluated_is_trained_on(
    folder: Path, training: str, protocol: str
) -> None:
    options = {"protocol": protocol, "training": training}
    learned = {
        item
        for epoch in range(4)
        for row in all_rows(folder, epoch, **options)
        for item in (*row[0], *row[2])
        if item >= 0
    }
    for part in ("validation", "test"):
        loader = make(folder, part, batch_size=1, **options)
        for number, row in enumerate(epoch_rows(loader, folder)):
            assert row[2][-1] not in learned
            _, seen = loader.seen(number, 1)
            assert max(row[0]) == max(seen) < row[2][-1]
            if protocol == "paper":
                assert not learned & set(seen.tolist())


@pytest.mark.parametrize("training", ["every_position", "one_window"])
@pytest.mark.parametrize("negatives", [0, 9])
@pytest.mark.parametrize("world_size", [2, 3])
def test_global_batches_do_not_depend_on_the_number_of_ranks(
    folder: Path, training: str, negatives: int, world_size: int
) -> None:
    options = {"training": training, "negatives": negatives}
    whole = list(make(folder, **options).batches(Cursor(2, 0, 7)))
    ranks = [
        list(make(folder, rank=r, world_size=world_size, **options).batches(Cursor(2, 0, 7)))
        for r in range(world_size)
    ]
    for number, batch in enumerate(whole):
        slices = [batches[number] for batches in ranks]
        assert [row for part in slices for row in rows(part, folder)] == rows(batch, folder)
        assert sum(part.target_share for part in slices) == pytest.approx(batch.target_share)
        assert batch.target_share == int((batch.targets >= 0).sum())
        assert len({part.target_share for part in slices}) == 1
        assert {len(part.log_expected) for part in slices} == {len(slices[0].log_expected)}
        assert [part.first_row for part in slices] == [
            r * 12 // world_size for r in range(world_size)
        ]
        assert {part.step for part in slices} == {batch.step} == {7 + number}
        first = [catalogue_items(part, folder)[: batch.negatives] for part in [batch, *slices]]
        assert all(items == first[0] for items in first)


def same(left: SequenceBatch, right: SequenceBatch) -> bool:
    return all(
        left.catalogue.values().equal(right.catalogue.values())
        if field.name == "catalogue"
        else np.array_equal(getattr(left, field.name), getattr(right, field.name))
        for field in dataclasses.fields(SequenceBatch)
    )


@pytest.mark.parametrize("training", ["every_position", "one_window"])
@pytest.mark.parametrize("negatives", [0, 9])
@pytest.mark.parametrize("part", ["train", "test"])
def test_an_epoch_goes_on_from_any_batch(
    folder: Path, training: str, negatives: int, part: str
) -> None:
    options = {"training": training, "negatives": negatives, "batch_size": 5}
    whole = list(make(folder, part, **options).batches(Cursor(1, 0, 20)))
    for done in range(len(whole) + 1):
        rest = make(folder, part, **options).batches(Cursor(1, done, 20 + done))
        assert all(map(same, whole[done:], rest))
    with pytest.raises(ValueError, match=r"from batch 99 of part .*, which has"):
        next(make(folder, part, **options).batches(Cursor(1, 99, 99)))


def test_seeds_and_epochs_shuffle(folder: Path) -> None:
    orders = [epoch_rows(make(folder, seed=s), folder, e) for s in (0, 1) for e in (0, 1)]
    assert len({tuple(order) for order in orders}) == 4
    assert epoch_rows(make(folder, seed=1), folder, 1) == orders[3]


def test_rows_that_do_not_fill_a_batch_are_left_out_in_turn(folder: Path) -> None:
    loader = make(folder, batch_size=20, training="one_window")
    assert loader.steps_per_epoch == loader.rows // 20 == 4
    assert loader.rows == 4 * sum(length >= 5 for length in LENGTHS) == 88
    counts = Counter(row for e in range(30) for row in epoch_rows(loader, folder, e))
    # 80 of 88 rows in each of 30 epochs.
    assert len(counts) == sum(min(4, length - 3) for length in LENGTHS if length >= 5)
    assert min(counts.values()) > 18


def test_negatives_are_sampled_by_popularity(tmp_path: Path, write_interactions: Write) -> None:
    users = [[0, 1, 0, 2, 3, 4], [0, 1, 5, 0, 3, 4], [0, 2, 2, 0, 6, 4]]
    folder = write_interactions(tmp_path / "data", users, items=9)
    counts = {0: 6, 1: 2, 2: 3, 5: 1}
    loader = make(folder, batch_size=3, negatives=50)
    drawn: Counter[int] = Counter()
    for step in range(200):
        batch = next(loader.batches(Cursor(step, 0, step)))
        items = catalogue_items(batch, folder)
        assert len(items) == len(batch.log_expected) == 50 + 9
        assert batch.negatives == 50
        drawn.update(items[:50])
        own = [item for item in items[50:] if item >= 0]
        assert own == sorted(
            {i for row in rows(batch, folder) for i in (*row[0], *row[2]) if i >= 0}
        )
        assert items[50 + len(own) :] == [-1] * (9 - len(own))
        for item, logarithm in zip(items, batch.log_expected.tolist(), strict=True):
            wanted = math.log(50 * counts[item] / 12) if item >= 0 else 0
            assert logarithm == pytest.approx(wanted, abs=1e-6)
        used = {*batch.items.flatten().tolist(), *batch.targets.flatten().tolist()} - {-1}
        assert all(50 <= row < 50 + len(own) for row in used)
    assert set(drawn) == set(counts)
    for item, count in counts.items():
        share = count / 12
        assert drawn[item] / 10_000 == pytest.approx(share, abs=4 * math.sqrt(share / 10_000))


def test_the_order_of_the_file(tmp_path: Path, write_interactions: Write) -> None:
    users = [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10]]
    order = [[3, 5, 0, 1, 4, 2], [4, 3, 2, 1, 0]]
    times = [[10 * item for item in user] for user in users]
    folder = write_interactions(tmp_path / "data", users, file_order=order, times=times)
    loader = make(folder, "test", order="file")
    batch = next(loader.batches(Cursor()))
    assert batch.items[0].tolist() == [-1, -1, 3, 5, 0, 1, 4]
    assert batch.times[0].tolist() == [0, 0, 30, 50, 0, 10, 40]
    assert batch.targets[:2, -1].tolist() == [2, 6]
    assert next(make(folder, "test").batches(Cursor())).targets[:2, -1].tolist() == [5, 10]


def test_one_target_of_each_training_user_can_be_evaluated(folder: Path) -> None:
    schema, config = load_schema(folder), DataConfig(folder, sequence=SequenceConfig(window=WINDOW))
    loader = SequenceLoader(folder, "train", schema, config, training=False)
    users = [user for user in sequences() if len(user) >= 5]
    found = epoch_rows(loader, folder)[: loader.rows]
    assert [row[2][-1] for row in found] == [user[-3] for user in users]


def test_memory_does_not_grow_with_the_number_of_windows(folder: Path) -> None:
    def peak(windows: int) -> int:
        tracemalloc.start()
        loader = make(folder, training="one_window", windows_per_user=windows, fixed_windows=False)
        assert loader.rows == 22 * windows
        for _ in islice(loader.batches(Cursor(3)), 2):
            pass
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    peak(4)
    assert peak(10_000_000) < peak(4) + 200_000


def test_users_mistakes(folder: Path, prepared_folder: Path) -> None:
    with pytest.raises(ValueError, match="unknown part 'tset': choose one of train, validation"):
        make(folder, "tset")
    with pytest.raises(ValueError, match="part 'test' is for evaluation"):
        SequenceLoader(folder, "test", load_schema(folder), DataConfig(folder), training=True)
    with pytest.raises(ValueError, match="holds impressions: prepare it with --task matching"):
        make(prepared_folder)
    with pytest.raises(ValueError, match=r"batch_size is 12, which 5 ranks do not divide"):
        make(folder, world_size=5)
    with pytest.raises(ValueError, match=r"training rows, .* data.batch_size is 1000"):
        make(folder, batch_size=1000)
    with pytest.raises(ValueError, match=r"no user has 51 interactions, the most are 50"):
        make(folder, min_interactions=51)
    with pytest.raises(ValueError, match=r"'paper', which needs 3 users to split: 2 have"):
        make(folder, protocol="paper", min_interactions=35)
    with pytest.raises(ValueError, match=r"does not exist: is .* made by"):
        make(folder / "absent")


def test_sequences_without_anything_to_learn(tmp_path: Path, write_interactions: Write) -> None:
    folder = write_interactions(tmp_path / "data", [[0, 1, 2], [2, 1, 0]])
    with pytest.raises(ValueError, match="no user has enough interactions for part 'train'"):
        make(folder, min_interactions=3)
    assert make(folder, "validation", min_interactions=3).rows == 2
