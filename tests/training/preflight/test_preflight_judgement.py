"""Who is slow, from numbers: every shape of group, every place for the slow one."""

from __future__ import annotations

import dataclasses
import itertools
import random

import pytest

from dropdrift.training.preflight.judgement import SLOW, findings, slowest_link
from dropdrift.training.preflight.machine import Machine, check_versions, numbered
from dropdrift.training.preflight.measuring import Exchange, Link, Work, rounds_of_links

GIB = 1 << 30
SIZE = 1 << 24
WITHIN, BETWEEN = 100e9, 10e9  # bytes a second


def group(nodes: int, ranks: int, **first: object) -> list[Machine]:
    """``nodes`` hosts of ``ranks`` each; ``first`` replaces attributes of rank 0."""
    machines = [
        Machine(
            number, f"host-{number // ranks}", 1000 + number, f"cuda:{number % ranks}", "H100",
            64 * GIB, {"python": "3.11.7", "torch": "2.13.0"},
        )
        for number in range(nodes * ranks)
    ]  # fmt: skip
    machines[0] = dataclasses.replace(machines[0], **first)
    return machines


def works(machines: list[Machine], slow: int = -1, factor: float = 1.0) -> list[Work]:
    return [
        Work(machine.rank, 0.02 * (factor if machine.rank == slow else 1), 1e9, 0.01, 1 << 27)
        for machine in machines
    ]


def links(machines: list[Machine], slow: set[tuple[int, int]], factor: float) -> list[Link]:
    """As the ranks measure them, with noise of a third; those of ``slow`` take longer."""
    noise = random.Random(len(machines))
    made = []
    for source, target in itertools.chain(*rounds_of_links(len(machines))):
        rate = WITHIN if machines[source].host == machines[target].host else BETWEEN
        seconds = SIZE / rate * noise.uniform(1, 1.3) * (factor if (source, target) in slow else 1)
        made.append(Link(source, target, SIZE, seconds))
    return made


def touching(machines: list[Machine], ranks: set[int], *, between: bool = False) -> set:
    """Links with an end in ``ranks``; only those between hosts."""
    return {
        (source, target)
        for source, target in itertools.permutations(range(len(machines)), 2)
        if {source, target} & ranks
        and not (between and machines[source].host == machines[target].host)
    }


SHAPES = [(1, 2), (1, 3), (1, 4), (1, 8), (2, 1), (2, 2), (3, 1), (4, 1), (2, 8), (3, 4), (8, 8)]


@pytest.mark.parametrize(("nodes", "ranks"), [(1, 1), *SHAPES])
def test_nothing_is_said_of_ranks_that_do_alike(nodes, ranks):
    machines = group(nodes, ranks)
    assert findings(machines, works(machines), links(machines, set(), 1)) == []


@pytest.mark.parametrize(("nodes", "ranks"), SHAPES)
def test_a_rank_whose_own_work_is_slow(nodes, ranks):
    """Two ranks are enough for that."""
    machines = group(nodes, ranks)
    for slow in range(len(machines)):
        (found,) = findings(machines, works(machines, slow, 4), [])
        assert found.ranks == (slow,)
        host = machines[slow].host
        assert found.text == (
            f"rank {slow} on {host} is slow: it multiplies at 12.5 GFLOP/s, the others at 50.0 in "
            "the median"
        )
        assert findings(machines, works(machines, slow, 0.95 * SLOW), []) == []


def test_a_rank_that_copies_slowly():
    machines = group(1, 3)
    measured = works(machines)
    measured[2] = dataclasses.replace(measured[2], copy_seconds=0.05)
    (found,) = findings(machines, measured, [])
    assert found.text.startswith("rank 2 on host-0 is slow: it copies at 2.68 GB/s, the others at")


@pytest.mark.parametrize(("nodes", "ranks"), [s for s in SHAPES if s[0] * s[1] > 2])
def test_a_rank_all_of_whose_links_are_slow(nodes, ranks):
    machines = group(nodes, ranks)
    for slow in range(len(machines)):
        measured = links(machines, touching(machines, {slow}), 5)
        found = findings(machines, works(machines), measured)
        assert {finding.ranks for finding in found} == {(slow,)}
        assert all(f"rank {slow} on {machines[slow].host} is slow" in f.text for f in found)


@pytest.mark.parametrize(("nodes", "ranks"), [(2, 2), (2, 8), (3, 4)])
def test_a_rank_whose_adapter_is_slow_by_its_links_to_other_hosts_alone(nodes, ranks):
    machines = group(nodes, ranks)
    for slow in range(len(machines)):
        measured = links(machines, touching(machines, {slow}, between=True), 5)
        (found,) = findings(machines, works(machines), measured)
        assert found.ranks == (slow,)
        assert "its quickest link to other hosts brings" in found.text


@pytest.mark.parametrize(("nodes", "ranks"), [(3, 2), (3, 8), (5, 4)])
def test_a_host_whose_network_is_slow_is_named_once(nodes, ranks):
    machines = group(nodes, ranks)
    for host in range(nodes):
        of_host = set(range(host * ranks, (host + 1) * ranks))
        measured = links(machines, touching(machines, of_host, between=True), 5)
        (found,) = findings(machines, works(machines), measured)
        assert found.ranks == tuple(sorted(of_host))
        last = (host + 1) * ranks - 1
        assert found.text.startswith(f"ranks {host * ranks}-{last} on host-{host} are slow: the ")


def test_one_slow_link_makes_neither_end_slow():
    machines = group(1, 4)
    assert findings(machines, works(machines), links(machines, {(1, 2), (2, 1)}, 9)) == []


@pytest.mark.parametrize("nodes", [1, 2])
def test_two_ranks_have_one_link_and_both_are_named(nodes):
    machines = group(nodes, 2 // nodes)
    assert findings(machines, works(machines), links(machines, {(0, 1), (1, 0)}, 9)) == []
    (found,) = findings(machines, works(machines), links(machines, {(0, 1)}, 9))
    assert found.ranks == (0, 1)
    host = machines[1].host
    assert found.text.startswith(
        f"between rank 0 on host-0 and rank 1 on {host} one direction is slow: "
    )
    assert "to rank 1, " in found.text
    assert found.text.endswith("; which of the two is slow cannot be told")


def test_two_ranks_of_a_host_among_others_are_both_named_unless_something_else_tells():
    machines = group(2, 2)
    measured = links(machines, {(0, 1), (1, 0)}, 9)
    (found,) = findings(machines, works(machines), measured)
    assert (found.ranks, found.certain) == ((0, 1), False)
    assert found.text.startswith("between rank 0 on host-0 and rank 1 on host-0: the quickest link")
    (found,) = findings(machines, works(machines, 1, 4), measured)
    assert (found.ranks, found.certain) == ((1,), True)


def test_two_hosts_whose_network_is_slow_one_way_are_both_named():
    machines = group(2, 4)
    one_way = {(source, target) for source in range(4) for target in range(4, 8)}
    (found,) = findings(machines, works(machines), links(machines, one_way, 9))
    assert found.ranks == tuple(range(8))
    assert found.text.startswith("between host-0 and host-1 one direction is slow: ")
    assert "GB/s to host-1, " in found.text


def test_a_rank_alone_on_its_host_is_not_slow_for_its_network():
    """Two ranks share a host and the third has one of its own: there is nothing to compare."""
    machines = group(3, 1)
    machines[1] = dataclasses.replace(machines[1], host="host-0")
    assert findings(machines, works(machines), links(machines, set(), 1)) == []


def test_little_memory():
    machines = group(2, 2, free_memory=20 * GIB)
    (found,) = findings(machines, works(machines), [])
    assert found.ranks == (0,)
    beside = "in the median of the others 64.0 GiB"
    assert found.text == f"rank 0 on host-0 has 20.0 GiB of free memory (cuda:0), {beside}"
    assert findings(group(2, 2, free_memory=40 * GIB), works(machines), []) == []
    assert findings(group(2, 2, free_memory=None), works(machines), []) == []
    alone = group(1, 1, free_memory=GIB // 2)
    (found,) = findings(alone, works(alone), [])
    assert found.text == "rank 0 on host-0 has 0.50 GiB of free memory (cuda:0)"


def test_versions_that_differ_are_one_line_naming_rank_host_and_both():
    check_versions(group(2, 4))
    machines = group(2, 2)
    for rank in (2, 3):
        versions = {"python": "3.11.7", "torch": "2.11.0"}
        machines[rank] = dataclasses.replace(machines[rank], versions=versions)
    machines[1] = dataclasses.replace(machines[1], versions={"torch": "2.13.0"})
    with pytest.raises(ValueError, match="install the same") as error:
        check_versions(machines)
    assert str(error.value) == (
        "rank 1 on host-0 has python none, rank 0 on host-0 3.11.7; ranks 2-3 on host-1 have torch "
        "2.11.0, rank 0 on host-0 2.13.0: install the same on all hosts"
    )


def test_a_package_that_only_others_have():
    machines = group(1, 2)
    versions = {**machines[1].versions, "triton": "3.7.1"}
    machines[1] = dataclasses.replace(machines[1], versions=versions)
    with pytest.raises(ValueError, match=r"rank 1 on host-0 has triton 3\.7\.1, rank 0 .* none:"):
        check_versions(machines)


@pytest.mark.parametrize(
    ("ranks", "text"),
    [([4], "rank 4"), ([1, 0], "ranks 0-1"), ([0, 2, 3, 4, 9], "ranks 0, 2-4, 9")],
)
def test_ranks_in_words(ranks, text):
    assert numbered(ranks) == text


@pytest.mark.parametrize("ranks", [*range(2, 20), 64, 129])
def test_no_rank_is_in_two_links_of_a_round_and_each_sends_and_receives_by_every_shift(ranks):
    rounds = rounds_of_links(ranks)
    for together in rounds:
        ends = [end for link in together for end in link]
        assert len(ends) == len(set(ends))
    measured = list(itertools.chain(*rounds))
    assert len(measured) == len(set(measured))
    shifts = [1 << power for power in range(ranks.bit_length()) if 1 << power < ranks]
    expected = {(rank, (rank + shift) % ranks) for rank in range(ranks) for shift in shifts}
    assert set(measured) == expected
    assert len(rounds) <= 4 * len(shifts)


def test_one_rank_has_no_links():
    assert rounds_of_links(1) == []


@pytest.mark.parametrize(("collective", "on_the_bus"), [("all-reduce", 3.0), ("all-to-all", 1.5)])
def test_bandwidths_are_those_of_the_nccl_tests(collective, on_the_bus):
    """Of four ranks: 2 (n - 1) / n and (n - 1) / n."""
    exchange = Exchange(collective, 1000, 4, 0.5)
    assert exchange.algorithm_bandwidth == 2000
    assert exchange.bus_bandwidth == pytest.approx(1000 * on_the_bus)


def test_the_slowest_link_is_named_with_both_ends():
    machines = group(2, 1)
    told = slowest_link(machines, [Link(0, 1, 10**9, 1.0), Link(1, 0, 10**9, 2.0)])
    assert told == "between rank 1 on host-1 and rank 0 on host-0: 0.50 GB/s"
