"""What is told of a calibration: of one written by hand, and of a real one on two ranks."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from dropdrift.sharding.calibration.calibrate import Calibration
from dropdrift.sharding.calibration.collectives import CollectiveTiming, Line
from dropdrift.sharding.calibration.comparison import (
    CollectiveRow,
    Compared,
    Comparison,
    LookupRow,
)
from dropdrift.sharding.calibration.lookups import LookupTiming
from dropdrift.sharding.calibration.tables import LookupTable
from dropdrift.sharding.cluster import make_cluster
from dropdrift.sharding.config import ShardingConfig
from dropdrift.sharding.hardware import load_hardware
from dropdrift.training.plans.calibration.plots import calibration_figure, calibration_page
from dropdrift.training.plans.calibration.report import (
    CalibrationReport,
    document,
    grids,
    headline,
    print_calibration,
)

pytestmark = pytest.mark.timeout(120)

BIG = LookupTable("big", 5_000_000, 64, (2.5, 1.0))
SMALL = LookupTable("small", 300, 8)
# Forward and backward: estimate before, estimate after, measured.
TIMES = {
    "small": ((0.01, 0.25, 0.5), (0.02, 0.5, 0.8)),
    "big": ((0.2, 5.0, 4.0), (0.4, 10.0, 8.0)),
}


def compared(before: float, after: float, measured: float) -> Compared:
    return Compared(before, after, measured)


def lookup_rows(table: LookupTable, ranks: int) -> list[LookupRow]:
    forward, backward = TIMES[table.name]
    rows = min(table.rows, 1_000_000)
    timing = LookupTiming(table, rows, 512, ranks, (forward[2],), (backward[2],))
    return [
        LookupRow(timing, "forward", compared(*forward)),
        LookupRow(timing, "backward", compared(*backward)),
    ]


def made_report(ranks: int = 2, tables: int = 3) -> CalibrationReport:
    """Two tables measured; on several ranks two exchanges too."""
    base = load_hardware("CPU")
    rows = [*lookup_rows(SMALL, ranks), *lookup_rows(BIG, ranks)]
    timings = [
        CollectiveTiming("all_to_all", 2**20, ranks, ranks, (2.0,)),
        CollectiveTiming("reduce_scatter", 2**20, ranks, ranks, (1.0,)),
    ]
    exchanges = [
        CollectiveRow(timing, compared(0.1, after, timing.times_ms[0]))
        for timing, after in zip(timings, (1.0, 4.0), strict=True)
    ]
    measured = {"host_gb_per_s": "measured on a day"}
    return CalibrationReport(
        name="mine",
        machine="a processor",
        cluster=make_cluster(ShardingConfig(), base, 1, ranks),
        rows_per_rank=512,
        tables=tables,
        precision="fp32",
        calibration=Calibration(
            hardware=dataclasses.replace(
                base, name="found", host_gb_per_s=4.5, sources={**base.sources, **measured}
            ),
            lookups=tuple(row.timing for row in rows[::2]),
            collectives=tuple(timings) if ranks > 1 else (),
            lines=(Line("all_to_all", 0.25, 1.5), Line("reduce_scatter", 0.125, 0.5))
            if ranks > 1
            else (),
            comparison=Comparison(tuple(rows), tuple(exchanges) if ranks > 1 else ()),
        ),
    )


def printed(report: CalibrationReport, width: int) -> str:
    console = Console(file=io.StringIO(), width=width)
    print_calibration(report, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


class TestHeadline:
    def test_agreement_is_the_median_factor(self):
        """After: 2, 1.6, 1.25, 1.25, of which the median is the middle of logarithms; 1.41."""
        told = dict(headline(made_report()))
        assert told["Lookups"] == (
            "half of TorchRec's estimates are within a factor of 1.41 of what was measured, before "
            "the fit 28.3; of forwards 1.58 (31.6), of backwards 1.41 (28.3)"
        )
        assert told["Exchanges"] == (
            "half of the estimates are within a factor of 2.83, before the fit 14.1"
        )

    def test_what_does_not_fit(self):
        assert dict(headline(made_report()))["Does not fit"] == (
            "lookups have one bandwidth in TorchRec: estimates with the fitted one are 0.50 to "
            "1.25 times what was measured, and no lookup takes less than 0.50 ms here, however "
            "little it reads; exchanges have one bandwidth and no latency, here there are: "
            "all_to_all 0.25 ms and 1.50 GB/s, reduce_scatter 0.12 ms and 0.50 GB/s"
        )

    def test_one_rank_has_no_exchanges(self):
        told = dict(headline(made_report(ranks=1)))
        assert told["Exchanges"] == "not measured: one rank has nobody to exchange with"
        assert "exchanges" not in told["Does not fit"]
        assert told["Measured"] == "a processor; 1 rank on 1 node"
        assert len(grids(made_report(ranks=1))) == 2

    def test_which_tables(self):
        told = dict(headline(made_report()))
        assert told["Tables"] == (
            "2 of 3, different ones that stand for all; 1 cut to 1,000,000 rows"
        )
        half = dataclasses.replace(made_report(tables=2), precision="fp16")
        assert dict(headline(half))["Tables"] == (
            "all 2; 1 cut to 1,000,000 rows; in fp32, though the configuration keeps them in fp16"
        )


def test_tables_slowest_first():
    lookups, exchanges, figures = grids(made_report())
    assert [" ".join(row) for row in lookups.rows] == [
        "big 5,000,000 64 3.5 4.00 0.20 5.00 1.25 8.00 0.40 10.0 1.25",
        "small 300 8 1 0.50 0.010 0.25 0.50 0.80 0.020 0.50 0.62",
    ]
    assert exchanges.rows[0] == ("all_to_all", "1.00 MiB", "2.00", "0.10", "1.00", "0.50")
    assert ("host_gb_per_s", "110", "4.50", "yes") in figures.rows
    assert ("intra_node_gb_per_s", "27.4", "27.4", "no") in figures.rows


@pytest.mark.parametrize("width", [70, 120])
def test_it_fits_the_terminal(width):
    text = printed(made_report(), width)
    assert max(map(len, text.splitlines())) <= width
    assert "big" in text
    assert "found" in text


def test_every_estimate_is_a_mark():
    axes = calibration_figure(made_report().calibration.comparison).axes[0]
    marks = {
        (line.get_marker(), line.get_markerfacecolor() == "none", *map(tuple, line.get_data()))
        for line in axes.lines
        if line.get_linestyle() == "None"
    }
    assert marks == {
        ("o", True, (0.5, 4.0), (0.01, 0.2)),
        ("o", False, (0.5, 4.0), (0.25, 5.0)),
        ("s", True, (0.8, 8.0), (0.02, 0.4)),
        ("s", False, (0.8, 8.0), (0.5, 10.0)),
        ("^", True, (2.0,), (0.1,)),
        ("^", False, (2.0,), (1.0,)),
        ("D", True, (1.0,), (0.1,)),
        ("D", False, (1.0,), (4.0,)),
    }
    (band,) = axes.collections
    for x, y in band.get_paths()[0].vertices:
        assert y / x == pytest.approx(2) or y / x == pytest.approx(0.5)


def test_the_page_needs_no_network_and_escapes():
    page = calibration_page(dataclasses.replace(made_report(), name="<b>"), {"command": "it"})
    assert "&lt;b&gt;" in page
    assert "<b>" not in page.replace("<p><b>", "")
    assert page.count("<svg") == 1
    assert not re.findall(r'(?:src|href)="(?!#)', page)
    assert "measured on a day" in page


def test_the_document_holds_what_was_measured():
    told = document(made_report(), {"command": "it"})
    assert list(told.items())[:2] == [("kind", "calibration"), ("format", 1)]
    (small, big) = told["lookups"]
    assert (small["table"], small["measured_rows"], big["measured_rows"]) == (SMALL, 300, 10**6)
    assert big["backward"] == {
        "before_ms": 0.4, "after_ms": 10.0, "measured_ms": 8.0, "times_ms": (8.0,),
    }  # fmt: skip
    assert told["agreement"]["collectives"].after == pytest.approx(8**0.5)
    assert document(made_report(ranks=1), {})["agreement"]["collectives"] is None


@pytest.fixture(scope="module")
def own_tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("calibrated") / "own.yaml"
    path.write_text(
        "nodes: 4\n"
        "hardware: H100\n"
        "tables: [{name: one, rows: 2000, width: 16}, {name: bags, rows: 500, width: 8, ids: 3}]\n"
        "labels: [click]\n"
        "data: {batch_size: 512}\n"
        "model: {method: base}\n"
    )
    return path


CALIBRATE = ("-m", "dropdrift", "--", "plan", "calibrate")


def test_two_ranks_report_once_and_save_their_links(launch, own_tables):
    out, json_file = own_tables.with_name("two.yaml"), own_tables.with_name("two.json")
    ended = launch(
        2, *CALIBRATE, own_tables, "--out", out, "--json", json_file, "--name", "these",
        "--calibration.repeats", "5", "--calibration.sizes", "16384", "4194304",
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("Calibration with") == 1
    assert "2 ranks on 1 node" in ended.stdout
    told = json.loads(json_file.read_text())
    assert (told["ranks_per_node"], told["rows_per_rank"]) == (2, 256)
    assert told["provenance"]["world_size"] == 2
    assert [row["size"] for row in told["collectives"]] == 2 * [2**14, 2**22]
    fitted = load_hardware(str(out))
    assert (fitted.name, fitted.gpus_per_node) == ("these", 2)
    rates = [line["gb_per_s"] for line in told["lines"]]
    assert fitted.intra_node_gb_per_s == pytest.approx((rates[0] * rates[1]) ** 0.5)
    assert fitted.sources["intra_node_gb_per_s"].startswith("measured on ")
    assert fitted.sources["inter_node_gb_per_s"].startswith("not measured, from CPU")


def test_all_ranks_end_where_the_first_cannot_write(launch, own_tables):
    ended = launch(2, *CALIBRATE, own_tables, "--out", own_tables / "here.yaml")
    assert ended.returncode != 0
    assert ended.stdout == ""
    lines = [line for line in ended.stderr.splitlines() if line.startswith("dropdrift rank")]
    assert len(lines) == 2
    assert all("here.yaml cannot be written: " in line for line in lines)
