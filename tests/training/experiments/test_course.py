"""How a run went, from its log."""

from __future__ import annotations

from pathlib import Path

from dropdrift.training.experiments.course import Course, read_course

LOG = """{"kind": "train", "step": 1, "loss": 0.7}
{"kind": "validation", "step": 2, "auc": 0.6, "log_loss": 0.5}
{"kind": "train", "step": 2, "loss": 0.6}
"""


def test_numbers_of_the_training_and_of_the_validation(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text(LOG, encoding="utf-8")
    assert read_course(log, "auc") == Course(((2, 0.6),), {"step": 2.0, "loss": 0.6})
    assert read_course(log, "uauc").validation == ()
    assert read_course(tmp_path / "none.jsonl", "auc") == Course()


def test_half_a_line_is_left_out(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    for half in ('{"kind": "train", "st', "7", '{"kind": "train"}', "\udcff"):
        log.write_bytes((LOG + half).encode(errors="surrogateescape"))
        assert read_course(log, "auc") == Course(((2, 0.6),), {"step": 2.0, "loss": 0.6})
