"""``dropdrift plan show`` as a user meets it: output, exit codes, files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dropdrift.launchers.main import main
from dropdrift.sharding.saved.document import read_plan


def dropdrift(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["plan", "show", *arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def document(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    dropdrift(*arguments, "--json", "-")
    return json.loads(capsys.readouterr().out)


class TestMLPerf:
    """26 tables of 204,184,588 rows of width 128 on eight H100."""

    def test_the_stock_plan_is_skewed_and_fails_after_it_is_shown(self, capsys, tmp_path):
        page = tmp_path / "plan.html"
        assert dropdrift("mlperf-dlrm-dcnv2", "--html", str(page)) == 2
        told = capsys.readouterr()
        # 204,184,588 rows of 128 numbers and one of optimizer state, 4 bytes each.
        assert "98.1 GiB of weights and optimizer state" in told.out
        assert max(map(len, told.out.splitlines())) <= 120
        assert told.err.count("\n") == 1
        assert told.err.startswith("dropdrift: rank ")
        assert "times the mean of 12.4 GiB: more than limits.max_skew 1.5" in told.err
        assert "--sharding.hbm-gib" in told.out
        assert "more than limits.max_skew" in page.read_text()

    def test_with_less_memory_it_is_balanced(self, capsys):
        assert dropdrift("mlperf-dlrm-dcnv2", "--sharding.hbm-gib", "20") == 0
        told = capsys.readouterr()
        assert told.err == ""
        assert "row_wise" in told.out

    def test_eight_gib_are_too_little(self, capsys):
        assert dropdrift("mlperf-dlrm-dcnv2", "--sharding.hbm-gib", "8") == 2
        told = capsys.readouterr()
        assert told.out == ""
        *lines, last = told.err.splitlines()
        assert last.startswith("dropdrift: No sharding plan for 1 x 8 H100 with 8.00 GiB a rank")
        diagnosis = "\n".join(lines)
        assert "GiB" in diagnosis
        assert "short" in diagnosis
        assert "c20 19" in diagnosis
        assert "--nodes" in diagnosis

    def test_tables_that_spill_are_named_with_their_gigabytes(self, capsys):
        kernels = ("--sharding.kernels", "fused", "fused_uvm_caching")
        assert dropdrift("mlperf-dlrm-dcnv2", "--sharding.hbm-gib", "8", *kernels) == 2
        error = capsys.readouterr().err
        # Four tables of 40 million rows: 129 numbers of 4 bytes each.
        gib = 4 * 40_000_000 * 129 * 4 / 2**30
        assert f"{gib:.1f} GiB of 4 tables live in host memory: " in error
        for table in ("c09", "c19", "c20", "c21"):
            assert f"{table} 19.2" in error
        allowed = ("--limits.max-spill-gib", "80")
        assert dropdrift("mlperf-dlrm-dcnv2", "--sharding.hbm-gib", "8", *kernels, *allowed) == 0

    def test_hardware_changes_the_plan(self, capsys):
        placed = {
            name: document(capsys, "mlperf-dlrm-dcnv2", "--hardware", name)["placement"]
            for name in ("A100-40", "H100", "B200")
        }
        assert placed["A100-40"] != placed["H100"] != placed["B200"]


class TestOutput:
    def test_json_on_standard_output_is_alone_there(self, capsys, prepared_folder):
        found = document(capsys, str(prepared_folder), "--gpus-per-node", "2")
        assert found["summary"]["cluster"]["world_size"] == 2

    def test_json_in_a_file_is_a_plan_to_train_with(self, capsys, prepared_folder, tmp_path):
        path = tmp_path / "deep" / "plan.json"
        assert dropdrift(str(prepared_folder), "--json", str(path)) == 0
        assert "Plan of" in capsys.readouterr().out
        plan = read_plan(path)
        assert plan.summary.cluster.hardware == "CPU"
        assert plan.provenance["seed"] == plan.provenance["config"]["loop"]["seed"]

    def test_all_tables(self, capsys):
        dropdrift("asymdiffrec-200")
        few = capsys.readouterr().out
        dropdrift("asymdiffrec-200", "--all-tables")
        every = capsys.readouterr().out
        assert len(every.splitlines()) > len(few.splitlines()) + 100


class TestMistakes:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["mlperf-dlrm-dcnv2", "--hardware", "H300"], "unknown hardware 'H300'"),
            (["mlperf-dlrm-dcnv2", "--hardware", ""], "unknown hardware ''"),
            (["mlperf-dlrm-dcnv2", "--nodes", "9" * 20], "more than the 16,384 ranks"),
            (["nothing"], "unknown CONFIG 'nothing'"),
            (["mlperf-dlrm-dcnv2", "--sharding.tables", "x=row_wise"], "matches no table"),
            (["mlperf-dlrm-dcnv2", "--sharding.tables", "c00"], "must be PATTERN=TYPE"),
            (["mlperf-dlrm-dcnv2", "--node", "2"], "unknown option --node"),
            (["mlperf-dlrm-dcnv2", "--hardware", "CPU"], "No sharding plan for 1 x 8 CPU"),
        ],
    )
    def test_one_line_and_exit_code_2(self, capsys, arguments, message):
        assert dropdrift(*arguments) == 2
        error = capsys.readouterr().err
        assert message in error
        assert "Traceback" not in error
        assert error.splitlines()[-1].startswith("dropdrift: ")

    def test_an_output_that_cannot_be_written_is_known_before_planning(self, capsys, tmp_path):
        assert dropdrift("mlperf-dlrm-dcnv2", "--html", str(tmp_path)) == 2
        told = capsys.readouterr()
        assert told.out == ""
        assert "is a folder: name a file to write" in told.err

    def test_a_table_wider_than_a_ranks_memory(self, capsys, tmp_path):
        path: Path = tmp_path / "wide.yaml"
        path.write_text(
            "hardware: A100-40\ngpus_per_node: 1\n"
            "tables: [{name: huge, rows: 2_000_000_000, width: 256}]\n"
            "sharding: {types: [table_wise]}\n"
        )
        assert dropdrift(str(path)) == 2
        error = capsys.readouterr().err
        assert "huge" in error
        assert "Traceback" not in error
