"""How fast and how busy the machine is."""

from __future__ import annotations

import subprocess
from pathlib import Path

import torch

from dropdrift.benchmarks.kernels.record import Clocks, GpuClocks
from dropdrift.benchmarks.machine import load_average

CPUINFO = Path("/proc/cpuinfo")
QUERY = "clocks.sm,clocks.mem,power.draw,temperature.gpu"


def read_clocks(device: torch.device, cpu: str, load_before: float) -> Clocks:
    """As they are now.

    Args:
        device: which GPU, if it is one.
        cpu: model of the processor.
        load_before: load average when the run began.
    """
    return Clocks(
        cpu=cpu,
        threads=torch.get_num_threads(),
        load=(load_before, load_average()),
        mhz=_cpu_mhz(),
        gpu=_gpu_clocks(device) if device.type == "cuda" else None,
    )


def _cpu_mhz() -> float | None:
    if not CPUINFO.is_file():
        return None
    lines = CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    clocks = [float(line.partition(":")[2]) for line in lines if line.startswith("cpu MHz")]
    return round(sum(clocks) / len(clocks), 1) if clocks else None


def _gpu_clocks(device: torch.device) -> GpuClocks:
    identity = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
    arguments = [f"--id={identity}", f"--query-gpu={QUERY}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(
            ["nvidia-smi", *arguments], capture_output=True, text=True, timeout=30, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        answer = ""
    return parse_gpu_clocks(answer)


def parse_gpu_clocks(answer: str) -> GpuClocks:
    """What nvidia-smi answered: four values, of which some may be [N/A]."""
    values = [_number(text) for text in answer.strip().split(",")]
    return GpuClocks(*values) if len(values) == 4 else GpuClocks(None, None, None, None)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
