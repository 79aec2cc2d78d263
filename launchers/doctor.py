"""``dropdrift doctor``: whether this machine can train, in one table.

Versions are judged from metadata first. Then each package is imported in a process of its own, so
that an undefined symbol or a crash of a compiled library is a line here and not the end.
"""

from __future__ import annotations

import json
import platform
import shutil
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from dropdrift.launchers.options import parse_config
from dropdrift.launchers.stack import gpu_names, installed_versions, stack_problem

Status = Literal["ok", "warning", "error"]

IMPORT_TIMEOUT = 180  # seconds; the first import from a network drive is slow
RENDEZVOUS_PORT = 29500  # torchrun's default
LOW_DISK_GIB = 10
LOW_MEMORY_GIB = 4

_PYARROW_PROBE = "import pyarrow.parquet; print(pyarrow.__version__)"
_STACK_PROBES = {
    "torch": "import torch; print(torch.__version__)",
    "fbgemm": "import fbgemm_gpu; print(fbgemm_gpu.__version__)",
    "torchrec": "import torchrec; print(torchrec.__version__)",
    "gloo": """
import torch
from torch import distributed
distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
distributed.all_reduce(torch.ones(1))
distributed.destroy_process_group()
print("all-reduce works")
""",
}
_GPU_PROBES = {
    "triton": "import triton; print(triton.__version__)",
    "GPU": """
import torch
assert torch.cuda.is_available(), f"torch {torch.__version__} finds no CUDA device"
names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
torch.ones(1, device="cuda").sum().item()
print(f"{len(names)} x {names[0]}, CUDA {torch.version.cuda}, NCCL {torch.cuda.nccl.version()}")
""",
}


@dataclass(frozen=True)
class DoctorConfig:
    """Options of the doctor.

    Attributes:
        json: Print the checks as JSON.
    """

    json: bool = False


@dataclass(frozen=True)
class Check:
    """One line of the table."""

    name: str
    status: Status
    detail: str


def run(arguments: list[str]) -> int:
    """Print the checks; 0 if none is an error, else 2."""
    config = parse_config(
        DoctorConfig, arguments, prog="dropdrift doctor", description="Check this machine."
    )
    checks = examine()
    if config.json:
        print(json.dumps([asdict(check) for check in checks], indent=2))
    else:
        _print_table(checks)
    return 2 if any(check.status == "error" for check in checks) else 0


def examine() -> list[Check]:
    """All checks, in the table's order."""
    gpus = gpu_names()
    stack = check_stack(installed_versions(), gpus)
    return [
        check_python(),
        stack,
        *_check_imports(gpus, matched=stack.status != "error"),
        check_disk(Path.cwd()),
        check_memory(),
        check_port(RENDEZVOUS_PORT),
    ]


def check_python() -> Check:
    """The interpreter's version and place."""
    status: Status = "ok" if sys.version_info >= (3, 11) else "error"
    hint = "" if status == "ok" else "; 3.11 or newer is needed"
    return Check("Python", status, f"{platform.python_version()}, {sys.executable}{hint}")


def check_stack(versions: dict[str, str], gpus: list[str]) -> Check:
    """Whether torch, torchrec and fbgemm belong together, and with the GPUs that are there."""
    problem = stack_problem(versions)
    if problem:
        return Check("matched set", "error", problem)
    found = ", ".join(f"{name} {version}" for name, version in versions.items())
    if gpus and "fbgemm-gpu" not in versions:
        advice = "for training on it: make clean, then make venv STACK=cuda"
        return Check("matched set", "warning", f"{found}; there is a GPU ({gpus[0]}); {advice}")
    return Check("matched set", "ok", found)


def check_import(name: str, code: str) -> Check:
    """Run ``code`` in a process of its own; what it prints last is the detail."""
    command = [sys.executable, "-P", "-W", "ignore", "-c", code]  # -P: not from this folder
    try:
        probe = subprocess.run(command, capture_output=True, text=True, timeout=IMPORT_TIMEOUT)
    except subprocess.TimeoutExpired:
        return Check(name, "error", f"took longer than {IMPORT_TIMEOUT} seconds")
    if probe.returncode < 0:
        return Check(name, "error", f"crashed ({signal.Signals(-probe.returncode).name})")
    status: Status = "error" if probe.returncode else "ok"
    said = (probe.stderr if probe.returncode else probe.stdout).strip().splitlines()
    return Check(name, status, said[-1].strip() if said else f"exit code {probe.returncode}")


def check_disk(folder: Path) -> Check:
    """Free space where a run would be written."""
    free = shutil.disk_usage(folder).free / 2**30
    return Check("disk", _enough(free, LOW_DISK_GIB), f"{free:.0f} GiB free in {folder}")


def check_memory() -> Check:
    """Memory that is free, or could be made free."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        available = next(line for line in lines if line.startswith("MemAvailable:"))
        free = int(available.split()[1]) / 2**20
    except (OSError, StopIteration, ValueError):
        return Check("memory", "warning", "cannot be read on this system")
    return Check("memory", _enough(free, LOW_MEMORY_GIB), f"{free:.1f} GiB available")


def check_port(port: int) -> Check:
    """Whether processes can meet on ``port`` of this machine."""
    with socket.socket() as listener:
        try:
            listener.bind(("127.0.0.1", port))
        except OSError as error:
            advice = "torchrun --standalone takes a free one"
            return Check("TCP port", "warning", f"{port}: {error.strerror}; {advice}")
    return Check("TCP port", "ok", f"{port} is free")


def _check_imports(gpus: list[str], matched: bool) -> list[Check]:
    """Importing a mixed set would only repeat, less clearly, what its check says."""
    probes = {"pyarrow": _PYARROW_PROBE}
    if matched:
        probes |= _STACK_PROBES
    if matched and gpus:
        probes |= _GPU_PROBES
    with ThreadPoolExecutor(max_workers=2) as pool:
        checks = list(pool.map(check_import, probes, probes.values()))
    if not gpus:
        checks.append(Check("GPU", "ok", "none: training runs on the CPU, triton is not needed"))
    return checks


def _enough(free: float, low: float) -> Status:
    return "ok" if free >= low else "warning"


def _print_table(checks: list[Check]) -> None:
    for check in checks:
        print(f"{check.status:<8} {check.name:<12} {check.detail}")
