"""The interpreter, the packages and the compiler."""

from __future__ import annotations

import platform
import shlex
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

from dropdrift.launchers.doctor.check import Check, Status, check_import
from dropdrift.launchers.stack import FBGEMM_DISTRIBUTIONS, stack_problem, triton_for

TORCHX = "0.7"  # what `pip install 'dropdrift[launch]'` brings, to the minor number

_COMPILER_PROBE = """
from dropdrift.kernels.feature_dropout.compiled_words import compiled_library
assert compiled_library() is not None, "none that works"
print("works: mask words on the CPU are compiled")
"""


def check_python() -> Check:
    """The interpreter's version and place."""
    found = f"{platform.python_version()}, {sys.executable}"
    new_enough = sys.version_info >= (3, 11)
    remedy = "" if new_enough else "install 3.11 or newer, then make PYTHON=python3.11"
    return Check("Python", "ok" if new_enough else "error", found, remedy)


def check_stack(versions: Mapping[str, str], gpus: list[str]) -> Check:
    """Whether torch, torchrec and fbgemm belong together, and with the GPUs that are there."""
    problem = stack_problem(dict(versions))
    if problem:
        found, _, remedy = problem.rpartition("; ")
        return Check("matched set", "error", found, remedy)
    named = [name for name in ("torch", "torchrec", *FBGEMM_DISTRIBUTIONS) if name in versions]
    found = ", ".join(f"{name} {versions[name]}" for name in named)
    if gpus and "fbgemm-gpu" not in versions:
        found = f"{found}; there is a GPU ({gpus[0]})"
        remedy = "for training on it: make clean, then make venv STACK=cuda"
        return Check("matched set", "warning", found, remedy)
    return Check("matched set", "ok", found)


def check_triton(versions: Mapping[str, str], gpus: list[str]) -> Check:
    """Whether triton is there, and the one that the installed torch was made with."""
    wanted = triton_for(versions.get("torch", ""))
    remedy = f"pip install 'triton=={wanted}.*'"
    found = versions.get("triton")
    if found is None:
        use = "the kernels run in plain torch" if gpus else "only dropdrift bench inspect needs it"
        return Check("triton", "warning", f"none: {use}", remedy)
    if found.startswith(f"{wanted}."):
        return Check("triton", "ok", found)
    status: Status = "error" if gpus else "warning"
    return Check("triton", status, f"{found}, and this torch is made for {wanted}", remedy)


def check_torchx(versions: Mapping[str, str]) -> Check:
    """Whether TorchX is there, which launching needs."""
    found, remedy = versions.get("torchx"), "pip install 'dropdrift[launch]'"
    if found is None:
        return Check("torchx", "warning", "none: dropdrift launch needs it", remedy)
    if not found.startswith(f"{TORCHX}."):
        detail = f"{found}, and dropdrift launch is made for {TORCHX}"
        return Check("torchx", "warning", detail, remedy)
    return Check("torchx", "ok", found)


def check_compiler(gpus: list[str], headers: Path | None = None) -> Check:
    """Whether a C compiler makes what the kernels ask of it; imports torch.

    Args:
        gpus: with them triton needs a compiler too, and Python's headers.
        headers: folder of ``Python.h``; by default this interpreter's.
    """
    use = "triton needs one" if gpus else "without one, mask words take 30 times as long on a CPU"
    remedy = f"apt-get install gcc, or name one in CC: {use}"
    check = check_import("C compiler", _COMPILER_PROBE, remedy, "error" if gpus else "warning")
    headers = headers or Path(sysconfig.get_paths()["include"])
    if gpus and check.status == "ok" and not (headers / "Python.h").is_file():
        detail = f"works, but {shlex.quote(str(headers))} has no Python.h, which triton includes"
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        return Check("C compiler", "error", detail, f"apt-get install {version}-dev")
    return check
