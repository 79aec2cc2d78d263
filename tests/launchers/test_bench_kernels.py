"""``dropdrift bench kernels``: what it prints, keeps and refuses, and that its gate can fail."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from dropdrift.benchmarks.kernels import baselines, ceilings, providers, timing
from dropdrift.benchmarks.kernels.cases import denoiser, mask_words, masks
from dropdrift.benchmarks.kernels.record import KernelRun, read_records
from dropdrift.launchers import bench, main

SIZE = "300x33x16x48"
TINY = ("--device", "cpu", "--sizes", SIZE, "--seconds", "1e-3")
PLAIN = ("--providers", "eager", "eager-split", "dropdrift-torch", "dropdrift-torch-save")
EVERY_WAY = ("--direction", "forward", "backward", "both")


@pytest.fixture(autouse=True)
def in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "BLOCK_MS", 1e-3)
    monkeypatch.setattr(ceilings, "COPY_BYTES", {"cpu": 2**16, "cuda": 2**26})
    monkeypatch.setattr(ceilings, "MATMUL_SIDE", {"cpu": 64, "cuda": 1024})


def one_run(path: Path) -> KernelRun:
    (run,) = read_records(path)
    return run


def test_every_operator_and_direction_is_checked_timed_and_kept(tmp_path: Path, succeed) -> None:
    out = tmp_path / "new" / "kernels.jsonl"
    ended = succeed("bench", "kernels", *TINY, *PLAIN, *EVERY_WAY, "--out", out)
    assert "triton" not in ended.output
    assert "WRONG" not in ended.output
    assert max(len(line) for line in ended.output.splitlines() if str(out) not in line) <= 100
    run = one_run(out)
    found = {(m.op, m.direction, m.dtype, m.provider) for m in run.measurements}
    assert len(found) == len(run.measurements)
    simple, all_of_them = {"eager", "dropdrift-torch"}, {*PLAIN[1:]}
    expected = {("mask-words", "forward", "int32", name) for name in simple}
    for dtype in ("float32", "bfloat16"):
        for direction in EVERY_WAY[1:]:
            expected |= {("mask-features", direction, dtype, name) for name in simple}
            forward = {"dropdrift-torch-save"} if direction == "forward" else set()
            for op in ("denoiser", "drop-and-denoise"):
                expected |= {(op, direction, dtype, name) for name in all_of_them - forward}
    assert found == expected
    for m in run.measurements:
        assert m.passed is True
        assert m.reason == ""
        assert m.timing is not None
        assert m.graph_timing is None
        assert 0 < m.timing.p20_ms <= m.timing.median_ms <= m.timing.p80_ms
        assert m.timing.calls >= 5
        assert m.error is not None
        assert m.error <= m.tolerance
        assert (m.rows, m.fields, m.device) == (300, 33, "cpu")
        assert m.floor_ms > 0
        assert (m.memory_bytes is None) == (m.direction == "forward")
        assert m.provider in ended.output


def test_a_line_says_where_it_comes_from(tmp_path: Path, succeed) -> None:
    out = tmp_path / "kernels.jsonl"
    for _ in range(2):
        succeed("bench", "kernels", *TINY, "--op", "mask-words", *PLAIN, "--out", out)
    first, second = read_records(out)
    assert first.run != second.run
    assert len(first.measurements) == len(second.measurements) == 2
    assert first.provenance["config"]["sizes"] == [SIZE]
    assert first.provenance["versions"]["torch"] == torch.__version__
    assert first.clocks.cpu == first.provenance["hardware"]["cpu"]
    assert first.clocks.threads == torch.get_num_threads()
    assert [rate.dtype for rate in first.ceilings.matmul] == ["float32", "bfloat16"]
    assert min(rate.tflops for rate in first.ceilings.matmul) > 0
    assert first.ceilings.copy_gb_per_s > 0


def test_the_ratio_is_to_the_quickest_other_provider(tmp_path: Path, succeed) -> None:
    out = tmp_path / "kernels.jsonl"
    options = ("--op", "drop-and-denoise", "--dtype", "float32", "--direction", "both")
    succeed("bench", "kernels", *TINY, *PLAIN, *options, "--out", out)
    times = {m.provider: m.timing.median_ms for m in one_run(out).measurements if m.timing}
    ratios = {m.provider: m.ratio_to_best_other for m in one_run(out).measurements}
    others = min(times["eager"], times["eager-split"])
    for name in ("dropdrift-torch", "dropdrift-torch-save"):
        assert ratios[name] == pytest.approx(others / times[name])
    ours = min(times["dropdrift-torch"], times["dropdrift-torch-save"])
    assert ratios["eager"] == pytest.approx(min(ours, times["eager-split"]) / times["eager"])


def test_a_provider_that_is_wrong_has_no_speed(
    tmp_path: Path, command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One row of the quick way is wrong: nobody's time is compared with its time."""
    right = denoiser.denoise

    def wrong(*arguments: Tensor, **options: object) -> Tensor:
        output = right(*arguments, **options)
        return torch.cat([output[:-1], -output[-1:]])

    monkeypatch.setattr(denoiser, "denoise", wrong)
    out = tmp_path / "kernels.jsonl"
    options = ("--op", "denoiser", "--dtype", "float32", "--direction", "both")
    ended = command("bench", "kernels", *TINY, *PLAIN, *options, "--out", out)
    assert ended.code == 1
    assert "dropdrift: some results are wrong, see the tables" in ended.messages
    rows = [line for line in ended.output.splitlines() if "WRONG, so no speed: z_0': " in line]
    assert [row.split()[0] for row in rows] == ["dropdrift-torch", "dropdrift-torch-save"]
    for m in one_run(out).measurements:
        failed = m.op == "denoiser" and m.provider.startswith("dropdrift")
        assert (m.timing is None) == failed
        assert m.passed is not failed
        assert m.reason.startswith("z_0': ") == failed
        if m.op == "denoiser":
            assert (m.ratio_to_best_other is None) == failed
    # In the row of eager, the last cells are the ratios to eager and to the best other.
    eager = [line for line in ended.output.splitlines() if line.startswith("eager-split ")]
    assert len(eager) == 1


@pytest.mark.parametrize(
    ("where", "name", "provider", "problem"),
    [
        (baselines, "draw_mask", "eager", "mask: "),
        (masks, "drop_words", "dropdrift-torch", "mask: the words are not the reference's"),
    ],
)
def test_a_wrong_mask_is_found(
    where, name, provider, problem, tmp_path: Path, command, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = getattr(where, name)

    def wrong(missing: Tensor, *arguments: int, **options: object) -> Tensor:
        mask = right(missing, *arguments, **options)
        if options.get("backend") == "reference":
            return mask
        return (
            mask ^ 1
            if mask.dtype == torch.int32
            else missing | (torch.rand_like(mask, dtype=torch.float32) < 0.5)
        )

    monkeypatch.setattr(where, name, wrong)
    out = tmp_path / "kernels.jsonl"
    options = ("--op", "denoiser", "--dtype", "float32", "--direction", "forward")
    size = ("--sizes", "3000x33x16x48")
    ended = command("bench", "kernels", *TINY, *PLAIN, *options, *size, "--out", out)
    assert ended.code == 1
    wrong_ones = {m.provider for m in one_run(out).measurements if m.passed is False}
    assert provider in wrong_ones
    for m in one_run(out).measurements:
        if m.op == "denoiser" and m.provider == provider:
            assert m.reason.startswith(problem)


def test_without_a_compiler_compile_is_left_out(
    tmp_path: Path, succeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(providers, "missing_compiler", lambda _: "needs a compiler")
    out = tmp_path / "kernels.jsonl"
    options = ("--op", "mask-words", "--providers", "eager", "compile")
    ended = succeed("bench", "kernels", *TINY, *options, "--out", out)
    assert "compile                left out: torch.compile needs a compiler" in ended.output
    eager, left_out = one_run(out).measurements
    assert (eager.passed, left_out.passed, left_out.timing) == (True, None, None)
    assert left_out.reason == "left out: torch.compile needs a compiler"


def test_what_torch_cannot_compile_is_left_out(
    tmp_path: Path, succeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> Tensor:
        raise RuntimeError("no such thing\nas the second line")

    monkeypatch.setattr(torch, "compile", lambda *_, **__: fails)
    out = tmp_path / "kernels.jsonl"
    options = ("--op", "mask-words", "--providers", "eager", "compile")
    ended = succeed("bench", "kernels", *TINY, *options, "--out", out)
    assert "left out: torch.compile failed: no such thing\n" in ended.output


def test_what_does_not_fit_into_memory_is_left_out(
    tmp_path: Path, succeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> Tensor:
        raise torch.OutOfMemoryError("tried to allocate")

    monkeypatch.setattr(mask_words, "draw_mask", fails)
    options = ("--op", "mask-words", *PLAIN, "--out", tmp_path / "kernels.jsonl")
    assert "left out: out of memory\n" in succeed("bench", "kernels", *TINY, *options).output


def test_any_other_error_is_a_bug(tmp_path: Path, command, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> Tensor:
        raise RuntimeError("shapes cannot be multiplied")

    monkeypatch.setattr(mask_words, "draw_mask", fails)
    options = ("--op", "mask-words", *PLAIN, "--out", tmp_path / "kernels.jsonl")
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        command("bench", "kernels", *TINY, *options)


@pytest.mark.skipif(
    bool(providers.left_out("compile", torch.device("cpu"))), reason="there is no C++ compiler"
)
def test_compiled_words_are_right(tmp_path: Path, succeed) -> None:
    out = tmp_path / "kernels.jsonl"
    options = ("--op", "mask-words", "--providers", "compile")
    succeed("bench", "kernels", *TINY, *options, "--out", out)
    (compiled,) = one_run(out).measurements
    assert compiled.passed
    assert compiled.ratio_to_best_other is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--op"], "op is empty: give at least one"),
        (["--op", "softmax"], "--op is 'softmax', must be one of mask-words"),
        (["--direction"], "direction is empty"),
        (["--direction", "both", "both"], "direction lists both 2 times"),
        (["--providers", "jax"], "--providers is 'jax', must be one of eager"),
        (["--providers", "dropdrift-triton"], "dropdrift-triton, which runs on a GPU alone"),
        (["--sizes", "8x8"], "sizes has '8x8', must be one of cpu, serving, training, report or"),
        (["--sizes", "8x8x0x8"], "sizes has '8x8x0x8', must be positive"),
        (["--dtype", "float64"], "--dtype is 'float64', must be one of float32"),
        (["--activation", "tanh"], "--activation is 'tanh', must be one of relu"),
        (["--seconds", "0"], "seconds is 0.0, must be positive"),
        (["--seed", "-1"], "seed is -1, must be at least 0"),
        (["--op", "mask-words", "--direction", "both"], "none computes mask-words in direction"),
        (["--szes", "cpu"], "did you mean --sizes"),
    ],
)
def test_a_mistake_is_one_line(options: list[str], message: str, tmp_path: Path, mistake) -> None:
    assert message in mistake("bench", "kernels", *TINY, "--out", tmp_path / "a", *options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_said_so(tmp_path: Path, mistake) -> None:
    out = ("--out", tmp_path / "a")
    assert "use --device cpu" in mistake("bench", "kernels", "--device", "cuda", *out)


def test_the_help_says_what_is_measured(command) -> None:
    ended = command("bench", "kernels", "--help")
    assert ended.code == 0
    for text in ("--providers", "max-autotune", "ROWSxFIELDSxWIDTHxHIDDEN", "drop-and-denoise"):
        assert text in ended.output


def test_a_machine_without_torchrec_can_run_it(
    tmp_path: Path, command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mixed() -> None:
        raise ValueError("torch and torchrec do not match")

    for module in (bench, main):
        monkeypatch.setattr(module, "require_matched_stack", mixed)
    options = ("--op", "mask-words", *PLAIN, "--out", tmp_path / "kernels.jsonl")
    assert command("bench", "kernels", *TINY, *options).code == 0
    ended = command("bench", "t2diff")
    assert (ended.code, ended.messages) == (2, "dropdrift: torch and torchrec do not match\n")
    assert command("bench", "t2diff", "--help").code == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_is_timed_with_and_without_graphs(tmp_path: Path, succeed) -> None:
    out = tmp_path / "kernels.jsonl"
    options = ("--device", "cuda", "--sizes", "4096x200x128x256", *EVERY_WAY)
    names = ("--providers", "eager", "dropdrift-triton", "dropdrift-triton-save")
    succeed("bench", "kernels", *options, *names, "--seconds", "0.05", "--out", out)
    run = one_run(out)
    assert {m.provider for m in run.measurements} == {*names[1:]}
    for m in run.measurements:
        assert m.passed
        assert m.timing is not None
        assert (m.graph_timing is None) == (m.direction == "backward")
        assert m.memory_bytes is not None
    assert run.clocks.gpu is not None
