"""The specimens of all kernels: a new kernel's are found without being listed anywhere."""

from __future__ import annotations

import importlib
import pkgutil
from collections import Counter
from collections.abc import Iterator, Sequence

from dropdrift.kernels.ahead_of_time.resources import GPUS
from dropdrift.kernels.specimen import Specimen

KERNELS = "dropdrift.kernels"
CAPABILITIES = tuple(GPUS)


def all_specimens(
    capabilities: Sequence[int] = CAPABILITIES, package: str = KERNELS
) -> list[Specimen]:
    """What ``specimens(capability)`` of every module ``triton_*.py`` in ``package`` returns.

    A module without that function has only what other kernels call.

    Raises:
        ValueError: two specimens have one name.
    """
    specimens = [
        specimen
        for module in map(importlib.import_module, kernel_modules(package))
        if hasattr(module, "specimens")
        for capability in capabilities
        for specimen in module.specimens(capability)
    ]
    counts = Counter(specimen.name for specimen in specimens)
    if twice := [name for name, count in counts.items() if count > 1]:
        raise ValueError(f"several specimens have one name: {', '.join(twice)}")
    return specimens


def kernel_modules(package: str = KERNELS) -> Iterator[str]:
    """Full names of the modules ``triton_*.py`` in a package and the packages in it."""
    paths = importlib.import_module(package).__path__
    for module in pkgutil.walk_packages(paths, f"{package}.", onerror=_import_again):
        if module.name.rpartition(".")[2].startswith("triton_"):
            yield module.name


def _import_again(package: str) -> None:
    """Raises what walk_packages would pass over, and the package's kernels with it."""
    importlib.import_module(package)
