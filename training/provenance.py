"""Where a result comes from, and how it is written: every result file carries both.

Needs no torch: what torch alone knows is told when it has been imported.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import platform
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import dropdrift
from dropdrift.training.durable_files import sync

# fbgemm has one distribution for the CPU and one for CUDA.
DISTRIBUTIONS = (
    "torch",
    "torchrec",
    "fbgemm-gpu",
    "fbgemm-gpu-cpu",
    "triton",
    "numpy",
    "pyarrow",
)


def provenance(config: Any, seed: int | None = None) -> dict[str, Any]:
    """What is needed to run a result again and to judge its timings.

    Args:
        config: the resolved options, a dataclass or a mapping.
        seed: the seed of the run; None where nothing is random.

    Returns:
        Plain lists and dictionaries: command, config, seed, versions, hardware (memory in bytes),
        git (None outside a checkout of dropdrift), date (UTC, ISO 8601), world_size and job (None
        without one).
    """
    return {
        "command": _command(),
        "config": plain(config),
        "seed": seed,
        "versions": _versions(),
        "hardware": _hardware(),
        "git": _git(Path(dropdrift.__file__).resolve().parents[2]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "world_size": _world_size(),
        "job": job_id(),
    }


def job_id() -> str | None:
    """What torchrun calls the job that it started this process for; None where it has no name.

    It stays the same when torchrun, or the scheduler of a launched job, starts the job again.
    """
    name = os.environ.get("TORCHELASTIC_RUN_ID", "none")
    return None if name == "none" else name


def plain(value: Any) -> Any:
    """``value`` as JSON can hold it: dataclasses as dictionaries, paths as text, NaN as None."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and math.isnan(value):
        return None
    return value


def write_result(path: Path, payload: Any) -> None:
    """Write ``payload``, anything that :func:`plain` takes, as JSON through :func:`write_whole`.

    Raises:
        ValueError: a number is infinite, which JSON does not know.
        TypeError: a value is of a type that JSON does not know.
    """
    text = json.dumps(plain(payload), indent=2, ensure_ascii=False, allow_nan=False)
    write_whole(path, text + "\n")


def check_writable(path: Path) -> None:
    """Make sure, before the work, that its result can be written to ``path``.

    Folders on the way are made.

    Raises:
        ValueError: it cannot.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder: name a file to write")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {error.strerror}") from error


def write_whole(path: Path, text: str) -> None:
    """Write ``text`` as :func:`whole_file` does."""
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yields a path to write to, so that ``path`` holds all of it or what it held before.

    That holds where the machine loses power, too. Folders on the way are made. What is written
    replaces ``path`` if the block ends without error.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield partial
        sync(partial)
        partial.replace(path)
        sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def _command() -> str:
    program = Path(sys.argv[0])
    name = f"python -m {program.parent.name}" if program.name == "__main__.py" else program.name
    return shlex.join([*name.split(), *sys.argv[1:]])


def _versions() -> dict[str, str]:
    versions = {"dropdrift": dropdrift.__version__, "python": platform.python_version()}
    for name in DISTRIBUTIONS:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _hardware() -> dict[str, Any]:
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "gpus": _gpus(),
    }


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def _gpus() -> list[dict[str, Any]]:
    """Name and memory (bytes) of the GPUs that torch sees; none while torch is not imported."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return []
    devices = map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
    return [{"name": device.name, "memory": device.total_memory} for device in devices]


def _git(checkout: Path) -> dict[str, Any] | None:
    """Revision of ``checkout``, and whether files differ from it; None if it is no checkout."""
    if not (checkout / ".git").exists():
        return None
    try:
        revision, changes = (
            subprocess.run(
                ["git", "-C", str(checkout), *arguments],
                capture_output=True,
                check=True,
                text=True,
                timeout=30,
            ).stdout.strip()
            for arguments in (["rev-parse", "HEAD"], ["status", "--porcelain"])
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return {"revision": revision, "dirty": bool(changes)}


def _world_size() -> int:
    torch = sys.modules.get("torch")
    if torch is None or not torch.distributed.is_available():
        return 1
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
