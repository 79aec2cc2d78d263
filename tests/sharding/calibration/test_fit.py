"""Figures from timings that a known machine would have given."""

from __future__ import annotations

import dataclasses
from datetime import date

import pytest

from dropdrift.sharding.calibration.collectives import CollectiveTiming
from dropdrift.sharding.calibration.comparison import Agreement, Compared, compare
from dropdrift.sharding.calibration.estimates import estimate_collective, estimate_lookups
from dropdrift.sharding.calibration.fit import fit_hardware
from dropdrift.sharding.calibration.lookups import LookupTiming
from dropdrift.sharding.calibration.tables import LookupTable
from dropdrift.sharding.cluster import Cluster, make_cluster
from dropdrift.sharding.config import ShardingConfig
from dropdrift.sharding.hardware import FIGURES, load_hardware, save_hardware

TABLES = [
    LookupTable("narrow", 1000, 16),
    LookupTable("middle", 10**8, 64, (0.5,)),
    LookupTable("full", 5000, 128, (20.0, 1.0), pooling="sum"),
]
ROWS = 100
KNOWN = {"name": "found", "machine": "a machine", "day": date(2026, 3, 1)}


def cluster_of(hardware: str, nodes: int, ranks_per_node: int) -> Cluster:
    return make_cluster(ShardingConfig(), load_hardware(hardware), nodes, ranks_per_node)


def forward_bytes(ranks: int) -> list[float]:
    """By hand: ids of 8 bytes, rows of at least 32 numbers read, outputs written; the penalties."""
    batch = ROWS * ranks
    return [
        1.75 * (batch * 8 + batch * 32 * 4 + batch * 16 * 4),
        1.15 * (batch * 0.5 * 8 + batch * 0.5 * 64 * 4 + batch * 0.5 * 64 * 4),
        1.00 * (batch * 21 * 8 + batch * 21 * 128 * 4 + batch * 2 * 128 * 4),
    ]


def lookups_at(gb_per_s: float, ranks: int, *factors: float) -> list[LookupTiming]:
    """Of a rank that does so many bytes a second, each table's times multiplied by its factor."""
    found = []
    for number, (table, size) in enumerate(zip(TABLES, forward_bytes(ranks), strict=True)):
        forward = size / (gb_per_s * 1e6) * (factors[number] if factors else 1)
        times = [(time, 0.9 * time, 7 * time) for time in (forward, 2 * forward)]
        found.append(LookupTiming(table, min(table.rows, 10**6), ROWS, ranks, *times))
    return found


def collectives_at(
    ranks: int, ranks_per_node: int, all_to_all: float, reduce_scatter: float
) -> list[CollectiveTiming]:
    return [
        CollectiveTiming(name, size, ranks, ranks_per_node, (0.3 + size / (rate * 1e6),))
        for name, rate in (("all_to_all", all_to_all), ("reduce_scatter", reduce_scatter))
        for size in (2**16, 2**20, 2**24)
    ]


def test_estimates_are_torchrecs_formula():
    cluster = cluster_of("CPU", 1, 2)
    rank_bytes_per_ms = cluster.hardware.host_gb_per_s * 1e6 / 2
    estimates = estimate_lookups(lookups_at(1.0, 2), cluster)
    for estimate, size in zip(estimates, forward_bytes(2), strict=True):
        assert estimate.forward_ms == pytest.approx(size / rank_bytes_per_ms)
        assert estimate.backward_ms == pytest.approx(2 * size / rank_bytes_per_ms)


@pytest.mark.parametrize("nodes", [1, 2])
def test_a_cpus_bandwidths_are_found_again(nodes):
    """Two ranks that do 3.5 GB/s each are a node of 7."""
    cluster = cluster_of("CPU", nodes, 2)
    ranks = 2 * nodes
    fitted = fit_hardware(
        cluster, lookups_at(3.5, ranks), collectives_at(ranks, 2, 1.6, 0.4), **KNOWN
    )
    assert fitted.host_gb_per_s == pytest.approx(7, rel=0.01)
    link, other = ("intra", "inter") if nodes == 1 else ("inter", "intra")
    # The geometric mean of 1.6 and 0.4.
    assert getattr(fitted, f"{link}_node_gb_per_s") == pytest.approx(0.8, rel=0.01)
    kept = f"{other}_node_gb_per_s"
    assert getattr(fitted, kept) == getattr(cluster.hardware, kept)


def test_a_gpus_memory_is_found_and_the_hosts_is_kept():
    cluster = cluster_of("H100", 1, 8)
    fitted = fit_hardware(cluster, lookups_at(1234.0, 8), [], **KNOWN)
    assert fitted.hbm_gb_per_s == pytest.approx(1234, rel=0.01)
    for figure in set(FIGURES) - {"hbm_gb_per_s"}:
        assert getattr(fitted, figure) == getattr(cluster.hardware, figure)


def test_the_fit_is_the_mean_of_the_logarithms():
    """One table 4 times and one 2 times as slow as the rest: the bandwidth is half."""
    fitted = fit_hardware(cluster_of("CPU", 1, 1), lookups_at(8.0, 1, 4, 2, 1), [], **KNOWN)
    assert fitted.host_gb_per_s == pytest.approx(4, rel=0.01)


@pytest.mark.parametrize("ranks", [1, 3])
def test_a_cpus_bandwidth_belongs_to_the_ranks_that_measured(ranks):
    """A plan for as many ranks a node as the hardware has gives each what it was measured with."""
    fitted = fit_hardware(cluster_of("CPU", 1, ranks), lookups_at(3.5, ranks), [], **KNOWN)
    assert fitted.gpus_per_node == ranks
    estimates = estimate_lookups(
        lookups_at(3.5, ranks), make_cluster(ShardingConfig(), fitted, 1, fitted.gpus_per_node)
    )
    for estimate, size in zip(estimates, forward_bytes(ranks), strict=True):
        assert estimate.forward_ms == pytest.approx(size / 3.5e6, rel=0.01)


def test_every_figure_says_where_it_is_from(tmp_path):
    cluster = cluster_of("CPU", 1, 2)
    fitted = fit_hardware(cluster, lookups_at(3.5, 2), collectives_at(2, 2, 1, 1), **KNOWN)
    assert fitted.name == "found"
    measured = {name for name, text in fitted.sources.items() if text.startswith("measured on ")}
    assert measured == {"host_gb_per_s", "intra_node_gb_per_s", "gpus_per_node"}
    assert fitted.sources["host_gb_per_s"] == (
        "measured on 2026-03-01 on a machine: lookups and backwards of 3 tables (1 of them cut), "
        "100 rows a rank, ranks: 2, medians of 3"
    )
    assert fitted.sources["intra_node_gb_per_s"] == (
        "measured on 2026-03-01 on a machine: all_to_all and reduce_scatter of 65536 to 16777216 "
        "bytes, ranks: 2, medians of 1"
    )
    for figure in set(FIGURES) - measured:
        old = cluster.hardware.sources[figure]
        assert fitted.sources[figure] == f"not measured, from CPU: {old}"
    save_hardware(fitted, tmp_path / "found.yaml")
    assert load_hardware(str(tmp_path / "found.yaml")) == fitted


def test_the_comparison_shows_what_the_fit_mended():
    cluster = cluster_of("CPU", 1, 2)
    lookups, collectives = lookups_at(3.5, 2, 2, 1, 0.5), collectives_at(2, 2, 1, 1)
    fitted = fit_hardware(cluster, lookups, collectives, **KNOWN)
    comparison = compare(cluster, fitted, lookups, collectives)
    rows = [(row.timing.table.name, row.part) for row in comparison.lookups]
    assert rows == [(t.name, part) for t in TABLES for part in ("forward", "backward")]
    slow, _, middle, _, fast, _ = (row.times for row in comparison.lookups)
    assert slow.measured_ms == pytest.approx(2 * forward_bytes(2)[0] / 3.5e6)
    preset = cluster.hardware.host_gb_per_s / 2
    assert slow.ratio_before == pytest.approx(3.5 / preset / 2)
    for times, ratio in ((slow, 0.5), (middle, 1), (fast, 2)):
        assert times.ratio_after == pytest.approx(ratio)
    agreement = comparison.agreement_of_lookups()
    assert agreement.before == pytest.approx(preset / 3.5)
    assert agreement.after == pytest.approx(2)
    # 64 KiB and 0.3 ms, of which TorchRec's estimate has only the bytes; then 1 MiB and 16 MiB.
    small = comparison.collectives[0].times
    assert small.after_ms == pytest.approx(65.536e-3)
    assert small.measured_ms == pytest.approx(0.365536)
    of_links = comparison.agreement_of_collectives()
    assert of_links is not None
    assert of_links.after == pytest.approx(1.348576 / 1.048576)
    assert compare(cluster, fitted, lookups, []).agreement_of_collectives() is None


def test_parts_agree_on_their_own():
    def timed(after: float) -> Compared:
        return Compared(1.0, after, 2.0)

    # Half, double and quadruple of 2 ms.
    assert Agreement.of([timed(1.0), timed(4.0), timed(8.0)]).after == pytest.approx(2)
    cluster = cluster_of("CPU", 1, 1)
    lookups = [
        dataclasses.replace(timing, backward_ms=tuple(3 * ms for ms in timing.backward_ms))
        for timing in lookups_at(3.5, 1)
    ]
    fitted = fit_hardware(cluster, lookups, [], **KNOWN)
    comparison = compare(cluster, fitted, lookups, [])
    # Forward 1 and backward 3 times as slow as 3.5 GB/s: between them is the root of 3.
    assert fitted.host_gb_per_s == pytest.approx(3.5 / 3**0.5)
    forward, backward = comparison.lookups[:2]
    assert forward.times.ratio_after == pytest.approx(3**0.5)
    assert backward.times.ratio_after == pytest.approx(3**-0.5)
    assert comparison.agreement_of_lookups("forward").after == pytest.approx(3**0.5)


def test_an_exchange_is_estimated_by_the_bandwidth_that_it_uses():
    size = 10**6
    inside = CollectiveTiming("all_to_all", size, 8, 8, (1.0,))
    across = CollectiveTiming("reduce_scatter", size, 16, 8, (1.0,))
    node, nodes = cluster_of("H100", 1, 8), cluster_of("H100", 2, 8)
    assert estimate_collective(inside, node) == pytest.approx(1 / node.hardware.intra_node_gb_per_s)
    assert estimate_collective(across, nodes) == pytest.approx(
        1 / node.hardware.inter_node_gb_per_s
    )
