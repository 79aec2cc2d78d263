"""Which torch, torchrec and fbgemm belong together, judged from package metadata alone.

The three are compiled against each other: a mixed set does not say so, it dies of an undefined
symbol or crashes. Nothing here imports them, so the judgement costs milliseconds.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from importlib import metadata

FBGEMM_DISTRIBUTIONS = ("fbgemm-gpu", "fbgemm-gpu-cpu")
STACK = ("torch", "torchrec", *FBGEMM_DISTRIBUTIONS)
# torchrec names fbgemm-gpu as a dependency, whatever the machine: it is installed with --no-deps,
# and its other needs by name.
TORCHREC_NEEDS = ("iopath", "pyre-extensions", "tensordict", "torchmetrics==1.0.3", "tqdm")


@dataclass(frozen=True)
class MatchedSet:
    """Versions, to the minor number, that were built for each other."""

    torch: str
    torchrec: str
    fbgemm: str
    triton: str


MATCHED_SETS = (
    MatchedSet("2.13", "1.8", "1.8", triton="3.7"),
    MatchedSet("2.11", "1.6", "1.6", triton="3.6"),
)


def installed_versions(packages: tuple[str, ...] = STACK) -> dict[str, str]:
    """The versions of those of ``packages`` that are installed, by distribution name."""
    versions: dict[str, str] = {}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def require_matched_stack() -> None:
    """ValueError, in one line with the command that mends it, if the installed set is mixed."""
    problem = stack_problem(installed_versions())
    if problem:
        raise ValueError(problem)


def stack_problem(versions: dict[str, str]) -> str:
    """What is wrong with a set of installed versions, and what to do; empty if it matches."""
    fbgemm = [name for name in FBGEMM_DISTRIBUTIONS if name in versions]
    wanted = _matched_set(versions.get("torch", ""))
    if len(fbgemm) > 1:
        reason = "fbgemm-gpu and fbgemm-gpu-cpu share one folder, only one may be installed"
    elif fbgemm == ["fbgemm-gpu"] and _is_cpu_build(versions):
        reason = "fbgemm-gpu needs a CUDA build of torch"
    elif not _matches(versions, wanted):
        together = f"torch {wanted.torch}, torchrec {wanted.torchrec} and fbgemm {wanted.fbgemm}"
        reason = f"known to match are {together}"
    else:
        return ""
    return f"installed: {_found(versions)}; {reason}; run: {_remedy(versions, fbgemm, wanted)}"


def triton_for(torch_version: str) -> str:
    """The triton, to the minor number, that a torch is made with; the newest one's without torch.

    Nothing requires it: on a CPU all runs without it.
    """
    return _matched_set(torch_version).triton


def gpu_names() -> list[str]:
    """The NVIDIA GPUs that the driver lists; none without a working driver."""
    return nvidia_smi("name")


def nvidia_smi(what: str) -> list[str]:
    """A property of each GPU that the driver lists, by nvidia-smi's name for it."""
    try:
        listing = subprocess.run(
            ["nvidia-smi", f"--query-gpu={what}", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return listing.stdout.splitlines()


def _matched_set(torch_version: str) -> MatchedSet:
    """The set of the installed torch; the newest one where there is none."""
    matching = (known for known in MATCHED_SETS if known.torch == _minor(torch_version))
    return next(matching, MATCHED_SETS[0])


def _matches(versions: dict[str, str], wanted: MatchedSet) -> bool:
    found = [_minor(versions.get(name, "")) for name in ("torch", "torchrec")]
    fbgemm = [_minor(versions[name]) for name in FBGEMM_DISTRIBUTIONS if name in versions]
    return [*found, *fbgemm] == [wanted.torch, wanted.torchrec, wanted.fbgemm]


def _found(versions: dict[str, str]) -> str:
    fbgemm = [name for name in FBGEMM_DISTRIBUTIONS if name in versions] or ["fbgemm"]
    names = ("torch", "torchrec", *fbgemm)
    return ", ".join(f"{name} {versions.get(name, '(none)')}" for name in names)


def _remedy(versions: dict[str, str], fbgemm: list[str], wanted: MatchedSet) -> str:
    if _is_cpu_build(versions):
        right = "fbgemm-gpu-cpu"
    elif len(fbgemm) == 1:
        right = fbgemm[0]
    else:
        right = "fbgemm-gpu" if gpu_names() else "fbgemm-gpu-cpu"
    uninstall = "" if fbgemm in ([], [right]) else f"pip uninstall -y {' '.join(fbgemm)} && "
    needs = "" if "torchrec" in versions else "".join(f" '{need}'" for need in TORCHREC_NEEDS)
    return (
        f"{uninstall}pip install 'torch=={wanted.torch}.*' '{right}=={wanted.fbgemm}.*'{needs} "
        f"&& pip install --no-deps 'torchrec=={wanted.torchrec}.*'"
    )


def _is_cpu_build(versions: dict[str, str]) -> bool:
    return versions.get("torch", "").endswith("+cpu")


def _minor(version: str) -> str:
    return ".".join(version.split("+")[0].split(".")[:2])
