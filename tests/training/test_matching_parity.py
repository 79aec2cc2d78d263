"""Matching models: sharded as not sharded, and several ranks as one process."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from tests.training.matching_parity_program import STEPS, configuration, explicit_plan
from torch.distributed._shard.sharded_tensor.api import ShardedTensor
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
from torchrec.distributed import DistributedModelParallel

from dropdrift.data.interactions.loader import SequenceLoader
from dropdrift.data.loading.loader import Cursor
from dropdrift.data.schema import Schema
from dropdrift.models.matching.model import MatchingModel
from dropdrift.sharding.initialise import initialise_tables
from dropdrift.sharding.shard import is_table
from dropdrift.training.build import build_model
from dropdrift.training.config import TrainConfig
from dropdrift.training.distributed import process_group
from dropdrift.training.optimizers import Optimizers
from dropdrift.training.pipeline import GuardedPipeline

PROGRAM = Path(__file__).with_name("matching_parity_program.py")
CASES = [
    "unet-full-adam",
    "unet-sampled-rowwise_adagrad-spread",
    "joint-full-rowwise_adagrad",
    "joint-sampled-adam",
    "sasrec-full-adam",
    "sasrec-sampled-rowwise_adagrad",
    "sasrec-full-adagrad-columns",
]

# Their gradients are zero, in whole or for the keys' part, since softmax does not see what is added
# to every score: Adam makes whole steps of what rounding leaves of them.
BLIND = (
    "dense.items.layers.2.bias",
    "dense.user.blocks.0.qkv.bias",
    "dense.user.session.layer.project.bias",
)

pytestmark = pytest.mark.timeout(280)


@pytest.fixture(scope="module")
def one(launch, interactions_folder, tmp_path_factory) -> Path:
    return launched(launch, 1, interactions_folder, tmp_path_factory)


@pytest.fixture(scope="module")
def two(launch, interactions_folder, tmp_path_factory) -> Path:
    return launched(launch, 2, interactions_folder, tmp_path_factory)


def launched(launch, world_size, data, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp(f"parity-{world_size}")
    done = launch(world_size, PROGRAM, data, out, *CASES)
    assert done.returncode == 0, done.stderr[-3000:]
    return out


def saved(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Weights, and Adam's running means, of a checkpoint; whole, whatever they were sharded by."""
    target = folder / "whole.pt"
    dcp_to_torch_save(next(folder.glob("step-*")), target)
    whole = torch.load(target, weights_only=False)
    moments = {
        f"{name} {moment}": value[moment]
        for name, value in whole["optimizer"]["state"].items()
        for moment in ("exp_avg", "exp_avg_sq")
        if moment in value
    }
    return {n: tensor for n, tensor in whole["model"].items() if torch.is_tensor(tensor)}, moments


@pytest.mark.parametrize("case", CASES)
def test_two_ranks_do_as_one_process(one, two, case):
    losses, others = (json.loads((out / case / "losses.json").read_text()) for out in (one, two))
    assert len(losses) == STEPS
    for ours, theirs in zip(others, losses, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-5)
    (expected, means), (actual, other_means) = saved(one / case), saved(two / case)
    assert expected.keys() == actual.keys()
    assert means.keys() == other_means.keys()
    for name, tensor in means.items():
        torch.testing.assert_close(other_means[name], tensor, atol=1e-6, rtol=0, msg=name)
    for name, tensor in expected.items():
        same_weights(actual[name], tensor, means.get(f"{name} exp_avg_sq"), name)


def same_weights(
    actual: torch.Tensor, expected: torch.Tensor, squares: torch.Tensor | None, name: str
) -> None:
    """Equal; of ``BLIND``, where Adam's mean ``squares`` says that there is a gradient."""
    if name in BLIND:
        assert squares is not None
        expected = torch.where(squares.sqrt() > 1e-6, expected, actual)
    torch.testing.assert_close(actual, expected, atol=2e-5, rtol=0, msg=name)


class RowwiseAdagrad:
    """One running sum of squares a row: the definition, for tables that are not sharded."""

    def __init__(self, tables: list[torch.nn.Parameter], lr: float) -> None:
        self.tables, self.lr = tables, lr
        self.sums = [table.new_zeros(len(table), 1) for table in tables]

    @torch.no_grad()
    def step(self) -> None:
        for table, sums in zip(self.tables, self.sums, strict=True):
            assert table.grad is not None
            sums += table.grad.square().mean(1, keepdim=True)
            table -= self.lr * table.grad / (sums.sqrt() + 1e-8)


OPTIMIZERS = {
    "rowwise_adagrad": RowwiseAdagrad,
    "adagrad": partial(torch.optim.Adagrad, eps=1e-8),
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
}


def plain_model(schema: Schema, config: TrainConfig) -> MatchingModel:
    """The model on one device, with the weights that a sharded one begins with."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.loop.seed)
        model = MatchingModel(
            schema, config.model, config.data.sequence, config.loop.seed, torch.device("meta")
        )
    model.embedding.to_empty(device="cpu")
    initialise_tables(model, config.model.embedding_init_std, config.loop.seed)
    return model


def plain_tensors(sharded: DistributedModelParallel) -> dict[str, torch.Tensor]:
    """Weights of a sharded model of one rank."""
    found = {}
    for name, tensor in sharded.state_dict().items():
        shards = tensor.local_shards() if isinstance(tensor, ShardedTensor) else None
        if shards:
            tensor = torch.cat([shard.tensor for shard in shards], dim=1)
        found[name] = tensor.detach().clone()
    return found


@pytest.mark.parametrize(
    "case",
    [
        "unet-full-adam",
        "joint-sampled-adam",
        "unet-sampled-rowwise_adagrad",
        "joint-full-adagrad-columns",
        "sasrec-full-sgd",
        "sasrec-sampled-rowwise_adagrad-spread",
    ],
)
def test_sharded_does_as_the_plain_module_with_optimizers_of_its_own(interactions_folder, case):
    data = interactions_folder
    schema, config = Schema.load(data), configuration(data, case)
    with process_group(timeout=60) as ranks:
        plain = plain_model(schema, config).to(ranks.device)
        before = {name: weight.clone() for name, weight in plain.state_dict().items()}
        tables = [weight for name, weight in plain.named_parameters() if is_table(name)]
        dense = [weight for name, weight in plain.named_parameters() if not is_table(name)]
        own = (
            OPTIMIZERS[config.optimizer.sparse](tables, lr=config.optimizer.sparse_learning_rate),
            torch.optim.Adam(dense, lr=config.optimizer.learning_rate),
        )
        plan_name = "-".join(case.split("-")[3:])
        plan = explicit_plan(plan_name, schema, config, ranks) if plan_name else None
        sharded = build_model(schema, config, ranks, plan)
        optimizers = Optimizers(sharded, config.optimizer, STEPS)
        pipeline = GuardedPipeline(sharded, optimizers, ranks.device, "fp32")
        loader = SequenceLoader(data, "train", schema, config.data, training=True)
        batches, same_batches = loader.batches(Cursor()), loader.batches(Cursor())
        for step in range(STEPS):
            optimizers.set_learning_rates(step)
            parts = pipeline.progress(batches)
            plain.zero_grad()
            loss, expected_parts = plain(next(same_batches).to(ranks.device))
            loss.backward()
            for optimizer in own:
                optimizer.step()
            torch.testing.assert_close(parts, expected_parts, atol=1e-6, rtol=1e-6)
            if step == 0:
                for name, weight in plain_tensors(sharded).items():
                    assert not is_table(name) or (weight - before[name]).abs().max() > 1e-4, name
        batches.close()
        actual = plain_tensors(sharded)
    squares = {
        name: own[1].state[weight]["exp_avg_sq"]
        for name, weight in plain.named_parameters()
        if not is_table(name)
    }
    assert actual.keys() == plain.state_dict().keys()
    for name, tensor in plain.state_dict().items():
        same_weights(actual[name], tensor, squares.get(name), name)


def test_gradients_of_replicated_tables_are_those_of_plain_ones(interactions_folder):
    """Which ``silence_expected_warnings`` takes for granted."""
    data = interactions_folder
    schema, config = Schema.load(data), configuration(data, "joint-sampled-adam")
    loader = SequenceLoader(data, "train", schema, config.data, training=True)
    with process_group(timeout=60) as ranks:
        plain = plain_model(schema, config).to(ranks.device)
        batch = next(loader.batches(Cursor())).to(ranks.device)
        sharded = build_model(schema, config, ranks)
        for model in (sharded, plain):
            model(batch)[0].backward()
        gradients = {name: weight.grad for name, weight in sharded.named_parameters()}
    for name, weight in plain.named_parameters():
        if weight.grad is None:
            assert gradients[name] is None, name
            continue
        assert not is_table(name) or weight.grad.abs().max() > 1e-3
        torch.testing.assert_close(gradients[name], weight.grad, atol=1e-7, rtol=1e-5, msg=name)
