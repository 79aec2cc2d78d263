from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from dropdrift.data.config import DataConfig
from dropdrift.data.schema import Schema
from dropdrift.models.config import DCNv2Config, ModelConfig
from dropdrift.models.methods.config import AsymDiffRecConfig
from dropdrift.training.checkpoint import checkpoint_path, committed_steps, read_state
from dropdrift.training.config import (
    EvaluateConfig,
    LoopConfig,
    OptimizerConfig,
    TrainConfig,
)
from dropdrift.training.evaluation import evaluate
from dropdrift.training.pipeline import NonFiniteLossError
from dropdrift.training.result import EvaluationResult
from dropdrift.training.run_folder import RunFolder, save_config
from dropdrift.training.score_file import ScoredRows, read_scores, scores_path
from dropdrift.training.trainer import train

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def config(prepared_folder, tmp_path) -> TrainConfig:
    """Two epochs of 31 steps, saved every 20."""
    return TrainConfig(
        out=tmp_path / "run",
        data=DataConfig(path=prepared_folder, batch_size=128),
        model=ModelConfig(dcnv2=DCNv2Config(deep_widths=(16,), z_width=8)),
        optimizer=OptimizerConfig(warmup_steps=5, decay="cosine"),
        loop=LoopConfig(epochs=2, checkpoint_every=20, log_every=10, keep_checkpoints=9),
    )


def saved_tensors(out: Path, step: int, scratch: Path) -> dict[str, torch.Tensor]:
    """Weights and optimizer state of a checkpoint, by path."""
    dcp_to_torch_save(checkpoint_path(out / "checkpoints", step), scratch)
    found = {}

    def collect(value, path: str) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                collect(item, f"{path}/{key}")
        elif torch.is_tensor(value):
            found[path] = value

    collect(torch.load(scratch, weights_only=False), "")
    return found


def test_training_learns_and_leaves_a_complete_run(config):
    outcome = train(config, show_progress=False)
    assert outcome["steps"] == 62
    assert outcome["validation"]["auc"] > 0.55  # the labels can be learned from the ids
    run = RunFolder(config.out)
    assert run.is_complete()
    assert committed_steps(run.checkpoints) == [20, 31, 40, 60, 62]
    assert (config.out / "schema.yaml").is_file()
    entries = [json.loads(line) for line in run.log_file.read_text().splitlines()]
    losses = [entry for entry in entries if entry["kind"] == "train"]
    assert [entry["step"] for entry in losses] == [10, 20, 30, 40, 50, 60, 62]
    assert losses[-1]["main"] < losses[0]["main"]
    assert {"reconstruction", "auxiliary", "z_variance"} <= losses[0].keys()
    assert list(config.out.glob("tensorboard/events*"))
    provenance = json.loads((config.out / "provenance.json").read_text())
    assert provenance["seed"] == 1
    assert provenance["config"]["loop"]["epochs"] == 2


@pytest.mark.parametrize("interrupted_at", [20, 31, 40])
def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(
    config, tmp_path, interrupted_at
):
    train(config, show_progress=False)
    # What an interruption leaves: checkpoints up to a step, no result, and a longer log.
    resumed = dataclasses.replace(config, out=tmp_path / "resumed", resume=True)
    shutil.copytree(config.out, resumed.out)
    (resumed.out / "result.json").unlink()
    for step in committed_steps(resumed.out / "checkpoints"):
        if step > interrupted_at:
            shutil.rmtree(checkpoint_path(resumed.out / "checkpoints", step))
    outcome = train(resumed, show_progress=False)
    assert outcome["steps"] == 62
    expected = saved_tensors(config.out, 62, tmp_path / "whole.pt")
    actual = saved_tensors(resumed.out, 62, tmp_path / "whole.pt")
    assert expected.keys() == actual.keys()
    assert len(expected) > 20
    for path, tensor in expected.items():
        assert torch.equal(actual[path], tensor), path
    logs = [(out / "log.jsonl").read_text().splitlines() for out in (config.out, resumed.out)]
    # A mean over the steps since the last entry begins anew where the run does.
    broken = f'"train", "step": {interrupted_at // 10 * 10 + 10},' if interrupted_at % 10 else "-"
    assert len(logs[0]) == len(logs[1])
    for expected_entry, entry in zip(*logs, strict=True):
        assert entry == expected_entry or broken in entry


def test_the_last_checkpoint_knows_its_validation(config):
    """Also where a checkpoint is due at the last step, in the middle of an epoch."""
    loop = dataclasses.replace(config.loop, max_steps=40)
    outcome = train(dataclasses.replace(config, loop=loop), show_progress=False)
    state = read_state(config.out / "checkpoints", 40)
    assert outcome is not None
    assert (state.best_step, state.best_metrics) == (outcome["best_step"], outcome["validation"])


def check_two_ranks_evaluate_as_one(config: TrainConfig, launch) -> None:
    """Complete rows and rows with features dropped: each rank scores a part of them."""
    options = EvaluateConfig(run_folder=config.out, batch_size=200, scores=True)
    flags = ["--batch-size", "200", "--scores"]
    done = launch(2, "-m", "dropdrift", "evaluate", "--run-folder", config.out, *flags)
    assert done.returncode == 0, done.stderr[-2000:]
    by_two = EvaluationResult.load(options.result_file)
    rows_of_two = read_scores(scores_path(options.result_file))
    by_one = evaluate(options, config, show_progress=False)
    assert by_one is not None
    assert by_two.missing_rate == by_one.missing_rate
    two, one = by_two.tasks["click"], by_one.tasks["click"]
    points = zip(two.robustness, one.robustness, strict=True)
    pairs = [(two.complete, one.complete), *((p.metrics, q.metrics) for p, q in points)]
    assert len(pairs) == 14
    for ours, theirs in pairs:
        assert dataclasses.asdict(ours) == pytest.approx(dataclasses.asdict(theirs), abs=1e-5)
    check_same_scores(rows_of_two, read_scores(scores_path(options.result_file)))


def check_same_scores(ours: ScoredRows, theirs: ScoredRows) -> None:
    """The same rows in the same order, with logits that differ by rounding alone."""
    assert len(set(theirs.users[:100])) > 20
    np.testing.assert_array_equal(ours.users, theirs.users)
    for label, labels in theirs.labels.items():
        np.testing.assert_array_equal(ours.labels[label], labels)
    assert ours.logits.keys() == theirs.logits.keys()
    for key, logits in theirs.logits.items():
        np.testing.assert_allclose(ours.logits[key], logits, atol=1e-5, rtol=0)


@pytest.mark.timeout(280)
def test_a_run_of_two_ranks_goes_on_with_one(config, tmp_path, launch):
    """With the batches of two ranks: a run keeps the lanes that it began with."""
    loop = dataclasses.replace(config.loop, max_steps=24)
    two = dataclasses.replace(config, loop=loop)
    recipe = tmp_path / "recipe.yaml"
    save_config(two, recipe)
    done = launch(2, "-m", "dropdrift", "train", "--recipe", recipe)
    assert done.returncode == 0, done.stderr[-2000:]
    checkpoints = two.out / "checkpoints"
    assert read_state(checkpoints, 24).lanes == 2
    shutil.copytree(two.out, tmp_path / "one")
    one = dataclasses.replace(two, out=tmp_path / "one", resume=True)
    (one.out / "result.json").unlink()
    shutil.rmtree(checkpoint_path(one.out / "checkpoints", 24))
    train(one, show_progress=False)
    expected = saved_tensors(two.out, 24, tmp_path / "w.pt")
    actual = saved_tensors(one.out, 24, tmp_path / "w.pt")
    assert expected.keys() == actual.keys()
    for path, tensor in expected.items():
        torch.testing.assert_close(actual[path], tensor, atol=2e-4, rtol=0, msg=path)
    check_two_ranks_evaluate_as_one(two, launch)
    afresh = dataclasses.replace(two, out=tmp_path / "afresh")
    train(afresh, show_progress=False)
    other = saved_tensors(afresh.out, 24, tmp_path / "w.pt")
    assert max(float((other[path] - expected[path]).abs().max()) for path in expected) > 2e-3


def test_same_seed_same_run_and_another_seed_another(config, tmp_path):
    def losses(name, seed):
        loop = dataclasses.replace(config.loop, seed=seed, epochs=1)
        train(dataclasses.replace(config, out=tmp_path / name, loop=loop), show_progress=False)
        return (tmp_path / name / "log.jsonl").read_text()

    first = losses("a", 1)
    torch.rand(7)
    assert losses("b", 1) == first
    assert losses("c", 2) != first


def test_patience_stops_early_and_keeps_the_best(config):
    loop = dataclasses.replace(
        config.loop, epochs=40, patience=2, keep_checkpoints=1, checkpoint_every=0
    )
    steep = dataclasses.replace(
        config.optimizer, learning_rate=0.01, sparse_learning_rate=0.5, decay="constant"
    )
    outcome = train(dataclasses.replace(config, loop=loop, optimizer=steep), show_progress=False)
    assert outcome["steps"] < 40 * 31
    assert outcome["steps"] == outcome["best_step"] + 2 * 31
    steps = committed_steps(config.out / "checkpoints")
    assert steps == [outcome["best_step"], outcome["steps"]]
    state = read_state(config.out / "checkpoints", outcome["steps"])
    assert state.best_metrics == outcome["validation"]


def test_validation_between_epochs_does_not_change_the_weights(config, tmp_path):
    train(config, show_progress=False)
    loop = dataclasses.replace(config.loop, validate_every=7)
    often = dataclasses.replace(config, out=tmp_path / "often", loop=loop)
    train(often, show_progress=False)
    expected = saved_tensors(config.out, 62, tmp_path / "w.pt")
    actual = saved_tensors(often.out, 62, tmp_path / "w.pt")
    for path, tensor in expected.items():
        assert torch.equal(actual[path], tensor), path


def test_bf16_trains(config):
    loop = dataclasses.replace(config.loop, precision="bf16", epochs=1)
    outcome = train(dataclasses.replace(config, loop=loop), show_progress=False)
    assert outcome["validation"]["auc"] > 0.55


def test_loss_that_is_not_finite_stops_before_any_table_is_changed(config):
    optimizer = dataclasses.replace(
        config.optimizer, learning_rate=1e30, sparse_learning_rate=1e-9, warmup_steps=0
    )
    with pytest.raises(NonFiniteLossError, match="learning_rate"):
        train(dataclasses.replace(config, optimizer=optimizer), show_progress=False)
    assert not RunFolder(config.out).is_complete()
    assert committed_steps(config.out / "checkpoints") == []


def test_evaluation_of_a_run(config, prepared_folder):
    outcome = train(config, show_progress=False)
    options = EvaluateConfig(run_folder=config.out, part="validation", batch_size=400)
    result = evaluate(options, config, show_progress=False)
    assert result is not None
    task = result.tasks["click"]
    # The best checkpoint, other batches: the same rows and the same numbers.
    assert dataclasses.asdict(task.complete) == pytest.approx(outcome["validation"], rel=1e-5)
    shares = [p.metrics.auc for p in task.robustness if p.drop == "share"]
    assert len(shares) == 9
    assert shares[0] > shares[-1]
    assert {p.value for p in task.robustness if p.drop == "group"} == {"user", "item", "context"}
    schema = Schema.load(prepared_folder)
    assert set(result.missing_rate) == set(schema.field_names)
    again = evaluate(dataclasses.replace(options, batch_size=256), config, show_progress=False)
    assert again is not None
    for point, other in zip(task.robustness, again.tasks["click"].robustness, strict=True):
        assert other.metrics.auc == pytest.approx(point.metrics.auc, abs=1e-5)


class TestMistakes:
    def test_run_folder_that_is_not_empty(self, config):
        config.out.mkdir()
        (config.out / "notes.txt").write_text("mine")
        with pytest.raises(ValueError, match="not empty"):
            train(config, show_progress=False)
        assert [p.name for p in config.out.iterdir()] == ["notes.txt"]

    def test_unknown_task(self, config):
        model = dataclasses.replace(config.model, tasks=("clicks",))
        with pytest.raises(ValueError, match=r"unknown label 'clicks'.*click, like"):
            train(dataclasses.replace(config, model=model), show_progress=False)
        assert not config.out.exists()

    def test_resume_without_a_checkpoint(self, config):
        with pytest.raises(ValueError, match="no checkpoint to resume"):
            train(dataclasses.replace(config, resume=True), show_progress=False)

    def test_resume_with_another_option(self, config):
        loop = dataclasses.replace(config.loop, max_steps=3)
        short = dataclasses.replace(config, loop=loop)
        train(short, show_progress=False)
        model = dataclasses.replace(config.model, embedding_init_std=0.5)
        changed = dataclasses.replace(short, resume=True, model=model)
        with pytest.raises(ValueError, match=r"model.embedding_init_std was 0.01, and is now 0.5"):
            train(changed, show_progress=False)

    def test_resume_with_other_options_of_a_method(self, config):
        loop = dataclasses.replace(config.loop, max_steps=3)
        short = dataclasses.replace(config, loop=loop)
        outcome = train(short, show_progress=False)

        def changed(method, **options):
            section = dataclasses.replace(getattr(config.model, method), **options)
            model = dataclasses.replace(config.model, **{method: section})
            return dataclasses.replace(short, resume=True, model=model)

        assert config.model.method == "asymdiffrec"
        with pytest.raises(ValueError, match=r"model.asymdiffrec.max_drop_rate was .* is now 0.5"):
            train(changed("asymdiffrec", max_drop_rate=0.5), show_progress=False)
        # Those of another method decide nothing.
        assert train(changed("cdae", weight=0.7), show_progress=False) == outcome

    def test_damaged_checkpoint(self, config):
        loop = dataclasses.replace(config.loop, max_steps=3)
        short = dataclasses.replace(config, loop=loop)
        train(short, show_progress=False)
        file = next(checkpoint_path(config.out / "checkpoints", 3).glob("*.distcp"))
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
        with pytest.raises(ValueError, match=f"{file.name} is damaged"):
            evaluate(EvaluateConfig(run_folder=config.out), config, show_progress=False)

    def test_uncommitted_checkpoint_is_none(self, config):
        loop = dataclasses.replace(config.loop, max_steps=3)
        train(dataclasses.replace(config, loop=loop), show_progress=False)
        (checkpoint_path(config.out / "checkpoints", 3) / "COMMITTED").unlink()
        with pytest.raises(ValueError, match="no whole checkpoint"):
            evaluate(EvaluateConfig(run_folder=config.out), config, show_progress=False)

    def test_data_of_another_schema(self, config, prepared_folder, tmp_path):
        loop = dataclasses.replace(config.loop, max_steps=3)
        train(dataclasses.replace(config, loop=loop), show_progress=False)
        other = tmp_path / "other"
        shutil.copytree(prepared_folder, other)
        schema = Schema.load(other)
        field = dataclasses.replace(schema.fields[1], missing_rate=0.9)
        fields = (schema.fields[0], field, *schema.fields[2:])
        dataclasses.replace(schema, fields=fields).save(other)
        options = EvaluateConfig(run_folder=config.out, data=other)
        with pytest.raises(ValueError, match=f"differs in field {field.name!r}"):
            evaluate(options, config, show_progress=False)

    def test_columns_with_rowwise_optimizer(self, config):
        sharding = dataclasses.replace(config.sharding, types=("column_wise",))
        with pytest.raises(ValueError, match="column_wise"):
            train(dataclasses.replace(config, sharding=sharding), show_progress=False)

    def test_compute_kernel_that_the_device_has_not(self, config):
        if torch.cuda.is_available():
            pytest.skip("tables in host memory exist on CUDA")
        sharding = dataclasses.replace(config.sharding, kernels=("fused_uvm",))
        with pytest.raises(ValueError, match=r"fused_uvm .*: none exists on cpu"):
            train(dataclasses.replace(config, sharding=sharding), show_progress=False)

    def test_tables_that_do_not_fit(self, config):
        sharding = dataclasses.replace(config.sharding, host_memory_gib=1e-6)
        with pytest.raises(ValueError, match="no sharding plan fits"):
            train(dataclasses.replace(config, sharding=sharding), show_progress=False)


def test_every_ablation_trains(config, tmp_path):
    loop = dataclasses.replace(config.loop, max_steps=3)
    variants = {
        "without-reconstruction": AsymDiffRecConfig(reconstruction_weight=0.0),
        "without-auxiliary": AsymDiffRecConfig(auxiliary_weight=0.0),
        "plain": AsymDiffRecConfig(serving="plain"),
        "paper": AsymDiffRecConfig(reconstruction_norm="sum", serving="denoised"),
        "stop-gradient": AsymDiffRecConfig(stop_gradient=True),
    }
    for name, asymdiffrec in variants.items():
        model = dataclasses.replace(config.model, asymdiffrec=asymdiffrec)
        outcome = train(
            dataclasses.replace(config, out=tmp_path / name, model=model, loop=loop),
            show_progress=False,
        )
        assert outcome["steps"] == 3, name
