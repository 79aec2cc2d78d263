"""Measurements survive the file, and a broken line is told with its number."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from dropdrift.benchmarks.kernels.record import (
    Ceilings,
    Clocks,
    GpuClocks,
    KernelRun,
    MatmulRate,
    Measurement,
    Timing,
    append_records,
    read_records,
)

MEASUREMENT = Measurement(
    op="denoiser",
    provider="eager",
    direction="both",
    rows=32_768,
    fields=200,
    width=128,
    hidden=256,
    dtype="bfloat16",
    device="cpu",
    activation="relu",
    timing=Timing(2.0, 1.5, 2.5, 2.25, 12, 12),
    graph_timing=None,
    bytes_moved=1000,
    flops=0,
    floor_ms=0.5,
    memory_bytes=None,
    error=1e-3,
    tolerance=1e-2,
    passed=True,
    reason="",
    ratio_to_best_other=0.75,
)
LEFT_OUT = dataclasses.replace(
    MEASUREMENT, timing=None, passed=False, reason="wrong", ratio_to_best_other=None, error=None
)
RUN = KernelRun(
    run="first",
    measurements=(MEASUREMENT, LEFT_OUT),
    ceilings=Ceilings(20.5, (MatmulRate("bfloat16", 0.5), MatmulRate("float32", 0.25))),
    clocks=Clocks("a processor", 2, (0.5, 1.0), None, GpuClocks(1980.0, None, 300.5, 41.0)),
    provenance={"command": "dropdrift bench kernels", "config": {"out": "x"}, "git": None},
)


def test_what_is_appended_is_read(tmp_path: Path) -> None:
    path = tmp_path / "new" / "kernels.jsonl"
    append_records(path, RUN)
    second = dataclasses.replace(RUN, run="second", measurements=(LEFT_OUT,))
    append_records(path, second)
    assert read_records(path) == [RUN, second]
    assert len(path.read_text().splitlines()) == 3


def test_a_run_that_was_appended_in_parts_is_one(tmp_path: Path) -> None:
    path = tmp_path / "kernels.jsonl"
    later = dataclasses.replace(
        RUN,
        measurements=(MEASUREMENT,),
        clocks=dataclasses.replace(RUN.clocks, load=(0.5, 2.0)),
    )
    append_records(path, RUN)
    append_records(path, later)
    (run,) = read_records(path)
    assert run.measurements == (MEASUREMENT, LEFT_OUT, MEASUREMENT)
    assert run.clocks.load == (0.5, 2.0)


def test_a_type_has_its_own_rate() -> None:
    assert RUN.ceilings.tflops("float32") == 0.25


def test_infinite_numbers_are_no_json(tmp_path: Path) -> None:
    wrong = dataclasses.replace(MEASUREMENT, error=float("inf"))
    with pytest.raises(ValueError, match="not JSON compliant"):
        append_records(tmp_path / "a", dataclasses.replace(RUN, measurements=(wrong,)))
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda _: "{", r"line 3 is not valid JSON"),
        (lambda _: [1], r"line 3 is no measurement of kernels: its kind is \[1\]"),
        (lambda line: line | {"kind": "t2diff-cost"}, r"line 3 .* its kind is 't2diff-cost'"),
        (lambda line: line | {"extra": 1}, r"line 3 has the unknown key 'extra'"),
        (lambda line: {k: v for k, v in line.items() if k != "clocks"}, "line 3 has no key"),
        (lambda line: line | {"provenance": 3}, "line 3: provenance is 3, must be a mapping"),
        (
            lambda line: line | {"measurement": line["measurement"] | {"op": "softmax"}},
            "line 3: measurement: op is 'softmax', must be one of",
        ),
        (
            lambda line: line | {"measurement": line["measurement"] | {"rows": "many"}},
            "line 3: measurement: rows is 'many', must be of type int",
        ),
    ],
)
def test_a_broken_line_is_named(change, message: str, tmp_path: Path) -> None:
    path = tmp_path / "kernels.jsonl"
    append_records(path, RUN)
    lines = path.read_text().splitlines()
    broken = change(json.loads(lines[0]))
    text = broken if isinstance(broken, str) else json.dumps(broken)
    path.write_text("\n".join([*lines, text]) + "\n")
    with pytest.raises(ValueError, match=f"^{path}, {message}"):
        read_records(path)


def test_a_file_without_measurements_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "kernels.jsonl"
    with pytest.raises(ValueError, match="does not exist"):
        read_records(path)
    path.write_text("\n")
    with pytest.raises(ValueError, match="has no measurements"):
        read_records(path)
