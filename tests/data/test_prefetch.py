from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
import torch

from dropdrift.data.config import DataConfig
from dropdrift.data.loading.loader import Cursor, Loader
from dropdrift.data.loading.prefetch import prefetch, read_ahead
from dropdrift.data.schema import Schema


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    assert [thread for thread in threading.enumerate() if thread.name == "prefetch"] == []


class Numbers:
    """Counts how far it has been read, and whether it was closed."""

    def __init__(self, count: int, fail_at: int = -1) -> None:
        self.count, self.fail_at = count, fail_at
        self.made = 0
        self.closed = False

    def __call__(self) -> Generator[int, None, None]:
        try:
            for number in range(self.count):
                if number == self.fail_at:
                    raise ValueError("row group 3 is damaged")
                self.made += 1
                yield number
        finally:
            self.closed = True


@pytest.mark.parametrize("depth", [0, 1, 3, 100])
def test_items_come_in_order_and_all(depth: int) -> None:
    numbers = Numbers(50)
    assert list(read_ahead(numbers(), depth)) == list(range(50))
    assert numbers.closed


@pytest.mark.parametrize("depth", [0, 2])
def test_an_error_comes_after_the_items_before_it(depth: int) -> None:
    items = read_ahead(Numbers(5, fail_at=3)(), depth)
    assert [next(items) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="row group 3 is damaged"):
        next(items)


def wait_until_made(numbers: Numbers, count: int) -> None:
    deadline = time.monotonic() + 5
    while numbers.made < count and time.monotonic() < deadline:
        time.sleep(0.001)


def test_no_more_than_depth_items_are_made_ahead() -> None:
    numbers = Numbers(100)
    items = read_ahead(numbers(), 3)
    next(items)
    wait_until_made(numbers, 4)
    time.sleep(0.05)
    assert numbers.made == 4
    items.close()


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_stopping_early_ends_the_thread_and_closes_the_source(depth: int) -> None:
    numbers = Numbers(100)
    source = numbers()
    items = read_ahead(source, depth)
    next(items)
    items.close()
    assert numbers.closed
    assert numbers.made < 10


def test_items_that_are_never_taken_start_no_thread() -> None:
    numbers = Numbers(3)
    read_ahead(numbers(), 2)
    assert numbers.made == 0


def test_read_ahead_of_read_ahead_stops_with_it() -> None:
    numbers = Numbers(100)
    items = read_ahead(read_ahead(numbers(), 2), 2)
    assert next(items) == 0
    items.close()
    assert numbers.closed


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("depth", [0, 2])
def test_pinned_batches_are_in_page_locked_memory(prepared_folder: Path, depth: int) -> None:
    schema = Schema.load(prepared_folder)
    loader = Loader(prepared_folder, "train", schema, DataConfig(), training=True)
    batches = prefetch(loader.batches(Cursor()), depth, pin=True)
    batch = next(batches)
    assert batch.labels.is_pinned()
    assert batch.features.values().is_pinned()
    batches.close()
