"""``dropdrift preflight``, and ``--preflight`` of train and evaluate, on one process."""

from __future__ import annotations

import json
import platform
import socket

import pytest

import dropdrift

pytestmark = pytest.mark.timeout(150)

SMALL = (
    "--data.batch-size", 256, "--model.tasks", "click", "--model.dcnv2.deep-widths", 8,
    "--model.dcnv2.z-width", 4, "--loop.checkpoint-every", 2,
)  # fmt: skip


def test_one_rank_has_nothing_to_exchange_and_is_checked_all_the_same(succeed, tmp_path):
    out = tmp_path / "folder" / "preflight.json"
    ended = succeed("preflight", "--out", out, "--repeats", 1)
    lines = ended.output.splitlines()
    assert lines[0].startswith("Preflight of 1 rank on 1 host, ")
    assert max(map(len, lines[:-1])) <= 100
    assert "One rank: there is nothing to exchange." in lines
    assert lines[-1] == f"Written to {out}"
    document = json.loads(out.read_text())
    (rank,) = document["ranks"]
    assert (rank["rank"], rank["host"], rank["device"]) == (0, socket.gethostname(), "cpu")
    assert rank["versions"]["python"] == platform.python_version()
    assert rank["versions"]["dropdrift"] == dropdrift.__version__
    assert rank["free_memory"] is None or rank["free_memory"] > 0
    assert (document["exchanges"], document["links"], document["findings"]) == ([], [], [])
    assert document["works"][0]["flops"] > 0
    assert document["provenance"]["config"]["repeats"] == 1
    assert document["provenance"]["world_size"] == 1


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--sizes"], "sizes is empty"),
        (["--sizes", 0, 4], "sizes is 0 4, must be bytes, each at least 1"),
        (["--repeats", 0], "repeats is 0, must be at least 1"),
        (["--timeout", 0], "timeout is 0.0, must be positive"),
        (["--timeout", "inf"], "--timeout is inf, must be a finite number"),
        (["--least-bandwidth", -1], "least_bandwidth is -1.0, must not be negative"),
        (["--timeout", 1e10], "must be positive and at most 1000000000"),
        (["--least-bandwidth", 2], "one rank exchanges nothing"),
        (["--size", 4], "did you mean --sizes"),
    ],
)
def test_wrong_options(mistake, options, text):
    assert text in mistake("preflight", *options)


def test_an_output_that_cannot_be_written_is_known_before_anything_is_measured(mistake, tmp_path):
    assert "is a folder" in mistake("preflight", "--out", tmp_path)


def test_train_and_evaluate_check_first_and_a_run_resumes_without(
    prepared_folder, tmp_path, succeed
):
    run = tmp_path / "run"
    options = ("train", "--data.path", prepared_folder, "--out", run, *SMALL)
    trained = succeed(*options, "--loop.max-steps", 2, "--preflight")
    assert trained.output.startswith("Preflight of 1 rank on 1 host, ")
    assert json.loads((run / "preflight.json").read_text())["provenance"]["world_size"] == 1
    (run / "result.json").unlink()
    (run / "preflight.json").unlink()
    resumed = succeed(*options, "--loop.max-steps", 2, "--resume")
    assert "Preflight" not in resumed.output
    assert not (run / "preflight.json").exists()
    evaluated = succeed("evaluate", "--run-folder", run, "--no-robustness", "--preflight")
    assert evaluated.output.startswith("Preflight of 1 rank on 1 host, ")
    assert json.loads((run / "preflight-test.json").read_text())["ranks"][0]["rank"] == 0
