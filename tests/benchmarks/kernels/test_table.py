"""The table a person reads."""

from __future__ import annotations

from dataclasses import replace

from dropdrift.benchmarks.kernels.record import (
    Ceilings,
    MatmulRate,
    Measurement,
    Timing,
)
from dropdrift.benchmarks.kernels.table import introduction, table

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
    timing=Timing(20.0, 15.25, 1234.5, 22.0, 12, 12),
    graph_timing=None,
    bytes_moved=40_000_000,
    flops=3_000_000_000,
    floor_ms=5.0,
    memory_bytes=38_300_000,
    error=1.23e-3,
    tolerance=1e-2,
    passed=True,
    reason="",
    ratio_to_best_other=0.5,
)
SPLIT = replace(MEASUREMENT, provider="eager-split", timing=Timing(16.0, 16.0, 16.0, 16.0, 5, 5))
OURS = replace(MEASUREMENT, provider="dropdrift-torch", timing=Timing(8.0, 8.0, 8.0, 8.0, 5, 5))
SAVING = replace(OURS, provider="dropdrift-torch-save", timing=Timing(4.0, 4.0, 4.0, 4.0, 5, 5))


def test_a_row_says_it_all() -> None:
    lines = table([MEASUREMENT, SPLIT, OURS, SAVING])
    assert lines[0] == (
        "denoiser, forward and backward: 32,768 rows, 200 fields, width 128, hidden 256, bfloat16, "
        "relu"
    )
    assert lines[1] == "at least 40.0 MB and 3.00 GFLOP: floor 5 ms (modelled)"
    titles = "median p20 p80 GB/s TFLOP/s floor saved error ok /eager /best"
    assert lines[2].split() == titles.split()
    rows = {line.split()[0]: line.split()[1:] for line in lines[3:]}
    # 40 MB in 20 ms, 3 GFLOP in 20 ms; SAVING is the best other one.
    cells = "20.00 15.25 1,234 2.00 0.150 25% 38.3 1.2e-03 yes 1.00x 0.20x"
    assert rows["eager"] == cells.replace("1,234", "1,234").split()
    assert rows["eager-split"][-2:] == ["1.25x", "0.25x"]
    # Dropdrift's other mode is not another provider: the best is eager-split.
    assert rows["dropdrift-torch"][-2:] == ["2.50x", "2.00x"]
    assert rows["dropdrift-torch-save"][-2:] == ["5.00x", "4.00x"]
    assert max(map(len, lines)) <= 100
    assert len({len(line) for line in lines[2:]}) == 1


def test_what_is_wrong_has_no_speed() -> None:
    wrong = replace(OURS, timing=None, passed=False, reason="the error is 0.5, more than 0.01")
    lines = table([MEASUREMENT, wrong])
    assert lines[-1] == (
        "dropdrift-torch        WRONG, so no speed: the error is 0.5, more than 0.01"
    )
    assert lines[-2].split()[-2:] == ["1.00x", "-"]


def test_what_is_left_out_is_not_called_wrong() -> None:
    out = replace(OURS, timing=None, passed=None, error=None, reason="left out: out of memory")
    assert table([out])[-1] == "dropdrift-torch        left out: out of memory"


def test_replays_of_a_graph_are_compared_with_one_another() -> None:
    on_gpu = [replace(m, device="NVIDIA H200") for m in (MEASUREMENT, OURS)]
    graphs = [
        replace(on_gpu[0], graph_timing=Timing(3.0, 3.0, 3.0, 3.0, 9, 9)),
        replace(on_gpu[1], graph_timing=Timing(2.0, 1.0, 2.5, 2.0, 9, 9)),
    ]
    lines = table(graphs)
    assert "peak" in lines[2]
    assert lines[6].startswith("  in a CUDA graph ")
    assert lines[6].split()[4:] == [
        "2.000",
        "1.000",
        "2.500",
        "20.0",
        "1.50",
        "250%",
        "1.50x",
        "1.50x",
    ]
    assert lines[5].split()[-1] == "2.50x"
    not_captured = replace(on_gpu[1], reason="not captured as a CUDA graph: a copy")
    assert table([on_gpu[0], not_captured])[-1] == "  not captured as a CUDA graph: a copy"


def test_words_have_no_products_and_no_widths() -> None:
    words = replace(
        MEASUREMENT,
        op="mask-words",
        direction="forward",
        width=0,
        hidden=0,
        dtype="int32",
        activation="",
        flops=0,
        memory_bytes=None,
    )
    lines = table([words])
    assert lines[0] == "mask-words, forward: 32,768 rows, 200 fields, int32"
    assert lines[3].split()[1:] == [
        "20.00",
        "15.25",
        "1,234",
        "2.00",
        "-",
        "25%",
        "-",
        "1.2e-03",
        "yes",
        "1.00x",
        "-",
    ]
    features = replace(words, op="mask-features", width=16, dtype="float32")
    assert table([features])[0].endswith("200 fields, each 16 wide, float32")


def test_the_introduction_tells_the_ceilings() -> None:
    ceilings = Ceilings(12.345, (MatmulRate("float32", 0.1234), MatmulRate("bfloat16", 1.5)))
    lines = introduction("cpu", 2, ceilings)
    text = " ".join(lines)
    assert text.startswith(
        "2 CPU threads: a copy moves 12.3 GB/s, matrix products reach float32 0.123, bfloat16 1.50 "
        "TFLOP/s."
    )
    assert "the denoiser's include drawing its mask" in text
    assert "saved: MB" in text
    on_gpu = " ".join(introduction("NVIDIA H200", 2, ceilings))
    assert on_gpu.startswith("NVIDIA H200: ")
    assert "peak: the most MB" in on_gpu
    assert max(map(len, lines)) <= 100
