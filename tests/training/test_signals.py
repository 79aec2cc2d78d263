"""SIGTERM ends a run with a checkpoint, from which it goes on as if nothing had been."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from tests.training.small_runs import on_one_rank

from dropdrift.training.checkpoint import checkpoint_path, committed_steps
from dropdrift.training.config import TrainConfig
from dropdrift.training.signals import EndedBySignal, EndRequest, sigterm_noted
from dropdrift.training.trainer import Trainer, train

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def config(prepared_folder, tmp_path) -> TrainConfig:
    # Steps between entries of the log that the steps of the test do not divide.
    return on_one_rank(
        prepared_folder, tmp_path / "run", max_steps=12, checkpoint_every=5, log_every=4
    )


def train_with_sigterm(config: TrainConfig, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train, and be sent SIGTERM after ``step``."""
    after_step = Trainer._after_step

    def sent_after(trainer: Trainer, *arguments: object) -> None:
        after_step(trainer, *arguments)
        if trainer.state.step == step:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_after_step", sent_after)
        train(config, show_progress=False)


def entries(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def files(folder: Path, step: int) -> dict[str, bytes]:
    """Of a checkpoint, but metadata, which names the save, and the marker, which has its digest."""
    path = checkpoint_path(folder / "checkpoints", step)
    kept = [file for file in path.iterdir() if file.name not in (".metadata", "COMMITTED")]
    return {file.name: file.read_bytes() for file in kept if file.name != "plan.json"}


@pytest.mark.parametrize("sent_at", [5, 6, 9])
def test_the_run_goes_on_bit_by_bit(config, tmp_path, monkeypatch, sent_at):
    whole = replace(config, out=tmp_path / "whole")
    train(whole, show_progress=False)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(EndedBySignal) as ended:
        train_with_sigterm(config, sent_at, monkeypatch)
    saved = sent_at + 1  # it is heard in the next step
    assert ended.value.exit_code == 143
    assert ended.value.message.endswith(f"saved step {saved}; go on with --resume")
    assert committed_steps(config.out / "checkpoints") == [saved]
    assert signal.getsignal(signal.SIGTERM) is before
    train(replace(config, resume=True), show_progress=False)
    assert entries(config.out) == entries(whole.out)
    assert [entry["step"] for entry in entries(whole.out)] == [4, 8, 12, 12]
    assert files(config.out, 12) == files(whole.out, 12)


@pytest.mark.parametrize("sent_at", [11, 12])
def test_in_the_last_step_the_run_ends_as_it_would(config, monkeypatch, sent_at):
    train_with_sigterm(config, sent_at, monkeypatch)
    assert (config.out / "result.json").exists()


def test_what_it_did_before_is_restored_after_an_error():
    request, before = EndRequest(), signal.getsignal(signal.SIGTERM)

    def ended_by_an_error() -> None:
        with sigterm_noted(request):
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)  # torchrun and Slurm may both say it
            raise ValueError("of the block")

    with pytest.raises(ValueError, match="of the block"):
        ended_by_an_error()
    assert request.is_noted()
    assert signal.getsignal(signal.SIGTERM) is before
