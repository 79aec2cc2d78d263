"""Saving beside training: the same checkpoints, the same run, bit by bit, and no silent errors."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dropdrift.data.config import DataConfig
from dropdrift.models.config import DCNv2Config, ModelConfig
from dropdrift.training import checkpoint_writer
from dropdrift.training.checkpoint import checkpoint_path, committed_steps, verify_checkpoint
from dropdrift.training.config import LoopConfig, OptimizerConfig, TrainConfig
from dropdrift.training.signals import EndedBySignal
from dropdrift.training.trainer import Trainer, train

pytestmark = pytest.mark.timeout(280)

EVERY, LAST = 4, 14
BEHIND = 2  # steps that training is ahead when a checkpoint is written


def configuration(data: Path, out: Path) -> TrainConfig:
    return TrainConfig(
        out=out,
        data=DataConfig(path=data, batch_size=128),
        model=ModelConfig(dcnv2=DCNv2Config(deep_widths=(8,), z_width=4)),
        loop=LoopConfig(
            max_steps=LAST,
            checkpoint_every=EVERY,
            log_every=3,
            keep_checkpoints=9,
            save_in_background=True,
        ),
    )


@pytest.fixture
def config(prepared_folder, tmp_path) -> TrainConfig:
    return configuration(prepared_folder, tmp_path / "run")


class SlowWriting:
    """Has torch write a checkpoint only when training is some steps ahead.

    Attributes:
        overlaps: for each checkpoint, how many steps were taken before it was written.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.overlaps: dict[int, int] = {}
        self._step, self._moved = 0, threading.Condition()
        self._after_step, self._save = Trainer._after_step, checkpoint_writer.save
        patch.setattr(Trainer, "_after_step", self._noted)
        patch.setattr(checkpoint_writer, "save", self._delayed)

    @property
    def _noted(self) -> Callable[..., None]:
        def after_step(trainer: Trainer, *arguments: Any) -> None:
            with self._moved:
                self._step = trainer.state.step
                self._moved.notify()
            self._after_step(trainer, *arguments)

        return after_step

    def _delayed(self, tensors: Any, *, checkpoint_id: Path, process_group: Any) -> None:
        step = int(checkpoint_id.stem.removeprefix("step-"))
        until = min(step + BEHIND, LAST)
        with self._moved:
            assert self._moved.wait_for(lambda: self._step >= until, timeout=60)
        self.overlaps[step] = self._step - step
        self._save(tensors, checkpoint_id=checkpoint_id, process_group=process_group)


def kept(out: Path) -> dict[str, bytes]:
    """The checkpoints' tensors and states, and the log."""
    folder = out / "checkpoints"
    files = [f"{path.name}/{file}" for path in folder.iterdir() for file in SAME]
    assert len(files) == 2 * len(committed_steps(folder))
    for step in committed_steps(folder):
        verify_checkpoint(folder, step)
    contents = {name: (folder / name).read_bytes() for name in files}
    return {**contents, "log": (out / "log.jsonl").read_bytes()}


# The metadata names the save, and the plan says when it was made.
SAME = ("__0_0.distcp", "state.json")


@pytest.fixture(scope="module", params=["rowwise_adagrad", "adam"])
def at_once(request, prepared_folder, tmp_path_factory) -> TrainConfig:
    """A run whose training waits for its checkpoints."""
    config = configuration(prepared_folder, tmp_path_factory.mktemp("at_once") / "run")
    loop = replace(config.loop, save_in_background=False)
    config = replace(config, loop=loop, optimizer=OptimizerConfig(sparse=request.param))
    train(config, show_progress=False)
    return config


def test_checkpoints_are_those_of_saving_at_once(config, at_once, monkeypatch):
    """While they are written, the tables are trained further, in place."""
    config = replace(config, optimizer=at_once.optimizer)
    slow = SlowWriting(monkeypatch)
    train(config, show_progress=False)
    assert slow.overlaps == {4: BEHIND, 8: BEHIND, 12: BEHIND, LAST: 0}
    assert committed_steps(config.out / "checkpoints") == [4, 8, 12, LAST]
    assert kept(config.out) == kept(at_once.out)
    assert checkpoint_threads() == []


def test_nothing_is_removed_before_the_next_is_there(config, monkeypatch):
    """The newest good checkpoint stays until training has long gone on."""
    slow = SlowWriting(monkeypatch)
    there: dict[int, list[int]] = {}
    save = checkpoint_writer.save

    def look_and_save(tensors: Any, *, checkpoint_id: Path, process_group: Any) -> None:
        save(tensors, checkpoint_id=checkpoint_id, process_group=process_group)
        step = int(checkpoint_id.stem.removeprefix("step-"))
        there[step] = committed_steps(checkpoint_id.parent)

    monkeypatch.setattr(checkpoint_writer, "save", look_and_save)
    train(replace(config, loop=replace(config.loop, keep_checkpoints=1)), show_progress=False)
    assert there == {4: [], 8: [4], 12: [8], LAST: [12]}
    assert committed_steps(config.out / "checkpoints") == [LAST]
    assert slow.overlaps[8] == BEHIND


def test_sigterm_names_a_step_that_is_saved(config, monkeypatch):
    """Also where the checkpoint before it is still being written."""
    SlowWriting(monkeypatch)
    after_step = Trainer._after_step

    def asked_after(trainer: Trainer, *arguments: Any) -> None:
        after_step(trainer, *arguments)
        if trainer.state.step == EVERY:
            trainer._end_request.note()

    # The last one is written when training is as far ahead as it will be.
    monkeypatch.setattr(Trainer, "_after_step", asked_after)
    monkeypatch.setattr(f"{__name__}.BEHIND", 1)
    monkeypatch.setattr(f"{__name__}.LAST", EVERY + 1)
    with pytest.raises(EndedBySignal, match="143") as ended:
        train(config, show_progress=False)
    assert f"saved step {EVERY + 1};" in ended.value.message
    assert committed_steps(config.out / "checkpoints") == [EVERY, EVERY + 1]
    assert checkpoint_threads() == []


@pytest.mark.parametrize("error", [TypeError("of a test\nin two lines"), OSError(5, "I/O error")])
def test_an_error_ends_training_within_steps(config, monkeypatch, error):
    save = checkpoint_writer.save

    def fail(tensors: Any, *, checkpoint_id: Path, process_group: Any) -> None:
        if checkpoint_id.name.startswith(checkpoint_path(Path(), 2 * EVERY).name):
            raise error
        save(tensors, checkpoint_id=checkpoint_id, process_group=process_group)

    monkeypatch.setattr(checkpoint_writer, "save", fail)
    # No other checkpoint is due before the end.
    loop = replace(config.loop, max_steps=3 * EVERY, log_every=1)
    with pytest.raises((ValueError, OSError)) as ended:
        train(replace(config, loop=loop), show_progress=False)
    if isinstance(error, TypeError):
        assert str(ended.value) == (
            "a checkpoint could not be written beside training: TypeError: of a test in two lines"
        )
    lines = (config.out / "log.jsonl").read_text().splitlines()
    assert 2 * EVERY <= json.loads(lines[-1])["step"] <= 2 * EVERY + 2
    assert committed_steps(config.out / "checkpoints") == [EVERY]
    assert not (config.out / "result.json").exists()
    assert checkpoint_threads() == []


def test_a_checkpoint_is_completed_where_training_fails(config, monkeypatch):
    """What was begun was good: the run goes on from it."""
    SlowWriting(monkeypatch)
    after_step = Trainer._after_step

    def failing_after(trainer: Trainer, *arguments: Any) -> None:
        after_step(trainer, *arguments)
        if trainer.state.step == EVERY + BEHIND:
            raise ValueError("of a test")

    monkeypatch.setattr(Trainer, "_after_step", failing_after)
    with pytest.raises(ValueError, match="of a test"):
        train(config, show_progress=False)
    assert committed_steps(config.out / "checkpoints") == [EVERY]
    assert checkpoint_threads() == []


def test_it_may_be_changed_where_a_run_goes_on(config, at_once):
    shutil.copytree(at_once.out, config.out)
    (config.out / "result.json").unlink()
    shutil.rmtree(checkpoint_path(config.out / "checkpoints", LAST))
    train(replace(config, optimizer=at_once.optimizer, resume=True), show_progress=False)
    assert kept(config.out) == kept(at_once.out)


def checkpoint_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "checkpoint"]


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    assert checkpoint_threads() == []
