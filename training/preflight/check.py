"""The check of all ranks before the first step."""

from __future__ import annotations

from typing import Any

import torch.distributed as dist

from dropdrift.training.distributed import Ranks
from dropdrift.training.preflight.config import PreflightConfig
from dropdrift.training.preflight.judgement import findings, slowest_link
from dropdrift.training.preflight.machine import Machine, check_versions, this_machine
from dropdrift.training.preflight.measuring import (
    NUMBER_BYTES,
    Exchange,
    Link,
    measure_exchanges,
    measure_links,
    measure_work,
)
from dropdrift.training.preflight.report import Preflight, print_preflight, size_text
from dropdrift.training.provenance import provenance


def check_ranks(ranks: Ranks, config: PreflightConfig) -> Preflight:
    """Check and measure all ranks, and print the result on the first; every rank must call.

    Args:
        ranks: this process among all, in its process group, whose timeout is that of every wait.
        config: sizes and repetitions.

    Returns:
        The same on every rank.

    Raises:
        ValueError: on every rank: one has other versions than the first, or there is only one and
            ``config`` asks for a bandwidth.
    """
    if config.least_bandwidth and ranks.world_size == 1:
        raise ValueError(
            f"least_bandwidth is {config.least_bandwidth}, and one rank exchanges nothing: start "
            "several, or leave it out"
        )
    report = _measured(ranks, config)
    ranks.activity.at(doing="")
    if ranks.is_first:
        print_preflight(report)
    return report


def check_bandwidth(report: Preflight, least: float) -> None:
    """ValueError where the largest exchanges are below ``least`` GB/s on the bus."""
    largest = max((exchange.size for exchange in report.exchanges), default=0)
    for exchange in report.exchanges:
        bandwidth = exchange.bus_bandwidth / 1e9
        if exchange.size == largest and bandwidth < least:
            raise ValueError(
                f"{exchange.collective} of {size_text(exchange.size)} a rank reaches "
                f"{bandwidth:.3g} GB/s, less than least_bandwidth {least:g}; the slowest link is "
                f"{slowest_link(report.machines, report.links)}"
            )


def _measured(ranks: Ranks, config: PreflightConfig) -> Preflight:
    group = dist.GroupMember.WORLD
    assert group is not None, "the process group is there"
    ranks.activity.at(doing="preflight")
    origin = provenance(config)
    machines: list[Machine] = _gathered(this_machine(ranks, origin), group)
    check_versions(machines)
    exchanges: list[Exchange] = []
    links: list[Link] = []
    if ranks.world_size > 1:
        ranks.activity.at(doing="preflight: exchanges of all ranks")
        exchanges = measure_exchanges(group, ranks.device, config.sizes, config.repeats)
        size = max(*config.sizes, NUMBER_BYTES)
        ranks.activity.at(doing="preflight: links between ranks")
        own = measure_links(group, ranks.device, size, config.repeats)
        links = [link for of_rank in _gathered(own, group) for link in of_rank]
    ranks.activity.at(doing="preflight: work of each rank")
    # All at once, as ranks of one host share its memory in training too.
    works = _gathered(measure_work(ranks.rank, ranks.device, config.repeats), group)
    return Preflight(machines, works, exchanges, links, findings(machines, works, links), origin)


def _gathered(mine: Any, group: dist.ProcessGroup) -> list[Any]:
    """What every rank of the group has brought, by rank."""
    everyone: list[Any] = [None] * dist.get_world_size(group)
    dist.all_gather_object(everyone, mine, group=group)
    return everyone
