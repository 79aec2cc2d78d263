"""The batch of a loss that is not finite: what is kept of it gives the same loss again."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from tests.training.small_runs import on_one_rank
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from dropdrift.data.config import DataConfig
from dropdrift.data.interactions.loader import SequenceLoader
from dropdrift.data.loading.loader import Cursor, Loader
from dropdrift.data.schema import Schema
from dropdrift.training.build import build_model
from dropdrift.training.checkpoint import committed_steps
from dropdrift.training.config import TrainConfig
from dropdrift.training.distributed import process_group
from dropdrift.training.failed_batch import read_failed_batch, write_failed_batch
from dropdrift.training.pipeline import NonFiniteLossError
from dropdrift.training.trainer import Trainer, train

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def config(prepared_folder, tmp_path) -> TrainConfig:
    return on_one_rank(prepared_folder, tmp_path / "run", max_steps=12)


def assert_same(one: object, other: object) -> None:
    assert type(one) is type(other)
    for field in dataclasses.fields(one):  # type: ignore[arg-type]
        ours, theirs = getattr(one, field.name), getattr(other, field.name)
        if isinstance(ours, KeyedJaggedTensor):
            assert ours.keys() == theirs.keys()
            assert torch.equal(ours.values(), theirs.values())
            assert torch.equal(ours.lengths(), theirs.lengths())
        elif isinstance(ours, torch.Tensor):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)
            assert ours.dtype == theirs.dtype
        else:
            assert ours == theirs


@pytest.mark.parametrize("kind", ["impressions", "interactions"])
def test_a_batch_is_read_back_as_it_was(prepared_folder, interactions_folder, tmp_path, kind):
    folder = {"impressions": prepared_folder, "interactions": interactions_folder}[kind]
    schema, options = Schema.load(folder), DataConfig(path=folder, batch_size=8)
    loader = Loader if kind == "impressions" else SequenceLoader
    batch = next(loader(folder, "train", schema, options, training=True).batches(Cursor()))
    if kind == "impressions":
        batch.labels[0, 0] = torch.nan
    parameters = [
        ("a", torch.tensor([1.0, torch.inf])),
        ("b", torch.zeros(2)),
        ("c", torch.ones(1).int()),
    ]
    path = write_failed_batch(tmp_path, batch, 3, float("nan"), parameters)
    assert path.name == "step-000000001-rank-3.safetensors"
    assert_same(read_failed_batch(path), batch)
    found = json.loads(path.with_suffix(".json").read_text())
    assert found["not_finite_parameters"] == {"a": 1}
    in_batch = {"labels": int(batch.labels.isnan().sum())} if kind == "impressions" else {}
    assert found["not_finite_in_batch"] == in_batch
    assert (found["loss"], found["step"], found["rank"], found["rows"]) == ("nan", 1, 3, 8)


def test_training_keeps_it_and_says_where(config, monkeypatch):
    """Weights that are ruined in the fourth step: the loss of the fifth is no number."""
    after_step = Trainer._after_step
    spoilt = {}

    def spoils(trainer: Trainer, *arguments: object) -> None:
        after_step(trainer, *arguments)
        if trainer.state.step == 4:
            name, parameter = next(
                (n, p) for n, p in trainer.model.named_parameters() if "deep" in n and p.dim() == 2
            )
            with torch.no_grad():
                parameter[0, 0] = torch.nan
            spoilt[name] = 1

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_after_step", spoils)
        with pytest.raises(NonFiniteLossError) as told:
            train(config, show_progress=False)
    path = config.out / "not-finite" / "step-000000005-rank-0.safetensors"
    assert f"the loss of step 5 is nan on this rank (its batch is {path})" in str(told.value)
    assert json.loads(path.with_suffix(".json").read_text())["not_finite_parameters"] == spoilt
    assert committed_steps(config.out / "checkpoints") == []
    assert loss_of(path, config) == pytest.approx(0.69, abs=0.1)  # weights of the first step


def test_a_batch_that_cannot_be_kept_hides_no_loss(config, monkeypatch):
    """safetensors says of a full disk what Python would say by an OSError."""

    def ruined(trainer: Trainer, *_: object) -> None:
        with torch.no_grad():
            for parameter in trainer.model.parameters():
                parameter.fill_(torch.nan)
        # A folder where the file is to be.
        (config.out / "not-finite" / "step-000000002-rank-0.safetensors").mkdir(parents=True)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_after_step", ruined)
        with pytest.raises(
            NonFiniteLossError, match=r"step 2 is nan on this rank \(its batch could not be kept: "
        ):
            train(config, show_progress=False)


def loss_of(path: Path, config: TrainConfig) -> float:
    """The main loss of a batch that was kept, with new weights: as one would look for the cause."""
    with process_group(timeout=60) as ranks:
        model = build_model(Schema.load(config.data.path), config, ranks)
        return float(model(read_failed_batch(path))[1]["main"])
