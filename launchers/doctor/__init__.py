"""``dropdrift doctor``: whether this machine can train, in one table.

Versions are judged from metadata first. Then each package is imported in a process of its own, so
that an undefined symbol or a crash of a compiled library is a line here and not the end.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from dropdrift.launchers.doctor.check import Check, check_import
from dropdrift.launchers.doctor.gpus import check_gpus
from dropdrift.launchers.doctor.machine import (
    RENDEZVOUS_PORT,
    check_disk,
    check_host_name,
    check_memory,
    check_port,
    check_shared_memory,
)
from dropdrift.launchers.doctor.packages import (
    check_compiler,
    check_python,
    check_stack,
    check_torchx,
    check_triton,
)
from dropdrift.launchers.options import parse_config
from dropdrift.launchers.stack import STACK, gpu_names, installed_versions

_REINSTALL = "make clean, then make venv; or pip install --force-reinstall of this very version"
_PYARROW_PROBE = "import pyarrow.parquet; print(pyarrow.__version__)"
_STACK_PROBES = {
    "torch": "import torch; print(torch.__version__)",
    "fbgemm": "import fbgemm_gpu; print(fbgemm_gpu.__version__)",
    "torchrec": "import torchrec; print(torchrec.__version__)",
}
_GLOO_PROBE = """
import torch
from torch import distributed
distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
distributed.all_reduce(torch.ones(1))
distributed.destroy_process_group()
print("all-reduce works")
"""


@dataclass(frozen=True)
class DoctorConfig:
    """Options of the doctor.

    Attributes:
        folder: Where runs are to be written: its disk is looked at.
        json: Print the checks as JSON.
    """

    folder: Path = Path()
    json: bool = False


def run(arguments: list[str]) -> int:
    """Print the checks; 0 if none is an error, else 2."""
    config = parse_config(
        DoctorConfig, arguments, prog="dropdrift doctor", description="Check this machine."
    )
    checks = examine(config.folder)
    if config.json:
        print(json.dumps([asdict(check) for check in checks], indent=2))
    else:
        for check in checks:
            print(check.line)
    return 2 if any(check.status == "error" for check in checks) else 0


def examine(folder: Path) -> list[Check]:
    """All checks, in the table's order; runs are to be written into ``folder``."""
    gpus = gpu_names()
    versions = installed_versions((*STACK, "triton", "torchx"))
    stack = check_stack(versions, gpus)
    return [
        check_python(),
        stack,
        check_triton(versions, gpus),
        check_torchx(versions),
        *_check_by_running(gpus, matched=stack.status != "error"),
        check_disk(folder),
        check_memory(),
        check_shared_memory(gpus),
        check_host_name(socket.gethostname()),
        check_port(RENDEZVOUS_PORT),
    ]


def _check_by_running(gpus: list[str], matched: bool) -> list[Check]:
    """Importing a mixed set would only repeat, less clearly, what its check says."""
    remedy = "pip install --force-reinstall pyarrow"
    probes: list[Callable[[], Check]] = [partial(check_import, "pyarrow", _PYARROW_PROBE, remedy)]
    if matched:
        probes += [
            partial(check_import, name, code, _REINSTALL) for name, code in _STACK_PROBES.items()
        ]
        remedy = "name the network's interface in GLOO_SOCKET_IFNAME"
        probes += [
            partial(check_import, "gloo", _GLOO_PROBE, remedy),
            partial(check_compiler, gpus),
        ]
    with ThreadPoolExecutor(max_workers=2) as pool:
        checks = [probe.result() for probe in [pool.submit(probe) for probe in probes]]
    if gpus and matched:
        return [*checks, *check_gpus()]
    if not gpus:
        checks.append(Check("GPU", "ok", "none: training runs on the CPU"))
    return checks
