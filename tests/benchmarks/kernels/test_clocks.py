"""How fast and busy the machine is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dropdrift.benchmarks.kernels import clocks
from dropdrift.benchmarks.kernels.clocks import parse_gpu_clocks, read_clocks
from dropdrift.benchmarks.kernels.record import GpuClocks


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("1980, 2619, 312.45, 41\n", GpuClocks(1980.0, 2619.0, 312.45, 41.0)),
        ("1980, [N/A], [Not Supported], 41\n", GpuClocks(1980.0, None, None, 41.0)),
        ("", GpuClocks(None, None, None, None)),
        ("No devices were found\n", GpuClocks(None, None, None, None)),
    ],
)
def test_what_nvidia_smi_answers(answer: str, expected: GpuClocks) -> None:
    assert parse_gpu_clocks(answer) == expected


def test_the_cores_mean_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    monkeypatch.setattr(clocks, "CPUINFO", cpuinfo)
    assert read_clocks(torch.device("cpu"), "a processor", 0.5).mhz is None
    cpuinfo.write_text("processor : 0\ncpu MHz\t\t: 2000.5\n\nprocessor : 1\ncpu MHz : 2600.1\n")
    read = read_clocks(torch.device("cpu"), "a processor", 0.5)
    assert (read.mhz, read.cpu, read.gpu) == (2300.3, "a processor", None)
    assert (read.threads, read.load[0]) == (torch.get_num_threads(), 0.5)
