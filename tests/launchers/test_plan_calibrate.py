"""``dropdrift plan calibrate`` on this process alone, and the hardware that it saves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dropdrift.sharding.hardware import load_hardware

pytestmark = pytest.mark.timeout(120)

QUICK = ("--calibration.repeats", 3, "--calibration.max-rows", 1000)


@pytest.fixture(scope="module")
def own_tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration for a cluster that this machine is not."""
    path = tmp_path_factory.mktemp("calibrated") / "own.yaml"
    path.write_text(
        "nodes: 4\n"
        "gpus_per_node: 8\n"
        "hardware: H100\n"
        "tables:\n"
        "  - {name: one, rows: 20_000, width: 16}\n"
        "  - {name: bags, rows: 500, width: 8, ids: 3}\n"
        "  - {name: equal, count: 4, rows: 500, width: 4}\n"
        "labels: [click]\n"
        "data: {batch_size: 512}\n"
        "model: {method: base}\n"
    )
    return path


@pytest.fixture(scope="module")
def calibrated(succeed, own_tables) -> Path:
    """A folder with what a calibration wrote."""
    folder = own_tables.parent
    ended = succeed(
        "plan", "calibrate", own_tables, "--out", folder / "here.yaml", "--json", folder / "c.json",
        "--html", folder / "c.html", "--max-tables", 3, *QUICK,
    )  # fmt: skip
    (folder / "printed").write_text(ended.output)
    return folder


def test_it_measures_where_it_runs_and_not_what_the_configuration_names(calibrated):
    told = json.loads((calibrated / "c.json").read_text())
    assert (told["nodes"], told["ranks_per_node"], told["base"]["name"]) == (1, 1, "CPU")
    assert told["rows_per_rank"] == 512
    assert told["collectives"] == []
    assert told["machine"].startswith(told["provenance"]["hardware"]["cpu"])
    rows = {entry["table"]["name"]: entry["measured_rows"] for entry in told["lookups"]}
    assert rows == {"one": 1000, "bags": 500, "equal_0": 500}
    for entry in told["lookups"]:
        for part in ("forward", "backward"):
            assert len(entry[part]["times_ms"]) == 3
            assert min(entry[part]["times_ms"]) > 0


def test_it_is_told_within_120_columns_and_on_a_page(calibrated):
    text = (calibrated / "printed").read_text()
    # But for what to type next, which must stay in one piece.
    assert max(map(len, text.splitlines()[:-1])) <= 120
    assert "3 of 6, different ones that stand for all; 1 cut to 1,000 rows" in text
    assert "equal_0" in text
    assert "<svg" in (calibrated / "c.html").read_text()


def test_plans_take_the_hardware_and_their_times_change_as_measured(succeed, calibrated):
    here = calibrated / "here.yaml"
    estimates = []
    for hardware in ("CPU", here):
        path = calibrated / "plan.json"
        succeed(
            "plan", "show", calibrated / "own.yaml", "--nodes", 1, "--gpus-per-node", 1,
            "--hardware", hardware, "--json", path,
        )  # fmt: skip
        (rank,) = json.loads(path.read_text())["summary"]["ranks"]
        estimates.append(rank["cost"]["forward_compute"])
    told = json.loads((calibrated / "c.json").read_text())
    forwards = [entry["forward"] for entry in told["lookups"]]
    slower = sum(t["measured_ms"] for t in forwards) > sum(t["before_ms"] for t in forwards)
    assert (estimates[1] > estimates[0]) == slower
    bandwidths = [load_hardware(str(name)).host_gb_per_s for name in ("CPU", here)]
    assert estimates[1] / estimates[0] == pytest.approx(bandwidths[0] / bandwidths[1], rel=0.01)


def test_numbers_may_go_to_standard_output(succeed, own_tables, tmp_path):
    ended = succeed(
        "plan", "calibrate", own_tables, "--out", tmp_path / "o.yaml", "--json=-", *QUICK
    )
    assert json.loads(ended.output)["kind"] == "calibration"


def test_a_matching_model_has_tables_of_its_own(succeed, interactions_folder, tmp_path):
    """Its catalogue's rows are looked up, and its tables have the model's width."""
    succeed(
        "plan", "calibrate", interactions_folder, "--out", tmp_path / "o.yaml",
        "--json", tmp_path / "o.json", "--base", "CPU", "--model.item.width", 24, *QUICK,
    )  # fmt: skip
    told = json.loads((tmp_path / "o.json").read_text())
    assert told["rows_per_rank"] == 30
    widths = {entry["table"]["name"]: entry["table"]["width"] for entry in told["lookups"]}
    assert widths["item_id"] == 24


class TestMistakes:
    def test_the_cluster_is_the_present_one(self, mistake, own_tables):
        line = mistake("plan", "calibrate", own_tables, "--nodes", 2)
        assert line.startswith("unknown option --nodes")

    def test_no_config(self, mistake):
        assert mistake("plan", "calibrate").startswith("dropdrift plan calibrate needs a CONFIG")

    def test_where_nothing_can_be_written_is_found_first(self, mistake, own_tables, tmp_path):
        line = mistake(
            "plan", "calibrate", own_tables, "--out", own_tables / "o.yaml",
            "--calibration.repeats", 10**9,
        )  # fmt: skip
        assert line == f"{own_tables}/o.yaml cannot be written: File exists"
        line = mistake(
            "plan", "calibrate", own_tables, "--out", tmp_path / "o.yaml", "--html", tmp_path,
            "--calibration.repeats", 10**9,
        )  # fmt: skip
        assert line == f"{tmp_path} is a folder: name a file to write"

    @pytest.mark.parametrize(
        ("options", "line"),
        [
            (("--out", "H100"), "out is H100, must end in .yaml or .yml"),
            (("--name", " "), "name is blank: call the hardware something, or leave it out"),
            (("--max-tables", 0), "max_tables is 0, must be positive"),
            (("--base", "H300"), "unknown hardware 'H300'"),
            (("--base", "H100"), "hardware H100 has device cuda, but the machine to be measured"),
            (("--calibration.sizes", 8, 8), "calibration.sizes is 8, 8, must be at least two"),
        ],
    )
    def test_wrong_options(self, mistake, own_tables, tmp_path, options, line):
        out = () if "--out" in options else ("--out", tmp_path / "o.yaml")
        assert line in mistake("plan", "calibrate", own_tables, *out, *options)
