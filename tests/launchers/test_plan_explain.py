"""``dropdrift plan explain`` as a user meets it: tables, JSON, mistakes."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest

from dropdrift.launchers.main import main


def dropdrift(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["plan", "explain", *arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def lines_about(text: str, kind: str, kernel: str = "fused") -> list[str]:
    """Its row in the table of plans, and that in the table of costs."""
    return [line for line in text.splitlines() if line.startswith(f"{kind}/{kernel}  ")]


class TestTables:
    def test_every_option_with_its_cost_and_why_it_lost(self, capsys):
        assert dropdrift("mlperf-dlrm-dcnv2", "c20") == 0
        told = capsys.readouterr()
        assert told.err == ""
        # 40 million rows of 128 numbers and one of state.
        assert f"{40_000_000 * 129 * 4 / 2**30:.1f} GiB" in told.out
        assert "row_wise/fused on ranks 0-7 of 1 x 8 H100" in told.out
        plan, cost = lines_about(told.out, "row_wise")
        assert plan.rstrip().endswith(" chosen")
        # An eighth of the rows, and inputs and outputs.
        assert 40_000_000 / 8 * 129 * 4 / 2**30 < float(cost.split()[2]) < 2.6
        plan, cost = lines_about(told.out, "table_wise")
        assert re.search(r"\+\d+%: [\d.]+ ms for [\d.]+", plan)
        assert cost.split()[1] == "1"
        assert len(re.findall("excluded by sharding.kernels", told.out)) == 6
        assert "Not offered: data_parallel" in told.out

    def test_no_more_than_120_columns(self, capsys):
        dropdrift("asymdiffrec-200", "user_x_song", "--optimizer.sparse", "sgd")
        assert max(map(len, capsys.readouterr().out.splitlines())) <= 120

    def test_prepared_data_on_a_cpu(self, capsys, prepared_folder):
        assert dropdrift(str(prepared_folder), "item", "--gpus-per-node", "2") == 0
        told = capsys.readouterr().out
        assert "HBM" not in told
        assert "on a cpu only where no other type is allowed" in " ".join(told.split())

    @pytest.mark.timeout(120)
    def test_two_hundred_tables_are_quick(self, capsys):
        started = time.perf_counter()
        assert dropdrift("asymdiffrec-200", "song_id") == 0
        assert time.perf_counter() - started < 60  # about 6 s where nothing else runs
        assert "table_row_wise/fused" in capsys.readouterr().out


class TestJson:
    def test_on_standard_output_it_is_alone(self, capsys):
        assert dropdrift("mlperf-dlrm-dcnv2", "c20", "--json", "-") == 0
        document = json.loads(capsys.readouterr().out)
        assert list(document.items())[:2] == [("kind", "explanation"), ("format", 1)]
        explanation = document["explanation"]
        assert explanation["table"]["name"] == "c20"
        chosen, *others = explanation["options"]
        assert chosen["verdict"] == "chosen"
        assert chosen["plan"]["step_ms"] == pytest.approx(explanation["step_ms"])
        assert len(others) == 17
        assert chosen["device_bytes"] > 40_000_000 / 8 * 129 * 4
        assert set(chosen["slowest"]) >= {"forward_compute", "backward_communication"}
        assert document["provenance"]["config"]["hardware"] == "H100"

    def test_in_a_file_beside_the_tables(self, capsys, tmp_path):
        path = tmp_path / "explained.json"
        assert dropdrift("mlperf-dlrm-dcnv2", "c05", "--json", str(path)) == 0
        assert "c05 in mlperf-dlrm-dcnv2" in capsys.readouterr().out
        assert json.loads(path.read_text())["explanation"]["table"]["rows"] == 3


class TestMistakes:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], "needs a CONFIG"),
            (["mlperf-dlrm-dcnv2"], "needs the name of a TABLE"),
            (["mlperf-dlrm-dcnv2", "--nodes", "2"], "needs the name of a TABLE"),
            (["mlperf-dlrm-dcnv2", "c2"], "unknown table 'c2'; did you mean c2"),
            (["nothing", "c20"], "unknown CONFIG 'nothing'"),
            (["mlperf-dlrm-dcnv2", "c20", "c21"], "unexpected argument 'c21'"),
            (
                [
                    "mlperf-dlrm-dcnv2",
                    "c05",
                    "--hardware",
                    "CPU",
                    "--sharding.tables",
                    "c05=row_wise",
                ],
                "table 'c05' may be row_wise",
            ),
            (
                ["mlperf-dlrm-dcnv2", "c20", "--sharding.tables", "c20=column_wise"],
                "sharding.tables has 'column_wise', but optimizer.sparse 'rowwise_adagrad'",
            ),
        ],
    )
    def test_one_line_and_exit_code_2(self, capsys, arguments, message):
        assert dropdrift(*arguments) == 2
        told = capsys.readouterr()
        assert told.out == ""
        assert told.err.startswith("dropdrift: ")
        assert told.err.count("\n") == 1
        assert message in told.err

    def test_no_plan_is_diagnosed(self, capsys, tmp_path: Path):
        path = tmp_path / "wide.yaml"
        path.write_text(
            "hardware: A100-40\ngpus_per_node: 1\n"
            "tables: [{name: huge, rows: 200_000_000, width: 64}]\n"
            "model: {method: base}\n"
        )
        assert dropdrift(str(path), "huge") == 2
        *diagnosis, last = capsys.readouterr().err.splitlines()
        assert last.startswith("dropdrift: No sharding plan for 1 x 1 A100-40")
        # 200 million rows of 65 numbers are 48.4 GiB.
        assert any("tables take 48.4 GiB at the least" in line for line in diagnosis)

    def test_the_help_names_the_table(self, capsys):
        assert dropdrift("--help") == 0
        assert "CONFIG TABLE [OPTIONS]" in capsys.readouterr().out
