"""Training matching models, end to end: resumed, on several ranks, and a user's mistakes."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from dropdrift.data.config import DataConfig, SequenceConfig
from dropdrift.launchers.main import main
from dropdrift.models.config import ModelConfig
from dropdrift.models.matching.config import ItemConfig, SASRecConfig
from dropdrift.models.t2diff.config import DiffusionConfig, SessionConfig, T2DiffConfig
from dropdrift.training.checkpoint import checkpoint_path, committed_steps, read_state
from dropdrift.training.config import LoopConfig, OptimizerConfig, TrainConfig
from dropdrift.training.run_folder import RunFolder, save_config
from dropdrift.training.trainer import train

pytestmark = pytest.mark.timeout(280)

TABLE = "embedding.fields.collection.embedding_bags.item_id.weight"


@pytest.fixture
def config(interactions_folder, tmp_path) -> TrainConfig:
    """T2Diff with all that is random in it; three epochs of 5 steps, saved every 4."""
    return TrainConfig(
        out=tmp_path / "run",
        data=DataConfig(
            path=interactions_folder,
            batch_size=8,
            sequence=SequenceConfig(window=8, stretch=12, negatives=10),
        ),
        model=ModelConfig(
            kind="t2diff",
            embedding_init_std=0.1,
            item=ItemConfig(width=8, dropout=0.1),
            t2diff=T2DiffConfig(
                next_item="diffusion-joint",
                diffusion=DiffusionConfig(
                    steps=5, window=4, levels=2, estimator="mlp", hidden_width=8
                ),
                session=SessionConfig(length=3, feed_forward=8, dropout=0.1),
            ),
            sasrec=SASRecConfig(blocks=1, max_positions=12),
        ),
        optimizer=OptimizerConfig(
            learning_rate=0.005, sparse="adam", warmup_steps=3, decay="cosine"
        ),
        loop=LoopConfig(
            epochs=3, checkpoint_every=4, log_every=1, keep_checkpoints=9, select_by="ndcg"
        ),
    )


def of_kind(config: TrainConfig, kind: str, sparse: str) -> TrainConfig:
    return dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, kind=kind),
        optimizer=dataclasses.replace(config.optimizer, sparse=sparse),
    )


def stopped_after(whole: TrainConfig, step: int, out: Path) -> TrainConfig:
    """What an interruption of the run leaves: checkpoints up to a step, no result, a longer log."""
    shutil.copytree(whole.out, out)
    (out / "result.json").unlink()
    for later in committed_steps(out / "checkpoints"):
        if later > step:
            shutil.rmtree(checkpoint_path(out / "checkpoints", later))
    assert committed_steps(out / "checkpoints")[-1] == step
    return dataclasses.replace(whole, out=out, resume=True)


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


def log_of(config: TrainConfig) -> list[dict[str, float]]:
    return [json.loads(line) for line in (config.out / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("kind", "sparse"),
    [("t2diff", "adam"), ("t2diff", "rowwise_adagrad"), ("sasrec", "adam")],
)
def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(
    config, tmp_path, kind, sparse
):
    whole = of_kind(config, kind, sparse)
    outcome = train(whole, show_progress=False)
    assert outcome is not None
    assert committed_steps(whole.out / "checkpoints") == [4, 5, 8, 10, 12, 15]
    expected = saved_tensors(whole.out, 15, tmp_path / "w.pt")
    moments = {f"/optimizer/state/{TABLE}/{name}" for name in ("exp_avg", "exp_avg_sq")}
    assert moments <= expected.keys() if sparse == "adam" else not moments & expected.keys()
    assert sum(TABLE.rsplit(".", 1)[0] in path for path in expected) > 1
    for step in (4, 5, 12):  # within the first epoch, between two, and within the last
        resumed = stopped_after(whole, step, tmp_path / f"from-{step}")
        again = train(resumed, show_progress=False)
        assert again is not None
        for name in ("steps", "best_step", "validation"):
            assert again[name] == outcome[name]
        actual = saved_tensors(resumed.out, 15, tmp_path / "w.pt")
        assert actual.keys() == expected.keys()
        for path, tensor in expected.items():
            assert torch.equal(actual[path], tensor), path
        assert log_of(resumed) == log_of(whole)
        states = [read_state(out / "checkpoints", 15) for out in (whole.out, resumed.out)]
        assert states[0] == states[1]
    other = dataclasses.replace(whole, out=tmp_path / "other")
    other = dataclasses.replace(other, loop=dataclasses.replace(whole.loop, seed=2))
    train(other, show_progress=False)
    assert log_of(other) != log_of(whole)


def test_a_run_of_two_ranks_goes_on_with_one_and_is_that_of_one(config, tmp_path, launch):
    """Lanes have no part in it: one process gives the same batches."""
    two = dataclasses.replace(config, loop=dataclasses.replace(config.loop, epochs=2))
    recipe = tmp_path / "recipe.yaml"
    save_config(two, recipe)
    done = launch(2, "-m", "dropdrift", "train", "--recipe", recipe)
    assert done.returncode == 0, done.stderr[-2000:]
    alone = dataclasses.replace(two, out=tmp_path / "alone")
    train(alone, show_progress=False)
    resumed = stopped_after(two, 4, tmp_path / "resumed")
    train(resumed, show_progress=False)
    expected = saved_tensors(alone.out, 10, tmp_path / "w.pt")
    for other in (two, resumed):
        actual = saved_tensors(other.out, 10, tmp_path / "w.pt")
        assert expected.keys() == actual.keys()
        for path, tensor in expected.items():
            torch.testing.assert_close(actual[path], tensor, atol=2e-4, rtol=0, msg=path)
        for ours, theirs in zip(log_of(other), log_of(alone), strict=True):
            assert ours == pytest.approx(theirs, abs=1e-5)


def test_a_complete_run_has_all_that_others_need(config):
    outcome = train(config, show_progress=False)
    assert outcome is not None
    assert RunFolder(config.out).is_complete()
    entries = log_of(config)
    assert {"softmax", "kl", "epoch"} <= entries[0].keys()
    validations = [entry for entry in entries if entry["kind"] == "validation"]
    assert [entry["step"] for entry in validations] == [5, 10, 15]
    best = max(validations, key=lambda entry: entry["ndcg@10"])
    assert outcome["best_step"] == best["step"]
    assert outcome["validation"] == {n: v for n, v in best.items() if n not in ("kind", "step")}
    provenance = json.loads((config.out / "provenance.json").read_text())
    assert provenance["config"]["model"]["kind"] == "t2diff"


class TestMistakes:
    """At the command line: one line, exit code 2, and no run is begun."""

    @pytest.fixture
    def mistake(self, tmp_path, capfd, monkeypatch):
        """``dropdrift train ARGUMENTS`` into a new folder; what it says."""
        monkeypatch.delenv("DROPDRIFT_TRACEBACK", raising=False)
        monkeypatch.delenv("WORLD_SIZE", raising=False)

        def run(*arguments: object) -> str:
            out = tmp_path / "refused"
            with pytest.raises(SystemExit) as left:
                main(["train", "--out", str(out), *map(str, arguments)])
            told = capfd.readouterr()
            assert left.value.code == 2, told.err
            assert told.out == ""
            assert told.err.startswith("dropdrift: ")
            assert told.err.count("\n") == 1, told.err
            assert not out.exists()
            return told.err

        return run

    @pytest.fixture
    def recipe(self, config, tmp_path) -> Path:
        path = tmp_path / "recipe.yaml"
        save_config(config, path)
        return path

    def test_ranking_from_interactions(self, mistake, interactions_folder):
        told = mistake("--recipe", "dcnv2", "--data.path", interactions_folder)
        assert f"{interactions_folder} holds interactions, but model.kind 'ranking'" in told
        assert "--task ranking" in told

    def test_matching_from_impressions(self, mistake, prepared_folder):
        told = mistake("--recipe", "t2diff-paper", "--data.path", prepared_folder)
        assert f"{prepared_folder} holds impressions, but model.kind 't2diff'" in told
        assert "--task matching" in told

    def test_selection_of_the_other_kind(self, mistake, recipe, prepared_folder):
        told = mistake("--recipe", recipe, "--loop.select-by", "auc")
        assert "loop.select_by is 'auc', must be one of recall, mrr, ndcg" in told
        told = mistake("--data.path", prepared_folder, "--loop.select-by", "ndcg")
        assert "loop.select_by is 'ndcg', must be one of auc, uauc, log_loss" in told

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (("--data.batch-size", 500), "40 training rows, fewer than one global batch"),
            (("--data.sequence.min-interactions", 90), "users.parquet"),
            (("--model.t2diff.diffusion.window", 9), "must be at most data.sequence.window, 8"),
            (("--model.t2diff.session.heads", 3), "heads is 3, which does not divide"),
            (("--model.softmax.label-smoothing", 0.1), "needs the full softmax"),
            (("--model.item.fields", "genre"), "model.item.fields names 'genre'"),
            (("--model.kind", "sasrec", "--model.sasrec.max-positions", 9), "max_positions, 9"),
            (("--sharding.host-memory-gib", 1e-7), "no sharding plan fits"),
        ],
    )
    def test_options_that_do_not_fit(self, mistake, recipe, options, message):
        assert message in mistake("--recipe", recipe, *options)

    def test_ranks_that_do_not_divide_the_batch(self, recipe, tmp_path, launch):
        # "--": or torchrun takes options for its own.
        command = ("-m", "dropdrift", "--", "train", "--recipe", recipe, "--data.batch-size", 9)
        ended = launch(2, *command)
        assert ended.returncode != 0
        assert not (tmp_path / "run").exists()
        assert "[rank" not in ended.stderr  # the prefix of a traceback
        told = [line for line in ended.stderr.splitlines() if line.startswith("dropdrift rank")]
        assert told
        assert all("data.batch_size is 9, which 2 ranks do not divide" in line for line in told)
        assert "exitcode  : 2" in ended.stderr
