"""Optimizers of dense parameters and tables, whether in the backward or after it."""

from __future__ import annotations

import pytest
import torch
from torchrec.distributed import DistributedModelParallel

from dropdrift.data.config import DataConfig, SequenceConfig
from dropdrift.data.interactions.loader import SequenceLoader
from dropdrift.data.loading.loader import Cursor
from dropdrift.data.schema import Schema
from dropdrift.models.config import ModelConfig
from dropdrift.models.matching.config import ItemConfig, SASRecConfig
from dropdrift.sharding.shard import is_table
from dropdrift.training.build import build_model
from dropdrift.training.config import LoopConfig, OptimizerConfig, TrainConfig
from dropdrift.training.distributed import process_group
from dropdrift.training.optimizers import Optimizers, learning_rate_share
from dropdrift.training.pipeline import GuardedPipeline

pytestmark = pytest.mark.timeout(60)

TABLES = {f"embedding.fields.collection.embedding_bags.{name}.weight" for name in ("item_id",)}


def configuration(data, **optimizer) -> TrainConfig:
    return TrainConfig(
        data=DataConfig(
            data, batch_size=4, sequence=SequenceConfig(window=4, stretch=4, negatives=2)
        ),
        model=ModelConfig(
            kind="sasrec",
            item=ItemConfig(fields=("item_id",), width=8),
            sasrec=SASRecConfig(blocks=1, max_positions=5),
        ),
        optimizer=OptimizerConfig(**optimizer),
        loop=LoopConfig(select_by="ndcg"),
    )


def weights(model: DistributedModelParallel) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


@pytest.mark.parametrize(
    ("decay", "expected"),
    [
        ("constant", [0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 1]),
        ("linear", [0.25, 0.5, 0.75, 1, 1, 0.8, 0.6, 0.4, 0.2]),
        ("cosine", [0.25, 0.5, 0.75, 1, 1, 0.8828427, 0.6, 0.3171573, 0.2]),
    ],
)
def test_course_of_the_learning_rate(decay, expected):
    config = OptimizerConfig(warmup_steps=4, decay=decay, final_share=0.2)
    shares = [learning_rate_share(config, step, 8) for step in range(9)]
    assert shares == pytest.approx(expected)


def test_adam_has_the_tables_beside_the_dense_parameters(interactions_folder):
    schema = Schema.load(interactions_folder)
    config = configuration(
        interactions_folder,
        sparse="adam",
        learning_rate=0.25,
        sparse_learning_rate=0.5,
        warmup_steps=2,
    )
    with process_group(timeout=60) as ranks:
        model = build_model(schema, config, ranks)
        optimizers = Optimizers(model, config.optimizer, 10)
        rates = {}
        assert optimizers.set_learning_rates(0) == 0.5
        for name, weight in model.named_parameters():
            rates[name] = [
                group["lr"]
                for group in optimizers.combined.param_groups
                if any(weight is other for other in group["params"])
            ]
    assert rates.keys() > TABLES
    assert all(rates[name] == [0.25 if name in TABLES else 0.125] for name in rates)
    assert optimizers.dense_parameters.keys() == rates.keys() - TABLES


def test_decay_leaves_rows_that_no_batch_has(interactions_folder):
    """Adam is dense over a replicated table: without a gradient, a row must stay as it is."""
    schema = Schema.load(interactions_folder)
    config = configuration(interactions_folder, sparse="adam", weight_decay=0.5, learning_rate=0.1)
    loader = SequenceLoader(interactions_folder, "train", schema, config.data, training=True)
    batch = next(loader.batches(Cursor()))
    looked_up = torch.zeros(31, dtype=torch.bool)
    looked_up[batch.catalogue.values()] = True
    assert 4 < looked_up.sum() < 28
    with process_group(timeout=60) as ranks:
        model = build_model(schema, config, ranks)
        before = weights(model)
        optimizers = Optimizers(model, config.optimizer, 10)
        optimizers.set_learning_rates(0)
        pipeline = GuardedPipeline(model, optimizers, ranks.device, "fp32")
        pipeline.progress(iter([batch]))
        after = weights(model)
    (table,) = TABLES
    moved = (after[table] != before[table]).any(1).cpu()
    assert torch.equal(moved & looked_up, moved)
    assert moved.sum() > 4
    # A dense parameter without a gradient: the position beyond the longest row.
    last = before["dense.user.positions"][-1]
    torch.testing.assert_close(after["dense.user.positions"][-1], last * (1 - 0.1 * 0.5))


@pytest.mark.parametrize("sparse", ["adam", "rowwise_adagrad"])
def test_clipping_is_of_the_dense_gradient_alone(interactions_folder, sparse):
    schema = Schema.load(interactions_folder)
    config = configuration(interactions_folder, sparse=sparse, gradient_clip=1e-3)
    loader = SequenceLoader(interactions_folder, "train", schema, config.data, training=True)
    batch = next(loader.batches(Cursor()))
    with process_group(timeout=60) as ranks:
        model = build_model(schema, config, ranks)
        optimizers = Optimizers(model, config.optimizer, 10)
        model(batch.to(ranks.device))[0].backward()
        before = [weight.grad for name, weight in model.named_parameters() if is_table(name)]
        before = [None if gradient is None else gradient.clone() for gradient in before]
        optimizers.clip_gradients()
        after = [weight.grad for name, weight in model.named_parameters() if is_table(name)]
        dense = [
            weight.grad.norm()
            for name, weight in model.named_parameters()
            if not is_table(name) and weight.grad is not None
        ]
    assert torch.stack(dense).norm().item() == pytest.approx(1e-3, rel=1e-3)
    if sparse == "adam":
        assert len(before) == 1
        assert torch.equal(before[0], after[0])
        assert before[0].norm() > 1e-3
