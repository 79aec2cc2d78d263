"""The page of the kernels' measurements: it holds all of them, escaped, and needs no network."""

from __future__ import annotations

import dataclasses
import re
from html import unescape
from html.parser import HTMLParser

import pytest
from tests.benchmarks.kernels.made_runs import (
    HARDWARE,
    made_measurement,
    made_run,
    made_timing,
)

from dropdrift.benchmarks.kernels.page import kernel_page
from dropdrift.benchmarks.kernels.plots import speed_figure
from dropdrift.benchmarks.kernels.record import KernelRun, Measurement

REFERENCES = {"src", "href", "xlink:href", "action", "data", "srcset", "poster"}
H200 = HARDWARE | {"gpus": [{"name": "NVIDIA H200"}]}


class Reader(HTMLParser):
    """Collects tags, references, and the cells of all tables."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.references: list[str] = []
        self.rows: list[list[str]] = []
        self.in_cell = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.references += [value or "" for name, value in attrs if name in REFERENCES]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.in_cell = True

    def handle_data(self, data: str) -> None:
        if self.in_cell:
            self.rows[-1][-1] += data

    def handle_endtag(self, tag: str) -> None:
        self.in_cell = self.in_cell and tag not in ("td", "th")


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    return reader


def curve(provider: str, factor: float) -> list[Measurement]:
    return [
        made_measurement(
            made_timing(factor * rows / 1000),
            provider=provider,
            rows=rows,
            floor_ms=rows / 4000,
        )
        for rows in (1024, 4096, 6000)
    ]


@pytest.fixture
def run() -> KernelRun:
    return made_run([*curve("eager", 2.0), *curve("dropdrift-torch", 1.0)])


def test_nothing_is_fetched(run: KernelRun) -> None:
    page = kernel_page([run])
    reader = read(page)
    assert reader.tags.count("svg") == 1
    assert all(reference.startswith("#") for reference in reader.references)
    assert not re.search(r"@import|url\((?!#)", page)
    addresses = set(re.findall(r"https?://[^\s\"'<]+", page))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert not {"script", "link", "img", "iframe"} & set(reader.tags)


def test_every_measurement_is_in_a_table_with_its_numbers(run: KernelRun) -> None:
    header, *rows = read(kernel_page([run])).rows
    assert len(rows) == 6
    # 10^7 bytes and 10^9 operations in 4.096 ms, a quarter of the time being the floor.
    found = next(row for row in rows if row[:2] == ["dropdrift-torch", "4,096"])
    assert dict(zip(header, found, strict=True)) == {
        "Provider": "dropdrift-torch",
        "Rows": "4,096",
        "ms": "4.096",
        "p20 to p80": "4.092 to 4.100",
        "GB/s": "2.44",
        "TFLOP/s": "0.244",
        "of floor": "25%",
        "Memory": "1.05 MB",
        "Error": "1.0e-06",
        "Check": "passed",
        "To best other": "1.50",
    }


def test_the_figure_has_every_point_and_the_floor(run: KernelRun) -> None:
    time, ratio, share = speed_figure(run.measurements).axes
    lines = {container.get_label(): container for container in time.containers}
    assert set(lines) == {"eager", "dropdrift-torch"}
    drawn = lines["dropdrift-torch"].lines[0]
    assert list(drawn.get_xdata()) == [1024, 4096, 6000]
    assert list(drawn.get_ydata()) == pytest.approx([1.024, 4.096, 6.0])
    floor = [line for line in time.lines if list(line.get_ydata()) == [0.256, 1.024, 1.5]]
    assert len(floor) == 1
    assert [list(line.get_ydata()) for line in ratio.lines[:2]] == [
        pytest.approx([1, 1, 1]),
        pytest.approx([2, 2, 2]),
    ]
    assert list(share.lines[1].get_ydata()) == pytest.approx([25, 25, 25])


def test_one_number_of_rows_has_a_row_for_each_provider() -> None:
    eager = made_measurement(made_timing(8))
    ours = made_measurement(made_timing(4), provider="dropdrift-torch")
    time, ratio, share = speed_figure([eager, ours]).axes
    assert [text.get_text() for text in time.get_yticklabels()] == ["eager", "dropdrift-torch"]
    assert [line.get_xdata()[0] for line in ratio.lines[:2]] == [1, 2]
    assert [line.get_xdata()[0] for line in share.lines[:2]] == [6.25, 12.5]


def test_a_result_that_failed_has_no_speed_but_its_reason(run: KernelRun) -> None:
    wrong = made_measurement(None, provider="compile", rows=1024, error=None)
    page = kernel_page([dataclasses.replace(run, measurements=(*run.measurements, wrong))])
    row = next(row for row in read(page).rows if row[0] == "compile")
    assert row[2:7] == ["-"] * 5
    assert row[8:10] == ["-", "failed"]
    assert "compile, 1,024 rows, 200 fields, 128 wide, 256 hidden units: it is wrong" in page
    left_out = dataclasses.replace(wrong, passed=None, reason="left out: no compiler")
    page = kernel_page([made_run([left_out])])
    assert read(page).rows[1][-2] == "-"
    assert "left out: no compiler" in page
    only = kernel_page([made_run([wrong])])
    assert "svg" not in read(only).tags


def test_replays_of_graphs_are_beside_the_calls() -> None:
    measurements = [
        dataclasses.replace(m, graph_timing=made_timing(m.rows / 2000), device="NVIDIA H200")
        for m in curve("dropdrift-triton", 1.0)
    ]
    page = kernel_page([made_run(measurements, hardware=H200)])
    header, *rows = read(page).rows
    assert [row[header.index("graph ms")] for row in rows] == ["0.5120", "2.048", "3.000"]
    assert "Hollow markers: replays of a CUDA graph." in page
    assert "eager has no time" in page
    assert "<h2>denoiser, forward, float32, relu, NVIDIA H200</h2>" in page


def test_operators_directions_types_and_machines_have_sections() -> None:
    base = made_measurement(made_timing(1))
    run = made_run(
        [
            base,
            dataclasses.replace(base, direction="both"),
            dataclasses.replace(base, dtype="bfloat16"),
            dataclasses.replace(base, hidden=512),
            dataclasses.replace(base, op="mask-features", activation="", hidden=0, width=16),
        ]
    )
    page = kernel_page([run])
    assert re.findall("<h2>(.*?)</h2>", page)[:-2] == [
        "denoiser, forward, float32, relu, CPU",
        "denoiser, both, float32, relu, CPU",
        "denoiser, forward, bfloat16, relu, CPU",
        "mask-features, forward, float32, CPU",
    ]
    assert read(page).tags.count("svg") == 5
    assert "200 fields, 16 wide each" in page
    other = made_run([base], hardware=HARDWARE | {"cpu": "another"})
    titles = re.findall("<h2>(.*?)</h2>", kernel_page([run, other]))
    assert "denoiser, forward, float32, relu, CPU, on another, 2 cores, 2 threads" in titles


def test_the_newest_measurement_is_shown(run: KernelRun) -> None:
    later = made_run(curve("eager", 3.0), date="2026-11-23T12:00:00+00:00")
    rows = read(kernel_page([run, later])).rows[1:]
    assert [row[2] for row in rows if row[0] == "eager"] == ["3.072", "12.29", "18.00"]
    assert len(rows) == 6


def test_where_it_was_measured_is_said(run: KernelRun) -> None:
    page = kernel_page([run])
    assert unescape(page).count("2026-11-22 12:00:00 UTC: a processor, 2 cores, 2 threads;") == 1
    for text in (
        "revision 0123456789; torch 2.13.0;",
        "copies at 20.0 GB/s, matrix products at float32 0.100 TFLOP/s, bfloat16 0.200 TFLOP/s",
        "load average 0.2 to 1.0",
        "dropdrift bench kernels",
    ):
        assert text in page


def test_names_are_text() -> None:
    wrong = made_measurement(None, provider="<b>who</b>", reason="<i>why</i>")
    page = kernel_page([made_run([wrong], hardware=HARDWARE | {"cpu": "<u>what</u>"})])
    for tag in ("<b>who", "<i>why", "<u>what"):
        assert tag not in page
    assert "&lt;i&gt;why" in page


def test_equal_measurements_make_equal_pages(run: KernelRun) -> None:
    assert kernel_page([run]) == kernel_page([run])
