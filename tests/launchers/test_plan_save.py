"""``dropdrift plan save`` and ``plan diff``, and training by what was saved."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dropdrift.data.json_file import read_json

MLPERF = "mlperf-dlrm-dcnv2"

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def mlperf(succeed, tmp_path_factory) -> Path:
    """The skewed plan of 8 x H100, and one with less memory, which is even."""
    folder = tmp_path_factory.mktemp("mlperf")
    succeed("plan", "save", MLPERF, "--limits.max-skew", 2, "--out", folder / "skewed.json")
    succeed("plan", "save", MLPERF, "--sharding.hbm-gib", 20, "--out", folder / "even.json")
    return folder


def test_save_says_what_it_wrote(succeed, tmp_path):
    path = tmp_path / "plans" / "plan.json"
    ended = succeed("plan", "save", MLPERF, "--sharding.hbm-gib", 20, "--out", path)
    assert ended.output == (
        f"{path}: 26 tables on 1 node of 8 H100, for dropdrift train --plan {path}\n"
    )
    plan = read_json(path)
    assert plan["provenance"]["config"]["sharding"]["hbm_gib"] == 20
    assert plan["provenance"]["seed"] == 1


def test_a_plan_that_breaks_the_limits_is_not_saved(mistake, tmp_path):
    path = tmp_path / "plan.json"
    message = mistake("plan", "save", MLPERF, "--out", path)
    assert "times the mean of" in message
    assert message.endswith(f"; nothing was written to {path}")


def test_mistakes_of_save(mistake, tmp_path):
    assert "is a folder" in mistake("plan", "save", MLPERF, "--out", tmp_path)
    assert "unknown CONFIG 'mlperv'" in mistake("plan", "save", "mlperv")


def test_training_by_a_saved_plan(succeed, mistake, prepared_folder, tmp_path):
    """On one process; test_placement.py does on two what another plan says."""
    plan, out = tmp_path / "plan.json", tmp_path / "run"
    options = ("--data.path", prepared_folder, "--data.batch-size", 64)
    succeed("plan", "save", "dcnv2", *options, "--gpus-per-node", 1, "--out", plan)
    options = ("--recipe", "dcnv2", *options, "--loop.max-steps", 2, "--plan", plan)
    succeed("train", *options, "--out", out)
    (used,) = (out / "checkpoints").glob("*/plan.json")
    assert read_json(used) == read_json(plan)
    message = mistake("train", *options, "--data.batch-size", 32, "--out", tmp_path / "other")
    assert message == (
        f"plan {plan} was made for something else: rows of a lookup on a rank were 64, are 32: "
        "make one for this run with 'dropdrift plan save'"
    )
    # What the planner may do does not matter to a run that does not plan.
    other = ("--sharding.types", "row_wise", "--sharding.host-memory-gib", "1e-6")
    succeed("train", *options, *other, "--out", tmp_path / "other")


class TestDiff:
    def test_what_moves_is_shown_largest_first(self, succeed, mlperf, monkeypatch):
        monkeypatch.setenv("COLUMNS", "200")
        ended = succeed("plan", "diff", mlperf / "skewed.json", mlperf / "even.json")
        lines = [line.rstrip() for line in ended.output.splitlines()]
        assert max(map(len, lines)) <= 120
        first = next(line.split() for line in lines if line.startswith("c00"))
        # Seven eighths of 40 million rows of 128 numbers and Adagrad's one, in fp32, move.
        assert first[1:4] == ["table_wise", "→", "row_wise"]
        assert first[-4:] == ["19.2", "GiB", "16.8", "GiB"]
        moved = 40_000_000 * 129 * 4 * 7 / 8
        assert moved / 2**30 == pytest.approx(16.8, abs=0.05)
        assert any(line.startswith("Moves: ") for line in lines)
        assert any(line.endswith("more that did not move") for line in lines)
        assert sum(line.split(" ")[0] in map(str, range(8)) for line in lines) == 8

    def test_forty_tables_at_most(self, succeed, tmp_path, monkeypatch):
        monkeypatch.setenv("COLUMNS", "120")
        described = tmp_path / "many.yaml"
        described.write_text(
            "tables:\n  - {name: table, count: 90, rows: 1_000, width: 16}\n"
            "labels: [click]\nmodel: {method: base}\n"
        )
        for name, kind in (("a", "table_wise"), ("b", "row_wise")):
            options = ("--hardware", "H100", "--sharding.types", kind, "--limits.max-skew", 9)
            succeed("plan", "save", described, *options, "--out", tmp_path / f"{name}.json")
        ended = succeed("plan", "diff", tmp_path / "a.json", tmp_path / "b.json")
        lines = [line for line in ended.output.splitlines() if line.startswith("table_")]
        assert len(lines) == 40
        # Of 1,000 rows of 17 fp32 numbers a rank of eight had all and the others nothing.
        assert lines[0].split()[-2:] == ["58.1", "KiB"]
        moved = 1_000 * 17 * 4 * 7 / 8
        assert moved / 2**10 == pytest.approx(58.1, abs=0.05)
        assert "... and 50 more, 2.84 MiB" in ended.output

    def test_json(self, succeed, mlperf, tmp_path):
        files = (mlperf / "skewed.json", mlperf / "even.json")
        ended = succeed("plan", "diff", *files, "--json", "-")
        numbers = json.loads(ended.output)
        assert list(numbers.items())[:2] == [("kind", "difference"), ("format", 1)]
        assert numbers["plans"] == {"before": str(files[0]), "after": str(files[1])}
        assert numbers["before"]["memory_skew"] > 1.5 > numbers["after"]["memory_skew"]
        moved = sum(rank["received_bytes"] for rank in numbers["ranks"])
        assert moved == numbers["moved_bytes"] > 0
        shown = succeed("plan", "diff", *files, "--json", tmp_path / "diff.json").output
        assert "Tables that go elsewhere" in shown
        assert read_json(tmp_path / "diff.json") == numbers

    def test_a_plan_and_itself(self, succeed, mlperf):
        ended = succeed("plan", "diff", mlperf / "even.json", mlperf / "even.json")
        assert "Moves: nothing" in ended.output
        assert "Tables that go elsewhere" not in ended.output

    def test_names_do_not_steer_the_terminal(self, succeed, mlperf, tmp_path):
        path = tmp_path / "a\x1b[31m.json"
        path.write_bytes((mlperf / "even.json").read_bytes())
        assert "\x1b" not in succeed("plan", "diff", path, path).output

    def test_mistakes(self, mistake, mlperf, tmp_path):
        even = mlperf / "even.json"
        assert "compares two plans, found 1" in mistake("plan", "diff", even)
        assert "compares two plans, found 3" in mistake("plan", "diff", even, even, even)
        gone = tmp_path / "none.json"
        assert mistake("plan", "diff", even, gone) == f"{gone} does not exist"
        assert "is a folder" in mistake("plan", "diff", even, even, "--json", tmp_path)
