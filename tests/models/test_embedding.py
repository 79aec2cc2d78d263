import pytest
import torch
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor, KeyedTensor

from dropdrift.data.schema import Encoding, Field, Schema, Table
from dropdrift.kernels.feature_dropout import unpack_words
from dropdrift.models.embedding import FieldEmbedding, MissingWords, SelectFields

HASH = Encoding("hash")
SCHEMA = Schema(
    name="small",
    fields=(
        Field("colour", "categorical", "colour"),
        Field("tags", "multi", "tags", max_length=3),
        Field("likes", "multi", "tags", max_length=3),
    ),
    tables=(
        Table("colour", 4, 4, HASH),
        Table("tags", 5, 8, HASH, pooling="mean"),
    ),
    labels=("y",),
)
# Keys in another order than the schema's; three rows.
FEATURES = KeyedJaggedTensor(
    keys=["likes", "colour", "tags"],
    values=torch.tensor([4, 1, 2, 3, 1, 2]),
    lengths=torch.tensor([1, 0, 0, 1, 0, 1, 2, 1, 0]),
)


def test_embeddings_come_in_schema_order_and_missing_ones_are_zero():
    embedding = FieldEmbedding(SCHEMA, torch.device("cpu"))
    bags = embedding.collection.embedding_bags
    colour, tags = bags["colour"].weight, bags["tags"].weight
    assert set(dict(bags)) == {"colour", "tags"}  # two fields share a table
    expected = torch.zeros(3, 20)
    expected[0, :4], expected[2, :4] = colour[1], colour[2]
    expected[0, 4:12], expected[1, 4:12] = (tags[3] + tags[1]) / 2, tags[2]
    expected[0, 12:] = tags[4]
    torch.testing.assert_close(embedding(FEATURES), expected)


def test_half_precision_tables_are_looked_up_in_single_precision():
    embedding = FieldEmbedding(SCHEMA, torch.device("cpu"), "fp16")
    bags = embedding.collection.embedding_bags
    assert {bag.weight.dtype for bag in bags.values()} == {torch.float16}
    found = embedding(FEATURES)
    assert found.dtype == torch.float32
    assert torch.equal(found[0, :4], bags["colour"].weight[1].float())


def test_fields_are_taken_by_name_whatever_the_order_of_the_keys():
    values = torch.arange(12.0).view(2, 6)
    pooled = KeyedTensor(keys=["b", "a", "c"], length_per_key=[1, 2, 3], values=values)
    expected = torch.cat([values[:, 1:3], values[:, :1], values[:, 3:]], dim=1)
    assert torch.equal(SelectFields(("a", "b", "c"))(pooled), expected)


def test_missing_words_are_in_schema_order():
    words = MissingWords(SCHEMA.field_names)(FEATURES)
    expected = torch.tensor([[0, 0, 0], [1, 0, 1], [0, 1, 1]], dtype=torch.bool)
    assert torch.equal(unpack_words(words, 3), expected)


@pytest.mark.parametrize("name", ["type", "keys", "half", "page.url"])
def test_a_table_with_a_name_that_torch_has_already(name):
    schema = Schema("s", (Field(name, "categorical", name),), (Table(name, 4, 4, HASH),), ("y",))
    with pytest.raises(ValueError, match=f"table '{name}': torch cannot give a module that name"):
        FieldEmbedding(schema, torch.device("meta"))
