import pytest
import torch

from dropdrift.sharding.initialise import BLOCK_ROWS, fill_shard

ROWS, WIDTH = 2 * BLOCK_ROWS + 300, 6


def whole(key: str = "1/table") -> torch.Tensor:
    table = torch.full((ROWS, WIDTH), float("nan"))
    fill_shard(table, 0, 0, WIDTH, 0.5, key)
    return table


@pytest.mark.parametrize(
    ("row", "rows", "column", "columns"),
    [
        (0, 10, 0, WIDTH),
        (BLOCK_ROWS - 5, 10, 0, WIDTH),
        (17, 2 * BLOCK_ROWS, 2, 3),
        (ROWS - 1, 1, WIDTH - 1, 1),
        (0, ROWS, 3, 3),
    ],
)
def test_any_shard_is_a_cut_of_the_same_table(row, rows, column, columns):
    shard = torch.full((rows, columns), float("nan"))
    fill_shard(shard, row, column, WIDTH, 0.5, "1/table")
    assert torch.equal(shard, whole()[row : row + rows, column : column + columns])


def test_half_precision_tables_get_the_same_values_rounded():
    shard = torch.full((BLOCK_ROWS, 3), float("nan"), dtype=torch.float16)
    fill_shard(shard, 17, 2, WIDTH, 0.5, "1/table")
    assert torch.equal(shard, whole()[17 : 17 + BLOCK_ROWS, 2:5].half())


def test_values_are_normal_with_the_given_deviation():
    table = whole()
    assert torch.isfinite(table).all()
    assert abs(table.std() - 0.5) < 0.01
    assert abs(table.mean()) < 0.01
    # The blocks differ: no row comes twice.
    assert len(torch.unique(table[:, 0])) > 0.99 * ROWS


def test_tables_and_seeds_differ():
    assert not torch.equal(whole("1/table"), whole("1/other"))
    assert not torch.equal(whole("1/table"), whole("2/table"))
