"""Who is slow, judged from what was measured. Exchanges nothing and measures nothing.

A collective makes all ranks as slow as the slowest, so that only what two ranks do, or one alone,
tells which it is. The rules, with ``SLOW`` for what counts as a clear multiple:

* A rank's own work is slow if it takes ``SLOW`` times the median of the other ranks.
* The links of an end, a rank or a host, are slow if even the quickest of them takes ``SLOW`` times
  the median of the links that the end has no part in. Links within a host and links between hosts
  are two kinds, and never compared with each other.
* Of an end whose links all lead to one other, it cannot be told which of the two is slow. Both are
  named, unless something else tells.
* Where a kind has only two ends, no link is without one of them. Then one direction is compared
  with the other, and both ends are named, unless something else tells.
* A rank has little memory if others have more than ``SLOW`` times as much free, in the median, or
  if less than ``LEAST_MEMORY`` is free at all.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from dropdrift.sharding.wording import digits, gib
from dropdrift.training.preflight.machine import Machine, numbered
from dropdrift.training.preflight.measuring import Link, Work

SLOW = 2.0
LEAST_MEMORY = 1 << 30  # bytes

_UNTOLD = "which of the two is slow cannot be told"

End = TypeVar("End", int, str)


@dataclass(frozen=True)
class Finding:
    """Something that makes all ranks wait, or may.

    Attributes:
        ranks: that it is about, ascending.
        text: one line that names them, with their host and the figures.
        certain: whether it is all of these ranks; otherwise it is one side of them.
    """

    ranks: tuple[int, ...]
    text: str
    certain: bool = True


def findings(
    machines: Sequence[Machine], works: Sequence[Work], links: Sequence[Link]
) -> list[Finding]:
    """What is to be said of the ranks; nothing where all do alike.

    Args:
        machines: every rank, in order.
        works: of every rank, in order.
        links: in any order.
    """
    within = [link for link in links if _same_host(machines, link)]
    between = [link for link in links if not _same_host(machines, link)]
    found = [
        *_little_memory(machines),
        *_slow_work(machines, works, "multiplies", "GFLOP/s", lambda work: work.flops),
        *_slow_work(machines, works, "copies", "GB/s", lambda work: work.copy_bandwidth),
        *_slow_ranks(machines, within, "within the host"),
        *_slow_between_hosts(machines, between),
    ]
    named = {rank for finding in found if finding.certain for rank in finding.ranks}
    return [finding for finding in found if finding.certain or named.isdisjoint(finding.ranks)]


def slowest_link(machines: Sequence[Machine], links: Iterable[Link]) -> str:
    """The two ends of the slowest link, and its bandwidth."""
    link = min(links, key=lambda link: link.bandwidth)
    ends = (str(machines[link.source]), str(machines[link.target]))
    return f"{_between(*ends)}: {_rate(link.bandwidth)}"


def _little_memory(machines: Sequence[Machine]) -> Iterable[Finding]:
    for machine in machines:
        free = machine.free_memory
        others = [
            other.free_memory
            for other in machines
            if other is not machine and other.free_memory is not None
        ]
        if free is None:
            continue
        usual = statistics.median(others) if others else 0
        if free < LEAST_MEMORY or SLOW * free < usual:
            beside = f", in the median of the others {gib(usual)} GiB" if others else ""
            text = f"{machine} has {gib(free)} GiB of free memory ({machine.device}){beside}"
            yield Finding((machine.rank,), text)


def _slow_work(
    machines: Sequence[Machine],
    works: Sequence[Work],
    what: str,
    unit: str,
    rate: Callable[[Work], float],
) -> Iterable[Finding]:
    for work in works:
        others = [rate(other) for other in works if other is not work]
        if others and SLOW * rate(work) <= statistics.median(others):
            usual = statistics.median(others)
            text = (
                f"{machines[work.rank]} is slow: it {what} at {digits(rate(work) / 1e9)} {unit}, "
                f"the others at {digits(usual / 1e9)} in the median"
            )
            yield Finding((work.rank,), text)


def _slow_ranks(
    machines: Sequence[Machine], links: Sequence[Link], where: str
) -> Iterable[Finding]:
    """By links of one kind, and ``where`` they lead."""
    rates = {(link.source, link.target): link.bandwidth for link in links}
    for ends, (quickest, usual) in _slow_ends(rates).items():
        who = [str(machines[end]) for end in ends]
        figures = _figures(quickest, usual, where)
        if len(ends) == 1:
            yield Finding(ends, f"{who[0]} is slow: its {figures}")
        else:
            yield Finding(ends, f"{_between(*who)}: the {figures}; {_UNTOLD}", certain=False)
    for source, target in _slow_direction(rates):
        ends = (min(source, target), max(source, target))
        between = _between(*(str(machines[end]) for end in ends))
        figures = _one_way(f"rank {target}", rates[source, target], rates[target, source])
        yield Finding(ends, f"{between} {figures}", certain=False)


def _slow_between_hosts(machines: Sequence[Machine], links: Sequence[Link]) -> Iterable[Finding]:
    """Hosts first: all ranks of a host whose network is slow would seem so by themselves."""
    pairs: dict[tuple[str, str], list[float]] = {}
    for link in links:
        pair = (machines[link.source].host, machines[link.target].host)
        pairs.setdefault(pair, []).append(link.bandwidth)
    rates = {pair: statistics.median(of_pair) for pair, of_pair in pairs.items()}
    ranks_of: dict[str, tuple[int, ...]] = {}
    for machine in machines:
        ranks_of[machine.host] = (*ranks_of.get(machine.host, ()), machine.rank)
    named: set[int] = set()
    for hosts, (quickest, usual) in _slow_ends(rates).items():
        ranks = ranks_of[hosts[0]]
        if len(hosts) == 1 and len(ranks) > 1:  # one alone is named as a rank
            named.update(ranks)
            figures = _figures(quickest, usual, "to other hosts")
            yield Finding(ranks, f"{numbered(ranks)} on {hosts[0]} are slow: the host's {figures}")
    if len(machines) > len(ranks_of):
        for source, target in _slow_direction(rates):
            ranks = tuple(sorted(ranks_of[source] + ranks_of[target]))
            figures = _one_way(target, rates[source, target], rates[target, source])
            yield Finding(ranks, f"{_between(source, target)} {figures}", certain=False)
    for finding in _slow_ranks(machines, links, "to other hosts"):
        if named.isdisjoint(finding.ranks):
            yield finding


def _slow_ends(
    rates: Mapping[tuple[End, End], float],
) -> dict[tuple[End, ...], tuple[float, float]]:
    """Ends whose links are slow: the rate of their quickest, and the median of the others'.

    Returns:
        By end; by both ends, ascending, where all links of one lead to the other.
    """
    slow: dict[tuple[End, ...], tuple[float, float]] = {}
    for end in dict.fromkeys(end for link in rates for end in link):
        own = {link: rate for link, rate in rates.items() if end in link}
        others = [rate for link, rate in rates.items() if end not in link]
        if others and SLOW * max(own.values()) <= statistics.median(others):
            ends = sorted({end for link in own for end in link})
            who = tuple(ends) if len(ends) == 2 else (end,)
            slow[who] = (max(own.values()), statistics.median(others))
    return slow


def _slow_direction(rates: Mapping[tuple[End, End], float]) -> Iterable[tuple[End, End]]:
    """The slow one of the two links, if there are only two ends and one direction is slow."""
    if len({end for link in rates for end in link}) == 2:
        for source, target in rates:
            if SLOW * rates[source, target] <= rates[target, source]:
                yield source, target


def _figures(quickest: float, usual: float, where: str) -> str:
    return (
        f"quickest link {where} brings {_rate(quickest)}, in the median of those without it "
        f"{_rate(usual)}"
    )


def _one_way(target: str, rate: float, back: float) -> str:
    return f"one direction is slow: {_rate(rate)} to {target}, {_rate(back)} back; {_UNTOLD}"


def _between(one: str, other: str) -> str:
    return f"between {one} and {other}"


def _rate(bytes_per_second: float) -> str:
    return f"{digits(bytes_per_second / 1e9)} GB/s"


def _same_host(machines: Sequence[Machine], link: Link) -> bool:
    return machines[link.source].host == machines[link.target].host
