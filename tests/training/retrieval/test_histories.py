from __future__ import annotations

import numpy as np
import pyarrow as pa
import torch
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from dropdrift.data.interactions.sequences import Sequences
from dropdrift.training.retrieval.histories import Histories

SEQUENCES = Sequences(
    pa.array(["a", "b", "c"]),
    np.array([0, 2, 2, 5]),
    np.array([7, 8, 1, 2, 3], dtype=np.int32),
    np.array([10, 20, 5, 6, 7]),
)
NO_FEATURES = KeyedJaggedTensor(
    ["item_id"], torch.zeros(0, dtype=torch.int64), torch.zeros(1, dtype=torch.int32)
)


def lists(histories: Histories) -> list[list[int]]:
    return [rows.tolist() for rows in histories.of_each()]


def test_histories_of_known_and_unknown_users() -> None:
    histories = Histories.of(SEQUENCES, np.array([2, -1, 0, 1, 2]))
    assert lists(histories) == [[1, 2, 3], [], [7, 8], [], [1, 2, 3]]
    assert histories.times.tolist() == [5, 6, 7, 10, 20, 5, 6, 7]
    assert lists(histories.take(np.array([4, 1]))) == [[1, 2, 3], []]
    assert lists(histories.where(histories.rows % 2 == 1)) == [[1, 3], [], [7], [], [1, 3]]
    assert lists(Histories.of(SEQUENCES, np.zeros(0, dtype=np.int64))) == []


def test_times_put_each_user_in_order_and_equal_ones_stay() -> None:
    rows, times = np.arange(6), np.array([3, 1, 2, 5, 5, 4])
    ordered = Histories(np.array([0, 3, 6]), rows, times).in_time_order()
    assert lists(ordered) == [[1, 2, 0], [5, 3, 4]]
    assert ordered.times.tolist() == [1, 2, 3, 4, 5, 5]


def test_a_batch_holds_the_newest_at_the_right() -> None:
    histories = Histories.of(SEQUENCES, np.array([2, 1, 0]))
    batch = histories.batch(2, NO_FEATURES, first_row=9)
    assert batch.items.tolist() == [[2, 3], [-1, -1], [7, 8]]
    assert batch.times.tolist() == [[6, 7], [0, 0], [10, 20]]
    assert (batch.first_row, batch.size, batch.targets.max().item()) == (9, 3, -1)
    wide = histories.batch(4, NO_FEATURES)
    assert wide.items.tolist() == [[-1, 1, 2, 3], [-1, -1, -1, -1], [-1, -1, 7, 8]]
