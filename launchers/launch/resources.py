"""What a node of a job is asked to have."""

from __future__ import annotations

from torchx.specs import Resource

from dropdrift.launchers.launch.config import JobOptions
from dropdrift.sharding.hardware import load_hardware

NOT_ASKED_FOR = -1  # TorchX's, for memory
# Of a node's memory: the system takes some, and a request for all of it is never met.
MEMORY_SHARE = 0.9


def node_resource(options: JobOptions) -> Resource:
    """Cores, GPUs and memory (MiB, which TorchX calls MB) of one node.

    A node that runs fewer processes than it has GPUs asks for as many of them, and for the same
    share of its memory.

    Raises:
        ValueError: the hardware is unknown, or has fewer GPUs a node than there are processes.
    """
    processes = options.shape.processes
    cpus = options.cpus or processes
    if not options.hardware:
        return Resource(cpu=cpus, gpu=0, memMB=NOT_ASKED_FOR)
    hardware = load_hardware(options.hardware)
    on_gpus = hardware.device == "cuda"
    if on_gpus and processes > hardware.gpus_per_node:
        raise ValueError(
            f"-j {options.j} has {processes} processes a node, and {hardware.name} has "
            f"{hardware.gpus_per_node} GPUs: one process each"
        )
    share = min(1.0, processes / hardware.gpus_per_node)
    return Resource(
        cpu=cpus,
        gpu=processes if on_gpus else 0,
        memMB=int(hardware.host_memory_gib * share * MEMORY_SHARE * 1024),
    )
