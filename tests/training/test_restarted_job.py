"""torchrun, or the scheduler, starts a failed job again with the same command: the run goes on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.training.small_runs import on_one_rank

from dropdrift.training.config import TrainConfig
from dropdrift.training.trainer import Trainer, train

JOB = "TORCHELASTIC_RUN_ID"

pytestmark = pytest.mark.timeout(120)


class KilledError(Exception):
    """Stands for the end of a process."""


@pytest.fixture
def config(prepared_folder, tmp_path) -> TrainConfig:
    return on_one_rank(
        prepared_folder, tmp_path / "run", max_steps=12, checkpoint_every=4, log_every=1
    )


def train_until(config: TrainConfig, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train up to ``step``, and end there as a killed process does."""
    after_step = Trainer._after_step

    def killed_after(trainer: Trainer, *arguments: object) -> None:
        after_step(trainer, *arguments)
        if trainer.state.step == step:
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_after_step", killed_after)
        with pytest.raises(KilledError):
            train(config, show_progress=False)


def losses(out: Path) -> list[tuple[int, float]]:
    entries = map(json.loads, (out / "log.jsonl").read_text().splitlines())
    return [(entry["step"], entry["main"]) for entry in entries if entry["kind"] == "train"]


@pytest.mark.parametrize("step", [2, 6])  # before and after the first checkpoint
def test_the_same_job_goes_on_and_ends_as_an_uninterrupted_run(config, tmp_path, monkeypatch, step):
    whole = replace(config, out=tmp_path / "whole")
    train(whole, show_progress=False)
    monkeypatch.setenv(JOB, "job-1")
    train_until(config, step, monkeypatch)
    assert len(losses(config.out)) == step
    outcome = train(config, show_progress=False)
    assert outcome["steps"] == 12
    assert losses(config.out) == losses(whole.out)
    again = train(config, show_progress=False)  # a job that had ended
    assert again == outcome


@pytest.mark.parametrize("later", ["job-2", "none", None])
def test_another_job_is_refused(config, monkeypatch, later):
    monkeypatch.setenv(JOB, "job-1")
    train_until(config, 2, monkeypatch)
    if later is None:
        monkeypatch.delenv(JOB)
    else:
        monkeypatch.setenv(JOB, later)
    with pytest.raises(ValueError, match="holds a run: choose another --out, go on with --resume"):
        train(config, show_progress=False)
