"""A run with the operators is a run with the references: the same losses, from the same seed."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from dropdrift.data.config import DataConfig
from dropdrift.models.config import AsymDiffRecConfig, DCNv2Config, Kernels, ModelConfig
from dropdrift.training.config import EvaluateConfig, LoopConfig, TrainConfig
from dropdrift.training.evaluation import evaluate
from dropdrift.training.trainer import train

STEPS = 8


@pytest.fixture(scope="module")
def run(prepared_folder, tmp_path_factory):
    """``run(kernels)``: numbers of every step, of the validation, and with fields dropped."""
    folder = tmp_path_factory.mktemp("kernels")
    done = {}

    def numbers(kernels: Kernels) -> tuple[list[dict[str, float]], ...]:
        if kernels not in done:
            done[kernels] = _numbers(prepared_folder, folder / kernels, kernels)
        return done[kernels]

    return numbers


def _numbers(data: Path, out: Path, kernels: Kernels) -> tuple[list[dict[str, float]], ...]:
    asymdiffrec = AsymDiffRecConfig(
        hidden_width=40, reconstruction_weight=1.0, auxiliary_weight=1.0, kernels=kernels
    )
    config = TrainConfig(
        out=out,
        data=DataConfig(path=data, batch_size=250),
        model=ModelConfig(
            dcnv2=DCNv2Config(deep_widths=(16,), z_width=16), asymdiffrec=asymdiffrec
        ),
        loop=LoopConfig(epochs=1, max_steps=STEPS, log_every=1),
    )
    outcome = train(config, show_progress=False)
    entries = map(json.loads, (out / "log.jsonl").read_text().splitlines())
    steps = [
        {name: value for name, value in entry.items() if name != "kind"}
        for entry in entries
        if entry["kind"] == "train"
    ]
    result = evaluate(EvaluateConfig(run_folder=out), config, show_progress=False)
    points = [dataclasses.asdict(p.metrics) for p in result.tasks["click"].robustness]
    return steps, [outcome["validation"]], points


@pytest.mark.parametrize("kernels", ["automatic", "torch"])
def test_losses_and_metrics_are_those_of_the_references(run, kernels):
    expected = run("reference")
    steps = expected[0]
    assert [step["step"] for step in steps] == list(range(1, STEPS + 1))
    assert steps[-1]["reconstruction"] != pytest.approx(steps[0]["reconstruction"], rel=0.01)
    for ours, references in zip(run(kernels), expected, strict=True):
        assert len(ours) == len(references) > 0
        for entry, reference in zip(ours, references, strict=True):
            assert entry == pytest.approx(reference, rel=1e-4, abs=1e-6)
