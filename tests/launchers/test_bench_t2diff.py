"""``dropdrift bench t2diff``: what it reports, what it refuses, and that its gate can fail."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from dropdrift.benchmarks import t2diff as benchmark
from dropdrift.launchers import bench
from dropdrift.models.t2diff.next_item import NextItem
from dropdrift.models.t2diff.unet import UNet
from dropdrift.models.t2diff.window_mlp import WindowMLP
from dropdrift.training.compiler import require_compiler

TINY = (
    *("--widths", "4", "--steps", "2", "3", "--skipped-from", "3", "--sampling-steps", "1"),
    *("--window", "10", "--users", "40", "--batch-size", "20", "--items", "30"),
    *("--repetitions", "2", "--device", "cpu"),
)
NAMES = [
    "SASRec",
    "T2Diff, x_hat last",
    *("T2Diff, U-Net, T = 2", "T2Diff, U-Net, T = 3", "T2Diff, U-Net, 1 of T = 3"),
    *("T2Diff, MLP, T = 2", "T2Diff, MLP, T = 3", "T2Diff, MLP, 1 of T = 3"),
    "best 30 of 30 items",
]


@pytest.fixture(autouse=True)
def in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "SECONDS", 0.0)


def test_all_contenders_are_timed_and_written(tmp_path: Path, command) -> None:
    out = tmp_path / "new" / "costs.json"
    ended = command("bench", "t2diff", *TINY, "--out", out)
    assert ended.code == 0, ended.messages
    assert max(len(line) for line in ended.output.splitlines() if str(out) not in line) <= 100
    result = json.loads(out.read_text())
    assert result["kind"] == "t2diff-cost"
    assert result["provenance"]["config"]["sampling_steps"] == [1]
    assert (result["device"], result["items"], len(result["load"])) == ("cpu", 30, 2)
    (measured,) = result["widths"]
    assert measured["width"] == 4
    assert [cost["name"] for cost in measured["costs"]] == NAMES
    for cost in measured["costs"]:
        assert cost["name"] in ended.output
        assert 0 <= cost["error"] < 1e-4
        assert (cost["error"] > 0) == ("T =" in cost["name"])
        for name in ("batched_ms", "single_ms", "to_sasrec", "to_last"):
            spread = cost[name]
            assert 0 < spread["lowest"] <= spread["median"] <= spread["highest"]
    sasrec, last = measured["costs"][:2]
    assert sasrec["to_sasrec"]["median"] == last["to_last"]["median"] == 1


def test_ratios_are_those_of_each_repetition() -> None:
    names = ["SASRec", "T2Diff, x_hat last", "other"]
    contenders = [benchmark.Contender(name, None, lambda batch: batch.items) for name in names]
    timings = [
        [(1.0, 1.0, 1.0), (2.0, 1.0, 1.0), (6.0, 1.0, 5.0)],
        [(2.0, 1.0, 1.0), (2.0, 1.0, 1.0), (6.0, 1.0, 7.0)],
    ]
    costs = benchmark._costs(contenders, timings, [0.0, 0.0, 0.5])
    assert [cost.to_sasrec.median for cost in costs] == [1.0, 1.5, 4.5]
    assert (costs[2].to_sasrec.lowest, costs[2].to_sasrec.highest) == (3.0, 6.0)
    assert costs[2].to_last.median == 3.0
    assert costs[2].single_ms.median == 6.0
    assert costs[2].error == 0.5


@pytest.mark.parametrize(
    ("where", "name", "who"),
    [
        (UNet, "step_by_position", "U-Net"),
        (UNet, "forward", "U-Net"),
        (WindowMLP, "step_of_encoded", "MLP"),
    ],
)
def test_no_speed_is_reported_of_a_wrong_result(
    where: type, name: str, who: str, tmp_path: Path, command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step that is quick, and wrong for one row alone."""
    right = NextItem._maybe_compiled

    def wrong(self, step, device):
        taken = right(self, step, device)
        if step.__name__ != name or not isinstance(self.estimator, where):
            return taken

        def spoilt(*arguments):
            estimate = taken(*arguments).clone()
            estimate[-1] *= 1.02
            return estimate

        return spoilt

    monkeypatch.setattr(NextItem, "_maybe_compiled", wrong)
    out = tmp_path / "costs.json"
    ended = command("bench", "t2diff", *TINY, "--out", out)
    assert ended.code == 1
    assert f"T2Diff, {who}, T = 2, width 4: served drifts differ" in ended.messages
    assert "no speed is reported" in ended.messages
    assert not ended.output
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--widths"], "widths is empty"),
        (["--widths", "4", "4"], "widths lists 4 2 times"),
        (["--widths", "5"], "widths has 5, must be even"),
        (["--widths", "0"], "widths has 0, must be even and positive"),
        (["--steps", "0"], "steps is 0, must be positive"),
        (["--sampling-steps", "4"], "sampling-steps has 4, must be at most skipped-from, 3"),
        (["--window", "9"], "window is 9, must be at least 10"),
        (["--users", "10"], "users is 10, must be at least batch-size, 20"),
        (["--repetitions", "0"], "repetitions is 0, must be positive"),
        (["--seed", "-1"], "seed is -1, must be at least 0"),
        (["--estimators", "transformer"], "estimators"),
        (["--data", "nowhere"], "nowhere"),
        (["--wdths", "4"], "did you mean"),
    ],
)
def test_a_mistake_is_one_line(options: list[str], message: str, tmp_path: Path, command) -> None:
    ended = command("bench", "t2diff", *TINY, "--out", tmp_path / "costs.json", *options)
    assert ended.code == 2
    assert message in ended.messages
    assert ended.messages.count("\n") == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_said_so(tmp_path: Path, command) -> None:
    ended = command("bench", "t2diff", *TINY, "--device", "cuda", "--out", tmp_path / "costs.json")
    assert (ended.code, "use --device cpu" in ended.messages) == (2, True)


def test_the_help_lists_the_benchmarks(command) -> None:
    ended = command("bench", "--help")
    assert ended.code == 0
    for name in bench.BENCHMARKS:
        assert f"  {name} " in ended.output
    other = command("bench", "speed")
    assert other.code == 2
    assert "unknown benchmark 'speed'; there are: training-step, t2diff" in other.messages


@pytest.mark.parametrize(("kind", "variable"), [("cpu", "CXX"), ("cuda", "CC")])
def test_compiling_without_a_compiler_is_one_line(
    kind: str, variable: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(variable, raising=False)
    with pytest.raises(ValueError, match=f"--compile needs a .* name it in {variable}"):
        require_compiler(torch.device(kind))
    compiler = tmp_path / "mine"
    compiler.write_text("#!/bin/sh\n")
    compiler.chmod(0o755)
    monkeypatch.setenv(variable, "mine")
    require_compiler(torch.device(kind))


def test_the_users_of_a_data_set_are_served(
    interactions_folder: Path, tmp_path: Path, command
) -> None:
    options = ("--data", interactions_folder, "--out", tmp_path / "costs.json")
    ended = command("bench", "t2diff", *TINY, *options)
    assert ended.code == 0, ended.messages
    assert "best 30 of 30 items" in ended.output
    ended = command("bench", "t2diff", *TINY, *options, "--users", "41")
    assert ended.code == 2
    assert "users is 41, but" in ended.messages
    assert "has 40: lower users and batch-size" in ended.messages


# Torch's compiler makes an instance of each autograd function, against which torch warns.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_compiled_steps_pass_the_gate(
    tmp_path: Path, command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What torch traces and guards; that it can also turn it into code is the model's test."""
    real, traced = torch.compile, []

    def traces_only(step, mode):
        traced.append((step.__name__, mode))
        return real(step, backend="eager", fullgraph=True)

    monkeypatch.setattr(torch, "compile", traces_only)
    monkeypatch.setattr(benchmark, "require_compiler", lambda _: None)
    options = ("--steps", "2", "--sampling-steps", "--compile", "--out", tmp_path / "costs.json")
    ended = command("bench", "t2diff", *TINY, *options)
    assert ended.code == 0, ended.messages
    assert ", compiled; batches of 20 users" in ended.output
    modes = {"step_by_position", "forward", "step_of_encoded"}
    assert set(traced) == {(name, "default") for name in modes}
