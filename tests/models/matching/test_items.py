import dataclasses

import pytest
import torch
from tests.models.matching.batches import ITEMS, SCHEMA, make_catalogue

from dropdrift.models.matching.config import ItemConfig
from dropdrift.models.matching.gather import gather_items
from dropdrift.models.matching.items import ItemEmbedding, ItemTower, identities, item_schema

CPU = torch.device("cpu")


def tables(embedding: ItemEmbedding) -> dict[str, torch.Tensor]:
    bags = embedding.fields.collection.embedding_bags
    return {name: bag.weight for name, bag in bags.items()}


def pooled(weight: torch.Tensor, ids: list[int]) -> torch.Tensor:
    return weight[ids].mean(0) if ids else torch.zeros(weight.shape[1])


@pytest.mark.parametrize("width", [4, 6, 16])
def test_fields_are_added(width):
    embedding = ItemEmbedding(SCHEMA, ItemConfig(width=width), CPU)
    ids, genres = tables(embedding)["item_id"], tables(embedding)["genres"]
    x = embedding(make_catalogue())
    assert x.shape == (ITEMS, width)
    for item in (0, 1, 5):
        tags = [1 + item % 5] if item % 2 else []
        expected = ids[item + 1] + pooled(genres, list(range(1, 1 + item % 3)))
        expected = (expected + pooled(genres, tags))[:width]
        torch.testing.assert_close(x[item], expected)


def test_fields_stand_side_by_side_in_the_order_asked_for():
    config = ItemConfig(width=4, combine="concat", fields=("genres", "item_id"))
    embedding = ItemEmbedding(SCHEMA, config, CPU)
    weights = tables(embedding)
    # Two columns are read of the four that FBGEMM needs, and only those are trained.
    assert {weight.shape[1] for weight in weights.values()} == {4}
    x = embedding(make_catalogue())
    torch.testing.assert_close(x[5, :2], weights["genres"][[1, 2]].mean(0)[:2])
    torch.testing.assert_close(x[5, 2:], weights["item_id"][6, :2])
    x.sum().backward()
    for weight in weights.values():
        assert weight.grad[:, :2].abs().sum() > 0
        assert weight.grad[:, 2:].abs().sum() == 0


def test_a_table_of_no_chosen_field_is_left_out():
    assert [t.name for t in item_schema(SCHEMA, ItemConfig(fields=("item_id",))).tables] == [
        "item_id"
    ]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (ItemConfig(fields=("item_id", "year")), "model.item.fields names 'year'; .*tags"),
        (ItemConfig(fields=("tags", "tags")), "model.item.fields lists 'tags' 2 times"),
        (ItemConfig(width=64, combine="concat"), "width is 64, which 3 fields cannot share"),
    ],
)
def test_what_the_items_have_not_is_refused(config, message):
    with pytest.raises(ValueError, match=message):
        ItemEmbedding(SCHEMA, config, CPU)


def test_impressions_are_refused():
    impressions = dataclasses.replace(SCHEMA, kind="impressions", labels=("click",))
    with pytest.raises(ValueError, match=r"'films' holds impressions.*--task matching"):
        ItemEmbedding(impressions, ItemConfig(), CPU)


def test_item_towers():
    x = torch.randn(5, 8)
    assert torch.equal(ItemTower(ItemConfig(width=8))(x), x)
    dense = ItemTower(ItemConfig(width=8, tower="dense"))
    linear, _, norm = dense.layers
    expected = torch.nn.functional.elu(x @ linear.weight.T + linear.bias)
    expected = (expected - expected.mean(1, keepdim=True)) / torch.sqrt(
        expected.var(1, unbiased=False, keepdim=True) + norm.eps
    )
    assert dense(x).shape == (5, 16)
    torch.testing.assert_close(dense(x), expected)
    assert ItemTower(ItemConfig(width=8, tower="dense", vector_width=6))(x).shape == (5, 6)


def test_rows_of_no_item_are_zero():
    x = torch.randn(4, 3, requires_grad=True)
    gathered, present = gather_items(x, torch.tensor([[-1, 2], [0, -1]]))
    assert present.tolist() == [[False, True], [True, False]]
    torch.testing.assert_close(gathered[0], torch.stack([torch.zeros(3), x[2]]))
    gathered.sum().backward()
    assert x.grad[:, 0].tolist() == [1, 0, 1, 0]


def test_which_item_a_row_is():
    catalogue = make_catalogue()
    assert identities(catalogue, "item_id").tolist() == list(range(1, ITEMS + 1))
    assert identities(catalogue, "tags").tolist() == [
        1 + item % 5 if item % 2 else -1 for item in range(ITEMS)
    ]
