"""Replicated tables look up, and get gradients, as nn.EmbeddingBag does."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchrec.modules.embedding_configs import EmbeddingBagConfig, PoolingType
from torchrec.modules.embedding_modules import EmbeddingBagCollection
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from dropdrift.data.schema import Encoding, Field, Schema, Table
from dropdrift.sharding.cluster import make_cluster
from dropdrift.sharding.config import ShardingConfig
from dropdrift.sharding.hardware import load_hardware
from dropdrift.sharding.initialise import fill_shard, initialise_tables
from dropdrift.sharding.planning import PlanRequest, make_plan
from dropdrift.sharding.shard import shard_model
from dropdrift.training.distributed import process_group

pytestmark = pytest.mark.timeout(60)

ROWS, WIDTH = 11, 8
# Ids that come twice in a bag, empty bags, and rows that no bag has.
BAGS = {
    "item": [[1], [4], [1], [], [9]],
    "tags": [[2, 3, 3], [], [3], [10, 0, 2, 3], []],
    "more": [[3], [3, 3], [], [], [5, 6]],
}
SCHEMA = Schema(
    name="bags",
    fields=(
        Field("item", "categorical", "item", "item"),
        Field("tags", "multi", "tags", "item", max_length=4),
        Field("more", "multi", "tags", "item", max_length=4),
    ),
    tables=(
        Table("item", ROWS, WIDTH, Encoding("vocabulary"), pooling="sum"),
        Table("tags", ROWS, WIDTH, Encoding("vocabulary"), pooling="mean"),
    ),
    labels=(),
    has_user=True,
    has_time=True,
    kind="interactions",
)


class Model(nn.Module):
    """Two tables, one of them read by two fields."""

    def __init__(self) -> None:
        super().__init__()
        self.collection = EmbeddingBagCollection(
            tables=[
                EmbeddingBagConfig(
                    name=table.name,
                    num_embeddings=table.rows,
                    embedding_dim=table.width,
                    pooling=PoolingType.MEAN if table.pooling == "mean" else PoolingType.SUM,
                    feature_names=[f.name for f in SCHEMA.fields if f.table == table.name],
                )
                for table in SCHEMA.tables
            ],
            device=torch.device("meta"),
        )

    def forward(self, features: KeyedJaggedTensor) -> dict[str, torch.Tensor]:
        return self.collection(features).to_dict()


def test_lookups_and_gradients_are_those_of_embedding_bag():
    bags = [bag for field in BAGS.values() for bag in field]
    features = KeyedJaggedTensor(
        keys=list(BAGS),
        values=torch.tensor([value for bag in bags for value in bag]),
        lengths=torch.tensor([len(bag) for bag in bags]),
    )
    plain = {}
    for table in SCHEMA.tables:
        plain[table.name] = nn.EmbeddingBag(table.rows, table.width, mode=table.pooling)
        fill_shard(plain[table.name].weight.data, 0, 0, WIDTH, 0.5, f"3/{table.name}")
    factors = torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(0))
    with process_group(timeout=60) as ranks:
        model = Model()
        cluster = make_cluster(ShardingConfig(), load_hardware("CPU"), 1, 1)
        request = PlanRequest(model, SCHEMA, ShardingConfig(), cluster, 5, "adam")
        plan = make_plan(request).plan
        sharded = shard_model(model, plan, ranks.device)
        initialise_tables(sharded, 0.5, 3)
        found = sharded(features.to(ranks.device))
        pooled = {name: found[name].cpu() for name in BAGS}
        sum((pooled[name] * factors).sum() for name in BAGS).backward()
        weights = dict(sharded.named_parameters())
    expected = {
        field.name: plain[field.table](
            torch.tensor([value for bag in BAGS[field.name] for value in bag]),
            torch.tensor([0, *(len(bag) for bag in BAGS[field.name])]).cumsum(0)[:-1],
        )
        for field in SCHEMA.fields
    }
    sum((expected[name] * factors).sum() for name in BAGS).backward()
    for name, vectors in expected.items():
        torch.testing.assert_close(pooled[name], vectors)
    for name, table in plain.items():
        weight = weights[f"collection.embedding_bags.{name}.weight"]
        assert torch.equal(weight.detach().cpu(), table.weight)
        assert weight.grad is not None
        torch.testing.assert_close(weight.grad.cpu(), table.weight.grad)
