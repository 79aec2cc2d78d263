"""``dropdrift bench compare``: exit codes, what is printed, what is refused."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from tests.benchmarks.kernels.made_runs import (
    HARDWARE,
    PROVENANCE,
    made_measurement,
    made_run,
    made_timing,
)

from dropdrift.benchmarks.kernels.record import KernelRun, append_records, read_records

ROOT = Path(__file__).resolve().parent.parent.parent


def git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def write(path: Path, *runs: KernelRun) -> Path:
    for run in runs:
        append_records(path, run)
    return path


def of(*milliseconds: float, provider: str = "eager", **changes: object) -> KernelRun:
    measurements = [
        made_measurement(made_timing(ms, 1.01 * ms), rows=1000 * (1 + index), provider=provider)
        for index, ms in enumerate(milliseconds)
    ]
    return made_run(measurements, **changes)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return write(tmp_path / "old.jsonl", of(1.0, 2.0, 3.0))


def test_what_is_slower_is_told_and_the_exit_code_is_1(old: Path, tmp_path: Path, command) -> None:
    new = write(tmp_path / "new.jsonl", of(1.0, 2.4, 2.0))
    ended = command("bench", "compare", old, new)
    assert ended.code == 1, ended.messages
    rows = [line.split() for line in ended.output.splitlines() if line.startswith("eager")]
    assert [(row[1], row[-1]) for row in rows] == [
        ("1,000", "noise"),
        ("2,000", "slower"),
        ("3,000", "faster"),
    ]
    assert rows[1][-3] == "1.200"
    assert "Slower, 1.20 times: denoiser, eager, forward, 2000x200x128x256" in ended.output
    assert "1 slower, 1 faster, 1 within noise" in ended.output
    assert "One run each" in ended.output
    assert f"Old: {old}, revision 0123456789, 1 run, 2026-11-22" in ended.output
    assert "+00:00, load average 0.2 to 1.0" in ended.output


def test_nothing_slower_is_exit_code_0(old: Path, tmp_path: Path, succeed) -> None:
    assert "0 slower, 0 faster, 3 within noise" in succeed("bench", "compare", old, old).output
    quicker = write(tmp_path / "quicker.jsonl", of(0.5, 1.0, 1.5))
    assert "0 slower, 3 faster" in succeed("bench", "compare", old, quicker).output


def test_a_failed_gate_in_one_file_is_told(old: Path, tmp_path: Path, command) -> None:
    passed = of(1.0, 2.0).measurements
    failed = made_run([*passed, made_measurement(None, rows=3000, reason="error 1 above 0.1")])
    new = write(tmp_path / "new.jsonl", failed)
    ended = command("bench", "compare", old, new)
    assert ended.code == 1
    assert "No time any more: denoiser, eager, forward, 3000x" in ended.output
    assert "error 1 above 0.1" in ended.output
    back = command("bench", "compare", new, old)
    assert back.code == 0
    assert "No old time: denoiser, eager, forward, 3000x" in back.output


def test_what_only_one_has_and_what_differs_is_named(old: Path, tmp_path: Path, succeed) -> None:
    versions = PROVENANCE["versions"] | {"torch": "2.14.0", "triton": "3.8.0"}
    later = of(1.0, provider="eager", versions=versions)
    extra = of(7.0, provider="compile", versions=versions, run="second")
    new = write(tmp_path / "new.jsonl", later, extra)
    lines = succeed("bench", "compare", old, new).output.splitlines()
    assert "Also differs: torch 2.13.0, then 2.14.0" in lines
    assert "Also differs: triton none, then 3.8.0" in lines
    assert any(
        line.startswith("Only in the old: denoiser, eager, forward, 2000x") for line in lines
    )
    assert any(line.startswith("Only in the new: denoiser, compile,") for line in lines)


def test_several_runs_a_file_show_the_noise_between_them(tmp_path: Path, succeed) -> None:
    old = write(tmp_path / "a", *(of(ms, run=f"run {ms}") for ms in (1.0, 1.1, 0.95)))
    new = write(tmp_path / "b", *(of(ms, run=f"run {ms}") for ms in (1.2, 1.05, 1.0)))
    output = succeed("bench", "compare", old, new).output
    assert "3 runs" in output
    assert "One run each" not in output


def test_other_hardware_is_refused_unless_it_is_wanted(
    old: Path, tmp_path: Path, mistake, command
) -> None:
    other = write(tmp_path / "other.jsonl", of(9.0, hardware=HARDWARE | {"cpu": "another"}))
    line = mistake("bench", "compare", old, other)
    assert f"{old} was measured on a processor, 2 cores, 2 threads; {other} on another" in line
    ended = command("bench", "compare", old, other, "--any-hardware")
    assert ended.code == 1
    assert "On a processor, 2 cores, 2 threads and another, 2 cores, 2 threads" in ended.output


def test_mistakes_are_one_line(old: Path, tmp_path: Path, mistake) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.touch()
    assert f"{empty} has no measurements" in mistake("bench", "compare", old, empty)
    assert "nowhere" in mistake("bench", "compare", old, tmp_path / "nowhere")
    sizes = write(tmp_path / "sizes.jsonl", made_run([made_measurement(made_timing(1), rows=7)]))
    assert "have no time in common" in mistake("bench", "compare", old, sizes)
    mixed = write(tmp_path / "mixed", of(1.0), of(1.0, run="second", git=None))
    assert "runs of several revisions" in mistake("bench", "compare", old, mixed)
    for names in ((), (old,), (old, old, old)):
        assert "takes two files" in mistake("bench", "compare", *names)
    assert "did you mean --any-hardware" in mistake("bench", "compare", old, old, "--any-hardwre")
    assert "rounds is 0" in mistake("bench", "compare", "HEAD", "--rounds", "0")


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git checkout")
def test_this_checkout_is_compared_with_its_revision(tmp_path: Path, command) -> None:
    """The real benchmark, twice, as small as it gets; no time is judged."""
    head, out = git("rev-parse", "HEAD"), tmp_path / "out"
    options = ("--op", "mask-words", "--direction", "forward", "--providers", "dropdrift-torch")
    sizes = ("--sizes", "64x33x16x32", "--seconds", "0.01", "--dtype", "float32")
    ended = command("bench", "compare", head, "--rounds", "1", "--out", out, *options, *sizes)
    assert ended.code in (0, 1), ended.messages
    old, new = (
        read_records(out / name)[0].provenance["git"] for name in ("old.jsonl", "new.jsonl")
    )
    assert old == {"revision": head, "dirty": False}
    assert new["revision"] == head
    assert f"round 1 of 1: {head}\nround 1 of 1: this checkout\n" in ended.messages
    assert f"Old: {head}, revision {head[:10]}, 1 run" in ended.output
    assert re.search("^dropdrift-torch +64 +33 ", ended.output, re.MULTILINE)
    assert "dropdrift-" not in git("worktree", "list")
