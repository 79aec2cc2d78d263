"""The machines that a plan is for, and TorchRec's topology of them."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import torch
from torchrec.distributed.planner.types import (
    HardwareConfig,
    KernelConfig,
    Topology,
    TopologyFactory,
    TrainerConfig,
)

from dropdrift.sharding.config import AUTO, ShardingConfig
from dropdrift.sharding.hardware import Hardware, hardware_names, load_hardware
from dropdrift.sharding.wording import GIB

# TorchRec counts in bytes per millisecond.
BYTES_PER_MS = 1e9 / 1e3
# An 80 GB GPU has 79.2 GiB: that much more than there is may be asked for.
ROUNDED_UP = 1.05
# With less of a preset's memory, a GPU is a slice of one.
WHOLE_GPU = 0.9
# TorchRec makes a shard of a table for each rank: with a thousand, a plan takes a minute.
MAX_RANKS = 16_384


@dataclass(frozen=True)
class Cluster:
    """Ranks, one a GPU, or any number a CPU.

    Attributes:
        hardware: of every node.
        nodes: machines.
        ranks_per_node: of each.
        hbm_bytes: memory of a rank's GPU; 0 on a CPU.
        host_bytes: host memory of a rank.
    """

    hardware: Hardware
    nodes: int
    ranks_per_node: int
    hbm_bytes: int
    host_bytes: int

    @property
    def world_size(self) -> int:
        """Ranks of all nodes."""
        return self.nodes * self.ranks_per_node

    @property
    def device(self) -> str:
        """Type of the device that holds the tables: ``cuda`` or ``cpu``."""
        return self.hardware.device

    @property
    def memory_bytes(self) -> int:
        """Memory of a rank's device, in which a table is looked up at full speed."""
        return self.host_bytes if self.device == "cpu" else self.hbm_bytes


def make_cluster(
    config: ShardingConfig, hardware: Hardware, nodes: int, ranks_per_node: int
) -> Cluster:
    """The cluster with the caps that ``config`` sets, or the hardware's own.

    Raises:
        ValueError: nodes or ranks are not positive or too many, or a cap is set that the device
            does not have.
    """
    for name, value in (("nodes", nodes), ("ranks per node", ranks_per_node)):
        if value < 1:
            raise ValueError(f"{name} is {value}, must be positive")
    if nodes * ranks_per_node > MAX_RANKS:
        raise ValueError(
            f"{nodes:,} nodes of {ranks_per_node:,} ranks are more than the {MAX_RANKS:,} ranks "
            "that can be planned for"
        )
    if hardware.device == "cpu" and config.hbm_gib:
        raise ValueError(
            f"sharding.hbm_gib is {config.hbm_gib:g}, but hardware {hardware.name} has no GPU: set "
            "sharding.host_memory_gib"
        )
    if config.hbm_gib > ROUNDED_UP * hardware.hbm_gib > 0:
        raise ValueError(
            f"sharding.hbm_gib is {config.hbm_gib:g}, but a GPU of hardware {hardware.name} has "
            f"{hardware.hbm_gib:g}"
        )
    return Cluster(
        hardware=hardware,
        nodes=nodes,
        ranks_per_node=ranks_per_node,
        hbm_bytes=int((config.hbm_gib or hardware.hbm_gib) * GIB),
        host_bytes=int((config.host_memory_gib or hardware.host_memory_gib / ranks_per_node) * GIB),
    )


def to_topology(cluster: Cluster) -> Topology:
    """TorchRec's topology of the cluster."""
    hardware = cluster.hardware
    return TopologyFactory.create_topology(
        TrainerConfig(world_size=cluster.world_size, local_world_size=cluster.ranks_per_node),
        HardwareConfig(
            hbm_cap_bytes=cluster.hbm_bytes,
            ddr_cap_bytes=cluster.host_bytes,
            ssd_cap_bytes=0,
            hbm_mem_bw=hardware.hbm_gb_per_s * BYTES_PER_MS or None,
            # Ranks of a node share its host memory's bandwidth.
            ddr_mem_bw=hardware.host_gb_per_s * BYTES_PER_MS / cluster.ranks_per_node,
            hbm_to_ddr_mem_bw=hardware.host_link_gb_per_s * BYTES_PER_MS or None,
            intra_host_bw=hardware.intra_node_gb_per_s * BYTES_PER_MS,
            inter_host_bw=hardware.inter_node_gb_per_s * BYTES_PER_MS,
        ),
        # Without it, TorchRec puts its own figures in the place of the bandwidths.
        KernelConfig(compute_device=cluster.device, use_hardware_based_bandwidth=True),
    )


def hardware_of(config: ShardingConfig, device: torch.device) -> Hardware:
    """The hardware that ``config`` names, or where it says ``auto`` that of ``device``.

    A GPU that no preset knows gets the figures of the preset GPU and its own memory.

    Raises:
        ValueError: the named hardware is unknown or has another type of device.
    """
    if config.hardware == AUTO:
        return load_hardware("CPU") if device.type == "cpu" else _gpu(device)
    hardware = load_hardware(config.hardware)
    if hardware.device != device.type:
        raise ValueError(
            f"sharding.hardware is {config.hardware!r}, of device {hardware.device}, but the run "
            f"is on {device.type}"
        )
    return hardware


def _gpu(device: torch.device) -> Hardware:
    properties = torch.cuda.get_device_properties(device)
    memory = properties.total_memory / GIB
    presets = [load_hardware(name) for name in hardware_names()]
    known = [p for p in presets if any(part in properties.name for part in p.device_names)]
    if known:
        preset = min(known, key=lambda preset: abs(preset.hbm_gib - memory))
        return preset if memory > WHOLE_GPU * preset.hbm_gib else replace(preset, hbm_gib=memory)
    logging.getLogger(__name__).warning(
        "no hardware preset is known for %s: its estimates use TorchRec's default figures; "
        "dropdrift plan calibrate measures this machine's",
        properties.name,
    )
    return replace(load_hardware("GPU"), hbm_gib=memory)
