from __future__ import annotations

from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dropdrift.training.log import RunLog


def test_tensorboard_shows_a_resumed_run_as_if_it_had_not_been_interrupted(tmp_path: Path) -> None:
    def write(first_step: int, *entries: tuple[int, float]) -> None:
        with RunLog(tmp_path / "log.jsonl", tmp_path / "events", first_step) as log:
            for step, loss in entries:
                log.write("train", step, {"main": loss})

    write(0, (10, 0.5), (20, 0.25), (30, 9.0))
    write(20, (30, 0.125))
    shown = EventAccumulator(str(tmp_path / "events")).Reload().Scalars("train/main")
    assert [(event.step, event.value) for event in shown] == [(10, 0.5), (20, 0.25), (30, 0.125)]
