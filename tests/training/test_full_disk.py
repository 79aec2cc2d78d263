"""A disk that is full ends a run in one line, with the checkpoints before it as they were."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from dropdrift.data.config import DataConfig
from dropdrift.models.config import DCNv2Config, ModelConfig
from dropdrift.training import checkpoint_writer
from dropdrift.training.checkpoint import checkpoint_path, committed_steps, verify_checkpoint
from dropdrift.training.config import LoopConfig, OptimizerConfig, TrainConfig
from dropdrift.training.trainer import train

pytestmark = pytest.mark.timeout(120)

EVERY = 2


@pytest.fixture
def config(prepared_folder: Path, small_disk: Path) -> TrainConfig:
    """Twelve checkpoints of 0.4 MB, all to be kept."""
    return TrainConfig(
        out=small_disk / "run",
        data=DataConfig(path=prepared_folder, batch_size=128),
        model=ModelConfig(dcnv2=DCNv2Config(deep_widths=(8,), z_width=4)),
        optimizer=OptimizerConfig(sparse="adam"),
        loop=LoopConfig(max_steps=24, checkpoint_every=EVERY, keep_checkpoints=99),
    )


def check_what_is_left(config: TrainConfig) -> list[int]:
    """Whole checkpoints alone; their steps."""
    folder = config.out / "checkpoints"
    steps = committed_steps(folder)
    assert steps == list(range(EVERY, steps[-1] + 1, EVERY))
    for step in steps:
        verify_checkpoint(folder, step)
    assert [path.name for path in sorted(folder.iterdir())] == [
        checkpoint_path(folder, step).name for step in steps
    ]
    assert not (config.out / "result.json").exists()
    return steps


def go_on(config: TrainConfig) -> list[int]:
    """Resume, until the disk is full once more; the steps of the checkpoints."""
    with pytest.raises(ValueError, match="has no room"):
        train(replace(config, resume=True), show_progress=False)
    return check_what_is_left(config)


def test_a_checkpoint_without_room_is_not_begun(config):
    with pytest.raises(ValueError, match="has no room") as refused:
        train(config, show_progress=False)
    folder, steps = config.out / "checkpoints", check_what_is_left(config)
    told = re.fullmatch(
        rf"{folder} has no room for the checkpoint of step {steps[-1] + EVERY}: it needs "
        r"([\d,]+) bytes, and ([\d,]+) are free; those before it stay: .*",
        str(refused.value),
    )
    assert told
    needed, free = (int(number.replace(",", "")) for number in told.groups())
    assert free == shutil.disk_usage(folder).free < needed
    written = sum(file.stat().st_size for file in checkpoint_path(folder, steps[-1]).iterdir())
    assert written < needed < 1.5 * written + 65_536


@pytest.mark.parametrize(
    ("after", "left", "beside"),
    [(False, 0, False), (False, 200_000, False), (True, 0, False), (False, 0, True)],
)
def test_room_that_is_taken_while_it_is_written(
    config, small_disk, monkeypatch, after, left, beside
):
    """When torch begins to write, a little later, or when the marker is to be written."""
    config = replace(config, loop=replace(config.loop, save_in_background=beside))
    save, filler = checkpoint_writer.save, small_disk / "filler"

    def fill() -> None:
        with filler.open("wb") as stream:
            stream.write(bytes(shutil.disk_usage(small_disk).free - left))

    def save_on_a_disk_that_fills(
        tensors: object, checkpoint_id: Path, process_group: object
    ) -> None:
        third = checkpoint_id.name.startswith(checkpoint_path(Path(), 3 * EVERY).name)
        if third and not after:
            fill()
        save(tensors, checkpoint_id=checkpoint_id, process_group=process_group)
        if third and after:
            fill()

    monkeypatch.setattr(checkpoint_writer, "save", save_on_a_disk_that_fills)
    pattern = (
        rf"the checkpoint of step {3 * EVERY} could not be written to {config.out}/checkpoints: "
        r"(No space left on device|a file was cut off), with [\d,]+ bytes free; those before .*"
    )
    with pytest.raises(ValueError, match=pattern) as refused:
        train(config, show_progress=False)
    assert re.fullmatch(pattern, str(refused.value)), "one line"
    assert check_what_is_left(config) == [EVERY, 2 * EVERY]
    monkeypatch.undo()
    filler.unlink()
    assert go_on(config)[-1] > 2 * EVERY
