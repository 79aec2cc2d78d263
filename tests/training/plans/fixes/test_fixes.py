"""No plan, or a skewed one: what is short, by hand, and that each fix plans as it says."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from dropdrift.launchers.plan.target import Target, read_target
from dropdrift.sharding.checks import broken_limits
from dropdrift.sharding.config import PlanLimits
from dropdrift.sharding.planning import NoPlanError, make_plan
from dropdrift.sharding.summary import PlanSummary, summarise
from dropdrift.sharding.wording import digits
from dropdrift.training.plans.config import ShowConfig
from dropdrift.training.plans.fixes.diagnosis import Diagnosis, diagnose, skew_fixes
from dropdrift.training.plans.fixes.fix import Fix, fix_lines
from dropdrift.training.plans.fixes.search import first_fix
from dropdrift.training.plans.fixes.shortage import Shortage, may_fit, shortage

GIB = 2**30
ORDER = ["placement", "training", "hardware", "host memory"]

# Weights and row-wise Adagrad: huge 2.42 GiB, big 0.97, four small ones 0.097 each.
TABLES = """
tables:
  - {name: huge, rows: 10_000_000, width: 64}
  - {name: big, rows: 4_000_000, width: 64, ids: 5}
  - {name: small, count: 4, rows: 400_000, width: 64}
hardware: H100
gpus_per_node: 4
model:
  dcnv2: {deep_widths: [8], cross_layers: 1, cross_rank: 2, z_width: 8}
  method: base
data: {batch_size: 4096}
"""
STORED = 4 * 65 * (10_000_000 + 4_000_000 + 4 * 400_000)

Read = Callable[..., Target[ShowConfig]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    (tmp_path / "tables.yaml").write_text(TABLES)

    def read(*options: str, name: str = str(tmp_path / "tables.yaml")) -> Target[ShowConfig]:
        return read_target(ShowConfig, [name, *options], prog="dropdrift", description="")

    return read


def plan(target: Target[ShowConfig]) -> PlanSummary:
    return summarise(make_plan(target.request()))


def fits(target: Target[ShowConfig]) -> bool:
    try:
        make_plan(target.request())
    except NoPlanError:
        return False
    return True


def short(target: Target[ShowConfig]) -> Shortage:
    with pytest.raises(NoPlanError) as raised:
        make_plan(target.request())
    return shortage(raised.value)


def diagnosed(target: Target[ShowConfig]) -> Diagnosis:
    with pytest.raises(NoPlanError) as raised:
        make_plan(target.request())
    return diagnose(target.config, target.schema, target.items, raised.value)


def check(read: Read, options: tuple[str, ...], fixes: tuple[Fix, ...] | list[Fix], **name) -> None:
    """Every fix, pasted behind the options, has a plan of the time and memory that it says."""
    for fix in fixes:
        summary = plan(read(*options, *shlex.split(fix.options), **name))
        assert summary.step_ms == pytest.approx(fix.step_ms), fix
        assert max(r.device_bytes for r in summary.ranks) == fix.fullest_bytes
        assert summary.spilled_bytes == fix.spilled_bytes
        assert summary.cluster.world_size == fix.ranks
        assert summary.cluster.hardware == fix.hardware


def by_options(fixes: tuple[Fix, ...] | list[Fix]) -> dict[str, Fix]:
    return {fix.options: fix for fix in fixes}


class TestShortage:
    def test_what_all_tables_need_and_all_ranks_have(self, read):
        lack = short(read("--sharding.hbm-gib", "1", "--sharding.reserve", "0.2"))
        assert lack.memory_bytes == GIB
        assert lack.margin_bytes == pytest.approx(0.2 * GIB, abs=2)
        # TorchRec: 20 copies of 8 bytes an id, 10 ids in each of a rank's 1,024 rows.
        assert lack.input_bytes == 20 * 8 * 10 * 1024
        assert lack.room_bytes == 4 * (GIB - lack.margin_bytes - lack.dense_bytes - 1_638_400)
        # Two batches' ids at 8 bytes, and pooled outputs of at least 64 numbers, in 4,096 rows.
        assert 0 < lack.needed_bytes - STORED < 4 * 4096 * (2 * 10 * 8 + 6 * 64 * 4)
        assert [t.table for t in lack.tables[:2]] == ["huge", "big"]
        missing = (lack.needed_bytes - lack.room_bytes) / GIB
        assert any(f"{missing:.2f} short" in line for line in lack.lines())

    def test_a_table_that_fits_no_rank(self, read):
        options = ("--sharding.hbm-gib", "2", "--sharding.reserve", "0")
        lack = short(read(*options, "--sharding.types", "table_wise"))
        (huge,) = lack.too_large
        # Table-wise on one of four ranks: two batches' ids of 4,096 rows, and 64 numbers each.
        whole = 10_000_000 * 65 * 4 + 4096 * (2 * 8 + 64 * 4)
        assert huge.largest_bytes == whole
        assert huge.short_bytes == whole - (2 * GIB - lack.dense_bytes - lack.input_bytes)
        assert (huge.table, huge.sharding_type, huge.kernel) == ("huge", "table_wise", "fused")
        assert any(
            "huge as table_wise/fused takes 2.42 GiB of a rank, 0.42 more" in line
            for line in lack.lines()
        )

    def test_where_batches_alone_are_too_much(self, read):
        """TorchRec says nothing then of what it reserves."""
        lack = short(read("--data.batch-size", "262144", "--sharding.hbm-gib", "0.1"))
        assert lack.input_bytes == 20 * 8 * 10 * 65_536
        assert lack.available_bytes < 0
        assert lack.room_bytes == 0

    def test_host_memory_counts_where_it_is_allowed(self, read):
        options = ("--sharding.hbm-gib", "0.2", "--sharding.host-memory-gib", "0.3")
        kernels = ("--sharding.kernels", "fused", "fused_uvm")
        assert short(read(*options)).host_bytes == 0
        lack = short(read(*options, *kernels))
        assert lack.host_bytes == int(0.3 * GIB)
        assert lack.room_bytes == 4 * (lack.available_bytes + lack.host_bytes)


class TestRoom:
    @pytest.mark.parametrize(
        ("gib", "room"),
        # 3.777 GiB of tables on 4 ranks of which 15% are kept: 1.111 each.
        [("1.10", False), ("1.12", True), ("1.5", True)],
    )
    def test_tables_alone(self, read, gib, room):
        assert may_fit(read("--sharding.hbm-gib", gib).request()) is room

    def test_half_precision_and_state(self, read):
        def fits_in(gib: float, *options: str) -> bool:
            return may_fit(read("--sharding.hbm-gib", str(gib / 0.85), *options).request())

        numbers = 64 * (10_000_000 + 4_000_000 + 4 * 400_000)
        # A quarter on each rank; the dense part is 0.2 MB.
        fp16, adagrad = (numbers * 2 + numbers / 16) / 4 / GIB, numbers * 8 / 4 / GIB
        assert fits_in(fp16 + 0.001, "--model.table-precision", "fp16")
        assert not fits_in(fp16 - 0.001, "--model.table-precision", "fp16")
        assert fits_in(adagrad + 0.001, "--optimizer.sparse", "adagrad")
        assert not fits_in(adagrad - 0.001, "--optimizer.sparse", "adagrad")

    def test_copies_on_every_rank(self, read):
        numbers = 64 * (10_000_000 + 4_000_000 + 4 * 400_000)
        for gib, room in ((numbers * 12 / GIB - 0.01, False), (numbers * 12 / GIB + 0.01, True)):
            options = ("--optimizer.sparse", "adam", "--sharding.hbm-gib", str(gib / 0.85))
            assert may_fit(read(*options).request()) is room

    def test_tables_that_may_leave_the_device_do_not_count(self, read):
        kernels = ("--sharding.kernels", "fused", "fused_uvm")
        assert may_fit(read("--sharding.hbm-gib", "0.5", *kernels).request())
        rule = ("--sharding.tables", "huge=row_wise/fused_uvm")
        assert may_fit(read("--sharding.hbm-gib", "0.5", *rule).request())


class TestFixes:
    def test_row_wise_for_a_table_that_fits_no_rank(self, read):
        options = ("--sharding.hbm-gib", "2", "--sharding.types", "table_wise")
        fixes = diagnosed(read(*options)).fixes
        assert "--sharding.types table_wise row_wise" in by_options(fixes)
        check(read, options, fixes)

    def test_a_rule_that_keeps_a_table_whole_is_widened(self, read):
        options = ("--sharding.hbm-gib", "2", "--sharding.tables", "h*=table_wise", "big=row_wise")
        fixes = by_options(diagnosed(read(*options)).fixes)
        texts = [text for text in fixes if text.startswith("--sharding.tables")]
        assert texts
        assert all(shlex.split(text)[1].startswith("h*=table_wise,") for text in texts)
        check(read, options, list(fixes.values()))

    def test_columns_where_the_optimizer_allows_them(self, read):
        """On a CPU there is no row-wise; a table 256 wide is cut into two of 128."""
        options = ("--hardware", "CPU", "--gpus-per-node", "2", "--optimizer.sparse", "sgd")
        name = _wide(read, width=256)
        options += ("--sharding.host-memory-gib", "1.5", "--sharding.types", "table_wise")
        fixes = by_options(diagnosed(read(*options, name=name)).fixes)
        assert "--sharding.types table_wise column_wise" in fixes
        check(read, options, list(fixes.values()), name=name)
        assert not any("kernels" in text or "hardware" in text for text in fixes)

    def test_a_cap_is_raised_to_the_least_that_does(self, read):
        options = ("--sharding.hbm-gib", "2", "--sharding.types", "table_wise")
        fixes = by_options(diagnosed(read(*options)).fixes)
        assert "--sharding.hbm-gib 0" in fixes
        # 2.42 GiB and inputs and outputs beside the 15% that are kept.
        assert "--sharding.hbm-gib 3" in fixes
        check(read, options, list(fixes.values()))
        # GPUs that are there need not be replaced by larger ones.
        assert not any("--hardware" in text for text in fixes)

    def test_optimizer_state_of_a_number_a_row(self, read):
        # 3.9 GiB and as much of state do not fit 4 ranks of 1.7, without state they do.
        options = ("--optimizer.sparse", "adagrad", "--sharding.hbm-gib", "1.6")
        fixes = by_options(diagnosed(read(*options)).fixes)
        fix = fixes["--optimizer.sparse rowwise_adagrad"]
        assert fix.changes_training
        check(read, options, list(fixes.values()))

    def test_columns_are_given_up_for_it(self, read):
        options = ("--optimizer.sparse", "adagrad", "--sharding.hbm-gib", "1.6")
        options += ("--sharding.types", "row_wise", "column_wise")
        fixes = by_options(diagnosed(read(*options)).fixes)
        assert "--optimizer.sparse rowwise_adagrad --sharding.types row_wise" in fixes

    def test_half_precision(self, read):
        options = ("--sharding.hbm-gib", "0.9")
        fixes = by_options(diagnosed(read(*options)).fixes)
        assert fixes["--model.table-precision fp16"].changes_training
        check(read, options, list(fixes.values()))

    def test_both_where_neither_is_enough(self, read):
        options = ("--optimizer.sparse", "adagrad", "--sharding.hbm-gib", "0.9")
        fixes = by_options(diagnosed(read(*options)).fixes)
        assert "--optimizer.sparse rowwise_adagrad" not in fixes
        assert "--model.table-precision fp16" not in fixes
        assert "--optimizer.sparse rowwise_adagrad --model.table-precision fp16" in fixes
        check(read, options, list(fixes.values()))

    def test_the_fewest_nodes(self, read):
        options = ("--sharding.hbm-gib", "0.9", "--gpus-per-node", "2")
        fixes = by_options(diagnosed(read(*options, "--nodes", "2")).fixes)
        # Of the numbers of nodes whose ranks divide the batch of 4,096.
        enough = next(n for n in (4, 8, 16) if fits(read(*options, "--nodes", str(n))))
        assert f"--nodes {enough}" in fixes
        assert fixes[f"--nodes {enough}"].ranks == 2 * enough

    def test_the_fewest_gpus_of_a_node(self, read):
        options = ("--sharding.hbm-gib", "2.2", "--gpus-per-node", "1")
        fixes = by_options(diagnosed(read(*options)).fixes)
        enough = next(n for n in (2, 4, 8) if fits(read(*options[:2], "--gpus-per-node", str(n))))
        assert f"--gpus-per-node {enough}" in fixes
        assert not any("--nodes" in text for text in fixes)

    def test_the_smallest_gpu_that_does(self, read):
        """400 million rows of 64 numbers and state are 97 GiB: more than 79, less than 140."""
        name = _wide(read, rows=400_000_000, width=64)
        options = ("--gpus-per-node", "1", "--hardware", "A100-40")
        fixes = by_options(diagnosed(read(*options, name=name)).fixes)
        (larger,) = (text for text in fixes if "--hardware" in text)
        assert larger == "--hardware H200"

    def test_a_smaller_batch_where_batches_take_the_memory(self, read):
        options = ("--data.batch-size", "2097152", "--sharding.hbm-gib", "2")
        fixes = by_options(diagnosed(read(*options)).fixes)
        sizes = [2_097_152 >> n for n in range(1, 20)]
        most = next(s for s in sizes if fits(read(*options, "--data.batch-size", str(s))))
        assert most < 2_097_152 / 2
        assert fixes[f"--data.batch-size {most}"].changes_training

    def test_no_smaller_batch_where_tables_take_it(self, read):
        fixes = diagnosed(read("--sharding.hbm-gib", "0.9")).fixes
        assert not any("batch" in fix.options for fix in fixes)

    def test_host_memory_with_the_tables_that_go_there(self, read):
        options = ("--sharding.hbm-gib", "0.9")
        fixes = diagnosed(read(*options)).fixes
        fix = fixes[-1]
        assert fix.kind == "host memory"
        assert fix.options == "--sharding.kernels fused fused_uvm_caching"
        summary = plan(read(*options, *shlex.split(fix.options)))
        spilled = {t.name: t.spilled_bytes for t in summary.tables if t.spilled_bytes}
        assert dict(fix.spilled) == spilled
        told = " ".join(" ".join(fix_lines(fixes)).split())
        # The table is the largest, of 2.42 GiB, and nothing else has to go.
        assert "2.42 GiB in host memory (huge 2.42), which --limits.max-spill-gib 3 allows" in told
        slower = fix.step_ms / min(other.step_ms for other in fixes[:-1])
        assert f"; {digits(slower)} times the fastest" in told

    def test_copies_on_every_rank_become_tables_that_are_cut(self, read):
        # A copy with Adam's moments is 3 x 3.7 GiB; TorchRec counts the first of them alone.
        options = ("--optimizer.sparse", "adam", "--sharding.hbm-gib", "3")
        fixes = by_options(diagnosed(read(*options)).fixes)
        assert "--optimizer.sparse rowwise_adagrad" in fixes
        check(read, options, list(fixes.values()))
        for fix in fixes.values():
            summary = plan(read(*options, *shlex.split(fix.options)))
            assert max(r.device_bytes for r in summary.ranks) <= summary.available_bytes

    def test_order(self, read):
        fixes = diagnosed(read("--sharding.hbm-gib", "2", "--sharding.types", "table_wise")).fixes
        kinds = [ORDER.index(fix.kind) for fix in fixes]
        assert kinds == sorted(kinds)
        assert set(kinds) >= {0, 1, 3}
        for _, group in itertools.groupby(fixes[:-1], key=lambda fix: fix.kind):
            times = [fix.step_ms for fix in group]
            assert times == sorted(times)

    def test_nothing_helps(self, read):
        """A table of 2,000 columns and 2 billion rows, of which 64 nodes hold nothing."""
        name = _wide(read, rows=2_000_000_000, width=65_536)
        diagnosis = diagnosed(read("--data.batch-size", "64", name=name))
        assert diagnosis.fixes == ()
        assert diagnosis.lines()[-2].startswith("Nothing that was tried instead has a plan (")

    def test_limits_that_a_fix_breaks_are_told(self, read):
        options = ("--sharding.hbm-gib", "2", "--sharding.types", "table_wise")
        fixes = by_options(diagnosed(read(*options)).fixes)
        target = read(*options, "--sharding.hbm-gib", "0")
        assert fixes["--sharding.hbm-gib 0"].problems == tuple(
            broken_limits(plan(target), PlanLimits())
        )
        capped = fixes["--sharding.hbm-gib 3"]
        # 2.52 GiB of 3.8, a small table included, on one of four ranks.
        assert "rank 0 holds 2.52 GiB, 2.66 times the mean" in capped.problems[0]


class TestLines:
    def test_a_diagnosis_names_tables_and_gigabytes(self, read):
        lines = diagnosed(read("--sharding.hbm-gib", "0.9")).lines()
        assert lines[0] == "No sharding plan for 1 x 4 H100 with 0.90 GiB a rank"
        text = "\n".join(lines)
        assert re.search(r"tables take 3\.\d+ GiB at the least, and 4 ranks have 3\.\d+", text)
        assert "the largest: huge 2.4" in text

    def test_no_line_but_options_is_longer_than_118(self, read):
        options = ("--sharding.hbm-gib", "2", "--sharding.types", "table_wise")
        for line in diagnosed(read(*options)).lines():
            assert len(line) <= 118 or line.startswith("    --")

    def test_fixes_that_change_training_say_so(self, read):
        fixes = diagnosed(read("--sharding.hbm-gib", "0.9")).fixes
        lines = [line for line in fix_lines(fixes) if "changes what is trained" in line]
        assert len(lines) == sum(fix.kind == "training" for fix in fixes) > 0


class TestSkew:
    def test_fixes_keep_within_the_limits(self, read):
        options = ("--sharding.hbm-gib", "6")
        target = read(*options)
        summary, limits = plan(target), PlanLimits()
        assert any("holds" in line for line in broken_limits(summary, limits))
        fixes = skew_fixes(target.config, target.schema, target.items, summary, limits)
        assert fixes
        check(read, options, fixes)
        for fix in fixes:
            fixed = plan(read(*options, *shlex.split(fix.options)))
            assert broken_limits(fixed, limits) == []
        assert [f.step_ms for f in fixes] == sorted(f.step_ms for f in fixes)

    def test_nothing_where_nothing_helps(self, read):
        """On a CPU a table is not cut by rows, so one rank has it all."""
        options = ("--hardware", "CPU", "--gpus-per-node", "4", "--sharding.host-memory-gib", "8")
        target = read(*options)
        summary = plan(target)
        assert broken_limits(summary, PlanLimits())
        args = (target.config, target.schema, target.items, summary, PlanLimits())
        assert skew_fixes(*args) == []


class TestFirst:
    @pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 8, 20])
    def test_the_lowest_place_is_found(self, count):
        for first in range(count + 1):
            asked: list[int] = []

            def fix_at(place: int, first: int = first, asked: list[int] = asked) -> Fix | None:
                asked.append(place)
                here = Fix("", str(place), "hardware", 1, 1, "", 1, (), ())
                return here if place >= first else None

            found = first_fix(count, fix_at)
            assert (found.options if found else None) == (str(first) if first < count else None)
            assert len(set(asked)) == len(asked) <= 10


class TestMlperf:
    @pytest.mark.timeout(300)
    def test_eight_gigabytes(self, read):
        """26 tables of 104.5 GB on 8 ranks of 8 GiB; each fix is planned anew."""
        options = ("--sharding.hbm-gib", "8")
        diagnosis = diagnosed(read(*options, name="mlperf-dlrm-dcnv2"))
        lack = diagnosis.shortage
        stored = 204_184_588 * 129 * 4
        assert stored < lack.needed_bytes < 1.05 * stored
        assert lack.room_bytes < 8 * 0.85 * 8 * GIB
        text = "\n".join(diagnosis.lines())
        assert "c20" in text
        assert "GiB" in text
        assert {fix.kind for fix in diagnosis.fixes} >= {"placement", "hardware", "host memory"}
        check(read, options, diagnosis.fixes, name="mlperf-dlrm-dcnv2")


def _wide(read: Read, rows: int = 2_000_000, width: int = 64) -> str:
    """A configuration of one large table beside a small one."""
    path = Path(read().name).with_name("wide.yaml")
    path.write_text(
        TABLES.replace(
            "{name: huge, rows: 10_000_000, width: 64}",
            f"{{name: huge, rows: {rows}, width: {width}}}",
        ).replace("  - {name: big, rows: 4_000_000, width: 64, ids: 5}\n", "")
    )
    return str(path)
