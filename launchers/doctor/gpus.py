"""The GPUs, judged from what torch and the driver say of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dropdrift.launchers.doctor.check import Check, Failed, check_import, run_alone
from dropdrift.launchers.stack import nvidia_smi

# What a device must have free for others not to be in the way.
LEAST_FREE = 0.9

_DRIVER_REMEDY = (
    "install a driver for this CUDA, or a torch for the driver's; nvidia-smi shows it. "
    "CUDA_VISIBLE_DEVICES may hide the GPU"
)
_PROBE = """
import json, torch
assert torch.cuda.is_available(), f"torch {torch.__version__} finds no CUDA device"
count = torch.cuda.device_count()
devices = []
for index in range(count):
    torch.ones(1, device=f"cuda:{index}").sum().item()
    free, total = torch.cuda.mem_get_info(index)
    devices.append({
        "name": torch.cuda.get_device_name(index),
        "capability": torch.cuda.get_device_capability(index),
        "free": free,
        "total": total,
    })
print(json.dumps({
    "devices": devices,
    "built_for": torch.cuda.get_arch_list(),
    "cuda": torch.version.cuda,
    "nccl": ".".join(map(str, torch.cuda.nccl.version())),
    "without_peer": [
        [a, b] for a in range(count) for b in range(count)
        if a != b and not torch.cuda.can_device_access_peer(a, b)
    ],
}))
"""
_TRITON_PROBE = "import triton; print(triton.__version__)"


def check_gpus() -> list[Check]:
    """Of a machine whose driver lists GPUs; imports torch in a process of its own."""
    said = run_alone(_PROBE)
    if isinstance(said, Failed):
        return [said.as_check("GPU", _DRIVER_REMEDY)]
    driver = next(iter(nvidia_smi("driver_version")), "unknown")
    remedy = "pip install --force-reinstall triton"
    return [*judged(json.loads(said), driver), check_import("triton runs", _TRITON_PROBE, remedy)]


def judged(found: Mapping[str, Any], driver: str) -> Iterator[Check]:
    """The lines of what the probe has found.

    Args:
        found: ``devices`` (name, capability, free and total bytes), ``built_for`` (torch's list of
            architectures), ``cuda``, ``nccl``, ``without_peer`` (pairs of devices).
        driver: its version.
    """
    devices = found["devices"]
    names = sorted({device["name"] for device in devices})
    versions = f"driver {driver}, CUDA {found['cuda']}, NCCL {found['nccl']}"
    yield Check("GPU", "ok", f"{len(devices)} x {', '.join(names)}, {versions}")
    for index, device in enumerate(devices):
        if not runs_on(tuple(device["capability"]), found["built_for"]):
            capability = ".".join(map(str, device["capability"]))
            detail = f"{index} has capability {capability}, torch is built for "
            remedy = "install a torch that is built for it, or hide it by CUDA_VISIBLE_DEVICES"
            yield Check("GPU kernels", "error", detail + ", ".join(found["built_for"]), remedy)
    yield _memory(devices)
    if len(devices) > 1:
        yield _peers(found["without_peer"])


def runs_on(capability: tuple[int, ...], built_for: Sequence[str]) -> bool:
    """Whether code for one of the architectures runs on a device of ``capability``.

    ``sm_86`` is machine code, which runs on later minor numbers of its major one; ``compute_90`` is
    what the driver compiles for any later device. What ends in a letter runs on its own number
    alone.
    """
    for architecture in built_for:
        found = re.fullmatch(r"(sm|compute)_(\d+)(\d)([a-z]?)", architecture)
        if found is None:
            continue
        kind, made_for = found[1], (int(found[2]), int(found[3]))
        same = made_for == tuple(capability)
        within = made_for <= tuple(capability) and (
            kind == "compute" or made_for[0] == capability[0]
        )
        if same or (within and not found[4]):
            return True
    return False


def _memory(devices: Sequence[Mapping[str, Any]]) -> Check:
    least = min(devices, key=lambda device: float(device["free"] / device["total"]))
    free, total = least["free"] / 2**30, least["total"] / 2**30
    detail = f"{free:.1f} of {total:.1f} GiB free on {devices.index(least)}"
    if free >= LEAST_FREE * total:
        return Check("GPU memory", "ok", detail)
    remedy = "nvidia-smi lists the programs that hold the rest: end them or choose another GPU"
    return Check("GPU memory", "warning", detail, remedy)


def _peers(without: Sequence[Sequence[int]]) -> Check:
    if not without:
        return Check("GPU peers", "ok", "every GPU reaches every other's memory")
    pairs = ", ".join(f"{one}-{other}" for one, other in without if one < other)
    detail = f"{pairs} exchange through the host's memory"
    remedy = "nvidia-smi topo -m shows the links: choose GPUs that have one, if any do"
    return Check("GPU peers", "warning", detail, remedy)
