"""Mistakes that only the number of processes makes, known before anything is queued."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torchx")

LAUNCH = ("launch", "train", "--recipe", "dcnv2-demo", "--dryrun")
BATCH = ("--data.batch-size", "90")


@pytest.mark.parametrize(
    ("shape", "options", "line"),
    [
        (
            "2x4",
            BATCH,
            "data.batch_size is 90, which 8 lanes do not divide: choose a multiple of 8",
        ),
        (
            "3x1",
            ("--data.lanes", "4"),
            "data.lanes is 4, which 3 ranks do not divide: choose a multiple of 3",
        ),
    ],
)
def test_batches_that_the_processes_do_not_divide(mistake, shape, options, line):
    assert mistake(*LAUNCH, "-j", shape, "--", *options) == f"{line} (with recipe dcnv2-demo)"


def test_as_many_processes_as_divide_the_batch_are_taken(succeed):
    succeed(*LAUNCH, "-j", "3x3", "--", *BATCH)


def test_a_matching_model_has_no_lanes(mistake, succeed):
    launch = ("launch", "train", "--recipe", "t2diff", "-j", "1x2", "--dryrun", "--")
    succeed(*launch, "--data.batch-size", "6", "--data.lanes", "3")
    line = "data.batch_size is 5, which 2 ranks do not divide: choose a multiple of 2"
    assert mistake(*launch, "--data.batch-size", "5") == f"{line} (with recipe t2diff)"


def test_an_evaluation(mistake):
    command = ("launch", "evaluate", "-j", "1x3", "--dryrun", "--", "--run-folder", "elsewhere")
    line = "batch_size is 4096, which 3 ranks do not divide: choose a multiple of 3"
    assert mistake(*command) == line


def test_restarts_of_what_torchrun_does_not_start(mistake):
    line = mistake("launch", "bench", "--max-restarts", "1", "--dryrun", "--", "t2diff")
    assert line == "--max-restarts is torchrun's, and bench runs without it"


def test_a_check_alone_for_any_number_of_processes(mistake, succeed, tmp_path: Path):
    command = ("train", "--recipe", "dcnv2-demo", *BATCH)
    succeed(*command, "--check")
    succeed(*command, "--check=9")
    assert "which 8 lanes do not divide" in mistake(*command, "--check=8")
    for wrong in ("--check=", "--check=0", "--check=a"):
        line = f"{wrong} must name a number of processes, such as --check=8"
        assert mistake(*command, wrong) == line
    assert not list(tmp_path.iterdir())
