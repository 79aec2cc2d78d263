"""Tables of half precision: half the bytes, the same training but for rounding."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
from torchrec.distributed import DistributedModelParallel

from dropdrift.data.config import DataConfig
from dropdrift.data.loading.loader import Cursor, Loader
from dropdrift.data.schema import Schema
from dropdrift.models.config import DCNv2Config, ModelConfig, TablePrecision
from dropdrift.sharding.initialise import fill_shard
from dropdrift.training.build import build_model, ranking_model
from dropdrift.training.checkpoint import checkpoint_path
from dropdrift.training.config import EvaluateConfig, OptimizerConfig, TrainConfig
from dropdrift.training.distributed import process_group
from dropdrift.training.evaluation import evaluate

pytestmark = pytest.mark.timeout(280)

PREFIX = "embedding.collection.embedding_bags."
STEPS = 8


def configuration(
    data: Path, precision: TablePrecision = "fp16", batch_size: int = 64, **optimizer: Any
) -> TrainConfig:
    """As ``train`` has it, in so far as the built model depends on it."""
    return TrainConfig(
        data=DataConfig(path=data, batch_size=batch_size, lanes=2),
        model=ModelConfig(table_precision=precision, dcnv2=DCNv2Config(deep_widths=(16,))),
        optimizer=OptimizerConfig(**optimizer),
    )


def train(launch, ranks: int, data: Path, out: Path, *options: str) -> Path:
    """Train on CPUs, from the command line; validated and saved at the end, at the latest."""
    done = launch(
        ranks, "-m", "dropdrift", "train", "--data.path", data, "--out", out,
        "--data.batch_size", "64", "--data.lanes", "2", "--model.dcnv2.deep_widths", "16",
        "--model.table_precision", "fp16", "--loop.max_steps", STEPS,
        "--loop.checkpoint_every", "4", "--loop.keep_checkpoints", "9", *options,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return out


def saved(out: Path, scratch: Path) -> dict[str, dict[str, torch.Tensor]]:
    """The tables of a checkpoint, and the state that their optimizer keeps of them."""
    dcp_to_torch_save(checkpoint_path(out / "checkpoints", STEPS), scratch)
    whole = torch.load(scratch, weights_only=False)
    weights, state = whole["model"], whole["optimizer"]["state"]
    return {
        name.removeprefix(PREFIX).removesuffix(".weight"): {"weight": weight, **state[name]}
        for name, weight in weights.items()
        if name.startswith(PREFIX)
    }


def tables(model: DistributedModelParallel) -> dict[str, torch.Tensor]:
    """The tables of a model on one rank."""
    found = {}
    for name, weight in model.state_dict().items():
        if name.startswith(PREFIX):
            (shard,) = weight.local_shards()
            found[name.split(".")[-2]] = shard.tensor
    return found


@pytest.fixture(scope="module")
def one(launch, prepared_folder, tmp_path_factory) -> Path:
    return train(launch, 1, prepared_folder, tmp_path_factory.mktemp("one") / "run")


@pytest.fixture(scope="module")
def two(launch, prepared_folder, tmp_path_factory) -> Path:
    return train(launch, 2, prepared_folder, tmp_path_factory.mktemp("two") / "run")


@pytest.mark.parametrize(
    ("precision", "dtype", "size"), [("fp32", torch.float32, 4), ("fp16", torch.float16, 2)]
)
def test_bytes_of_the_sharded_tables(prepared_folder, precision, dtype, size):
    schema, config = Schema.load(prepared_folder), configuration(prepared_folder, precision)
    loader = Loader(prepared_folder, "train", schema, config.data, training=True)
    batch = next(loader.batches(Cursor()))
    with process_group(timeout=60) as ranks:
        model = build_model(schema, config, ranks)
        embedded, _ = ranking_model(model).look_up(batch.features.to(ranks.device))
        weights = {name: weight.cpu() for name, weight in tables(model).items()}
    for table in schema.tables:
        weight = weights[table.name]
        assert weight.nbytes == table.rows * table.width * size
        single = torch.empty(table.rows, table.width)
        fill_shard(single, 0, 0, table.width, 0.01, f"1/{table.name}")
        assert weight.dtype == dtype
        assert torch.equal(weight, single.to(dtype))
    assert embedded.dtype == torch.float32
    assert embedded.abs().max() > 0.01


def test_every_table_moves_and_its_optimizer_counts_in_single_precision(
    one, two, prepared_folder, tmp_path
):
    for out in (one, two):
        tables = saved(out, tmp_path / "whole.pt")
        assert tables.keys() == {table.name for table in Schema.load(prepared_folder).tables}
        for name, parts in tables.items():
            weight = parts.pop("weight")
            assert weight.dtype == torch.float16
            before = torch.empty(weight.shape)
            fill_shard(before, 0, 0, weight.shape[1], 0.01, f"1/{name}")
            assert (weight.float() - before).abs().max() > 1e-3, name
            (momentum,) = parts.values()
            assert momentum.dtype == torch.float32
            assert momentum.max() > 0


def test_two_ranks_do_as_one_process(one, two, tmp_path):
    expected, actual = saved(one, tmp_path / "one.pt"), saved(two, tmp_path / "two.pt")
    for name, parts in expected.items():
        # Weights up to 0.25, whose spacing in fp16 is at most 2 ** -13: two roundings apart.
        assert parts["weight"].abs().max() < 0.25
        torch.testing.assert_close(
            actual[name]["weight"], parts["weight"], atol=2**-12, rtol=0, msg=name
        )


def test_a_checkpoint_of_two_ranks_is_what_one_process_reads(two, prepared_folder):
    validation = json.loads((two / "result.json").read_text())["validation"]
    options = EvaluateConfig(run_folder=two, part="validation", robustness=False)
    result = evaluate(options, configuration(prepared_folder), show_progress=False)
    assert result is not None
    assert result.tasks["click"].complete.auc == pytest.approx(validation["auc"], abs=1e-6)


def test_a_resumed_run_is_the_uninterrupted_one_to_the_bit(launch, one, prepared_folder, tmp_path):
    interrupted = tmp_path / "run"
    shutil.copytree(one, interrupted)
    shutil.rmtree(checkpoint_path(interrupted / "checkpoints", STEPS))
    (interrupted / "result.json").unlink()
    train(launch, 1, prepared_folder, interrupted, "--resume")
    expected = saved(one, tmp_path / "one.pt")
    actual = saved(interrupted, tmp_path / "two.pt")
    for name, parts in expected.items():
        for part, tensor in parts.items():
            assert torch.equal(actual[name][part], tensor), (name, part)


@pytest.mark.skipif(torch.cuda.is_available(), reason="FBGEMM rounds stochastically on CUDA")
def test_on_a_cpu_updates_below_half_of_the_spacing_are_lost(prepared_folder):
    schema, moved = Schema.load(prepared_folder), {}
    for precision in ("fp32", "fp16"):
        config = configuration(
            prepared_folder, precision, batch_size=2, sparse="sgd", sparse_learning_rate=2**-18
        )
        loader = Loader(prepared_folder, "train", schema, config.data, training=True)
        features = next(loader.batches(Cursor())).features
        with process_group(timeout=60) as ranks:
            model = build_model(schema, config, ranks)
            weights = tables(model)
            for weight in weights.values():
                weight.fill_(0.25)
            # Below 0.25 the spacing is 2 ** -13. An id's gradient is at most 6 (two rows, three
            # tags added up), its update less than 2 ** -15; 64 updates by 1 are two spacings.
            for _ in range(64):
                embedded, _ = ranking_model(model).look_up(features)
                embedded.sum().backward()
            moved[precision] = {name: (w != 0.25).any().item() for name, w in weights.items()}
    assert all(moved["fp32"].values())
    assert not any(moved["fp16"].values())


def test_replicated_tables_stay_in_single_precision():
    message = "table_precision is 'fp16', must be 'fp32' where optimizer.sparse is 'adam'"
    with pytest.raises(ValueError, match=message):
        TrainConfig(
            model=ModelConfig(table_precision="fp16"), optimizer=OptimizerConfig(sparse="adam")
        )
