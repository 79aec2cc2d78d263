from __future__ import annotations

import pytest
import torch
import torch.distributed as dist

from dropdrift.sharding.calibration.collectives import (
    CollectiveTiming,
    Line,
    exchange,
    fit_line,
    fit_lines,
)
from dropdrift.training.distributed import process_group

SIZES = [2**power for power in range(14, 25, 2)]


def timing(size: int, *times: float, collective="all_to_all") -> CollectiveTiming:
    return CollectiveTiming(collective, size, ranks=2, ranks_per_node=2, times_ms=times)


def test_latency_and_bandwidth_are_found_again():
    # 0.2 ms, and 3 GB/s, which is 3e6 bytes a millisecond; one repetition in three was disturbed.
    exact = [0.2 + size / 3e6 for size in SIZES]
    line = fit_line([timing(s, t, 1.001 * t, 9 * t) for s, t in zip(SIZES, exact, strict=True)])
    assert line.collective == "all_to_all"
    assert line.latency_ms == pytest.approx(0.2, rel=0.01)
    assert line.gb_per_s == pytest.approx(3, rel=0.01)


def test_small_exchanges_count_as_much_as_large_ones():
    """Without weights the 16 MiB exchange, 10% off, would decide on the latency too."""
    times = [0.2 + size / 3e6 for size in SIZES]
    times[-1] *= 1.1
    line = fit_line([timing(s, t) for s, t in zip(SIZES, times, strict=True)])
    assert line.latency_ms == pytest.approx(0.2, rel=0.03)
    assert line.gb_per_s == pytest.approx(3, rel=0.1)


def test_no_latency_is_negative():
    line = fit_line([timing(1000, 0.5), timing(10_000, 10.0)])
    assert line.latency_ms == 0
    # Of the relative errors alone: slopes 1/2000 and 1/1000 ms a byte give 0.6 of the smaller.
    assert 1e-6 / line.gb_per_s == pytest.approx((2000 + 1000) / (2000**2 + 1000**2))


def test_each_collective_has_its_line():
    both = [
        timing(size, size / rate, collective=name)
        for name, rate in (("reduce_scatter", 1e6), ("all_to_all", 4e6))
        for size in SIZES
    ]
    names = [(line.collective, line.gb_per_s) for line in fit_lines(both)]
    assert names == [("all_to_all", pytest.approx(4)), ("reduce_scatter", pytest.approx(1))]
    assert fit_lines([]) == []


def test_times_that_give_no_bandwidth_are_refused():
    with pytest.raises(ValueError, match=r"all_to_all: times do not grow .* up to 5000 bytes"):
        fit_line([timing(1000, 2.0), timing(5000, 1.0)])
    with pytest.raises(ValueError, match="measured at one size"):
        fit_line([timing(1000, 2.0), timing(1000, 1.0)])


def test_the_network_counts_where_a_node_has_fewer_ranks():
    assert not timing(8, 1.0).crosses_nodes
    assert CollectiveTiming("all_to_all", 8, 4, 2, (1.0,)).crosses_nodes


def test_a_line_holds_plain_numbers():
    line = fit_line([timing(size, size / 1e6) for size in SIZES])
    assert type(line.gb_per_s) is float
    assert isinstance(line, Line)


@pytest.mark.timeout(60)
def test_size_is_what_a_rank_puts_in():
    with process_group(timeout=60):
        group = dist.GroupMember.WORLD
        assert group is not None
        for name in ("all_to_all", "reduce_scatter"):
            call = exchange(name, 4_000, group, torch.device("cpu"))
            received, given = call.args
            assert given.nbytes == received.nbytes == 4_000
            received.fill_(-1)
            call()
            assert torch.equal(received, given)
