"""What is called slower: hardly ever noise, nearly always what is well beyond it."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Mapping

import pytest
from tests.benchmarks.kernels.made_runs import (
    HARDWARE,
    made_measurement,
    made_run,
    made_timing,
    noisy_run,
)

from dropdrift.benchmarks.kernels.comparison import Comparison, Side, compare
from dropdrift.benchmarks.kernels.record import KernelRun

SIZES = tuple(2**power for power in range(6, 18))
TRUE_MS = {rows: rows / 1000 for rows in SIZES}
# Comparisons that are made of noise, and the share of them in which anything may be called.
COMPARISONS = 200
# 5%, and three standard deviations of a share of 200.
OFTEN_BY_CHANCE = 0.05 + 3 * math.sqrt(0.05 * 0.95 / COMPARISONS)


def compared(old: KernelRun | list[KernelRun], new: KernelRun | list[KernelRun]) -> Comparison:
    sides = ([side] if isinstance(side, KernelRun) else side for side in (old, new))
    before, after = (Side.of(name, side) for name, side in zip(("old", "new"), sides, strict=True))
    return compare(before, after)


def slowed(factor: float, *rows: int) -> Mapping[int, float]:
    return {r: ms * (factor if r in rows else 1) for r, ms in TRUE_MS.items()}


def many(
    old: Mapping[int, float],
    new: Mapping[int, float],
    noise: float | Mapping[int, float],
    runs: int = 1,
    between: float = 0.0,
) -> list[Comparison]:
    """Comparisons of runs with other noise each."""
    generator = random.Random(13)
    return [
        compared(
            [noisy_run(old, generator, noise=noise, between=between) for _ in range(runs)],
            [noisy_run(new, generator, noise=noise, between=between) for _ in range(runs)],
        )
        for _ in range(COMPARISONS)
    ]


def called(comparisons: list[Comparison], *rows: int) -> float:
    """The share of comparisons that call one of ``rows``."""
    found = [
        any(c.verdict != "within noise" and c.case.rows in rows for c in comparison.changes)
        for comparison in comparisons
    ]
    return sum(found) / len(found)


def test_a_run_compared_with_itself_is_the_same() -> None:
    run = noisy_run(TRUE_MS, random.Random(1), noise=0.02)
    comparison = compared(run, run)
    assert [change.ratio for change in comparison.changes] == [1.0] * len(SIZES)
    assert len(comparison.with_verdict("within noise")) == len(SIZES)
    assert not comparison.worse


@pytest.mark.parametrize("runs", [1, 3])
@pytest.mark.parametrize("noise", [0.02, 0.1])
def test_noise_is_not_called(noise: float, runs: int) -> None:
    assert called(many(TRUE_MS, TRUE_MS, noise, runs), *SIZES) <= OFTEN_BY_CHANCE


def test_noise_between_runs_is_not_called_where_there_are_several() -> None:
    """The medians of a run agree within 1%, runs do not: one run a side cannot see it."""
    several = many(TRUE_MS, TRUE_MS, 0.01, runs=3, between=0.1)
    assert called(several, *SIZES) <= OFTEN_BY_CHANCE
    assert not any(comparison.single for comparison in several)
    single = many(TRUE_MS, TRUE_MS, 0.01, between=0.1)
    assert called(single, *SIZES) > 0.9
    assert all(comparison.single for comparison in single)


def test_one_noisy_measurement_among_quiet_ones_is_seldom_called() -> None:
    noise = {rows: 0.1 if rows == SIZES[0] else 0.01 for rows in SIZES}
    assert called(many(TRUE_MS, TRUE_MS, noise), SIZES[0]) <= OFTEN_BY_CHANCE


def test_a_fifth_slower_is_found_in_two_percent_noise() -> None:
    one = SIZES[5]
    comparisons = many(TRUE_MS, slowed(1.2, one), 0.02)
    assert called(comparisons, one) >= 0.95
    assert called(comparisons, *(rows for rows in SIZES if rows != one)) <= OFTEN_BY_CHANCE
    assert sum(comparison.worse for comparison in comparisons) >= 0.95 * COMPARISONS
    quicker = many(slowed(1.2, one), TRUE_MS, 0.02)
    assert called(quicker, one) >= 0.95
    assert sum(comparison.worse for comparison in quicker) <= OFTEN_BY_CHANCE * COMPARISONS


def test_five_percent_are_not_called_in_ten_percent_noise() -> None:
    assert called(many(TRUE_MS, slowed(1.05, *SIZES), 0.1), *SIZES) <= 2 * OFTEN_BY_CHANCE
    one = SIZES[3]
    assert called(many(TRUE_MS, slowed(1.05, one), 0.1), one) <= 0.02


def test_the_band_is_students_t_of_what_differs() -> None:
    """One measurement, halves apart by 2% and by 4%; of two degrees of freedom t is 4.3027."""
    old = made_run([made_measurement(made_timing(10, 10 * math.exp(0.02)))])
    new = made_run([made_measurement(made_timing(10, 10 * math.exp(0.04)))])
    (change,) = compared(old, new).changes
    variance = (0.02**2 + 0.04**2) / 4 / 2
    assert change.band == pytest.approx(4.302652729911275 * math.sqrt(2 * variance), rel=1e-9)
    assert math.log(change.old_ms) == pytest.approx(math.log(10) + 0.01)
    assert math.log(change.ratio) == pytest.approx(0.01)
    assert change.noise == pytest.approx(math.exp(change.band) - 1)

    # Three runs a side, values -1, 0 and 1% and 2, 3 and 7%: four degrees of freedom.
    sides = [
        [made_run([made_measurement(made_timing(math.exp(v)))]) for v in values]
        for values in ((-0.01, 0.0, 0.01), (0.02, 0.03, 0.07))
    ]
    (change,) = compared(*sides).changes
    variance = (2 * 0.01**2 + 0.02**2 + 0.01**2 + 0.03**2) / 4
    assert change.band == pytest.approx(2.7764451051977934 * math.sqrt(variance * 2 / 3), rel=1e-9)
    assert math.log(change.ratio) == pytest.approx(0.04)


def test_medians_that_agree_by_chance_do_not_hide_how_calls_differ() -> None:
    """Ten times that spread by 20% say little of their median, whatever the second median is."""

    def run(median: float) -> KernelRun:
        spread = {"p20_ms": 0.9 * median, "p80_ms": 1.1 * median, "samples": 10}
        return made_run([made_measurement(made_timing(median, **spread))])

    (change,) = compared(run(10.0), run(10.5)).changes
    # 1.2533 * (0.2007 / 1.6832) / sqrt(20), of both sides, at 1.96
    assert change.band == pytest.approx(0.0926, abs=2e-4)
    assert change.verdict == "within noise"
    assert compared(run(10.0), run(12.0)).changes[0].verdict == "slower"
    assert compared(run(12.0), run(10.0)).changes[0].verdict == "faster"


def test_replays_of_a_graph_are_measurements_of_their_own() -> None:
    old = made_measurement(made_timing(10), graph_timing=made_timing(5))
    new = dataclasses.replace(old, graph_timing=made_timing(7))
    comparison = compared(made_run([old]), made_run([new]))
    assert [(c.case.graph, c.verdict) for c in comparison.changes] == [
        (False, "within noise"),
        (True, "slower"),
    ]
    assert comparison.changes[1].case.text == (
        "denoiser, eager, forward, 4096x200x128x256, float32, relu, cpu, in a CUDA graph"
    )


def test_a_result_that_fails_its_check_is_worse_than_a_slow_one() -> None:
    timed, untimed = made_measurement(made_timing(10)), made_measurement(None)
    same = made_measurement(made_timing(10), provider="compile")
    lost = compared(made_run([timed, same]), made_run([untimed, same]))
    assert [(u.case.provider, u.reason) for u in lost.lost] == [("eager", "it is wrong")]
    assert [change.case.provider for change in lost.changes] == ["compile"]
    assert lost.worse
    gained = compared(made_run([untimed, same]), made_run([timed, same]))
    assert [u.reason for u in gained.gained] == ["it is wrong"]
    assert not gained.worse
    nothing = compared(made_run([timed]), made_run([untimed]))
    assert nothing.worse
    neither = compared(made_run([untimed, same]), made_run([untimed, same]))
    assert (neither.lost, neither.gained, len(neither.changes)) == ((), (), 1)


def test_what_only_one_has_is_named() -> None:
    a, b, c = (made_measurement(made_timing(1), rows=rows) for rows in (1, 2, 3))
    comparison = compared(made_run([a, b]), made_run([b, c]))
    assert [change.case.rows for change in comparison.changes] == [2]
    assert [case.rows for case in comparison.only_old] == [1]
    assert [case.rows for case in comparison.only_new] == [3]
    assert not comparison.worse


def test_nothing_in_common_is_refused() -> None:
    old = made_run([made_measurement(made_timing(1), rows=1)])
    new = made_run([made_measurement(made_timing(1), rows=2)])
    with pytest.raises(ValueError, match=r"old and new have no time in common: .*1x200.*2x200"):
        compared(old, new)
    untimed = made_run([made_measurement(None, rows=1)])
    with pytest.raises(ValueError, match="no time in common"):
        compared(untimed, untimed)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"hardware": HARDWARE | {"cpu": "another"}}, "another, 2 cores, 2 threads"),
        ({"hardware": HARDWARE | {"gpus": [{"name": "NVIDIA H200"}]}}, "NVIDIA H200"),
        ({"threads": 1}, "a processor, 2 cores, 1 threads"),
    ],
)
def test_other_hardware_is_refused_unless_it_is_wanted(changes: dict, text: str) -> None:
    old = made_run([made_measurement(made_timing(1))])
    new = made_run([made_measurement(made_timing(2))], **changes)
    with pytest.raises(ValueError, match=f"new on .*{text}.*--any-hardware"):
        compared(old, new)
    comparison = compare(Side.of("old", [old]), Side.of("new", [new]), any_hardware=True)
    assert comparison.worse


def test_other_gpus_are_compared_where_that_is_wanted() -> None:
    sides = [
        Side.of(
            name,
            [
                made_run(
                    [made_measurement(made_timing(ms), device=gpu)],
                    hardware=HARDWARE | {"gpus": [{"name": gpu}]},
                )
            ],
        )
        for name, gpu, ms in (("old", "NVIDIA H100", 3.0), ("new", "NVIDIA H200", 2.0))
    ]
    (change,) = compare(*sides, any_hardware=True).changes
    assert (change.case.device, change.verdict) == ("GPU", "faster")


def test_a_file_of_several_revisions_or_machines_is_refused() -> None:
    run = made_run([made_measurement(made_timing(1))])
    changed = made_run(run.measurements, git={"revision": "0123456789abcdef", "dirty": True})
    with pytest.raises(ValueError, match=r"f has runs of several revisions \(.*with changes\)"):
        Side.of("f", [run, changed])
    other = made_run(run.measurements, hardware=HARDWARE | {"cores": 4})
    with pytest.raises(ValueError, match=r"f has runs of several machines .*4 cores"):
        Side.of("f", [run, other])


@pytest.mark.parametrize(
    "timing", [made_timing(0), made_timing(1, samples=0), made_timing(1, p20_ms=2.0)]
)
def test_times_that_cannot_be_are_refused(timing) -> None:
    run = made_run([made_measurement(timing)])
    with pytest.raises(ValueError, match=r"old: the times of denoiser, eager.* cannot be"):
        compared(run, run)


def test_a_run_without_provenance_is_refused() -> None:
    run = dataclasses.replace(made_run([made_measurement(made_timing(1))]), provenance={})
    with pytest.raises(ValueError, match="run run: its provenance lacks or spoils 'git'"):
        Side.of("f", [run])
