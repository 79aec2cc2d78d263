"""A run with the operators is a run with the references: the same losses, from the same seed."""

from __future__ import annotations

import dataclasses
import json
from functools import cache
from pathlib import Path

import pytest

from dropdrift.data.config import DataConfig
from dropdrift.models.config import DCNv2Config, ModelConfig
from dropdrift.models.methods.config import AsymDiffRecConfig, Kernels
from dropdrift.training.config import EvaluateConfig, LoopConfig, TrainConfig
from dropdrift.training.evaluation import evaluate
from dropdrift.training.trainer import train

STEPS = 8

Numbers = dict[str, list[dict[str, float]]]


@pytest.fixture(scope="module")
def run(prepared_folder, tmp_path_factory):
    """``run(kernels, rows, evaluated)``: numbers of every step, in batches of so many rows, of the
    validation, and of an evaluation with fields dropped."""
    folder = tmp_path_factory.mktemp("kernels")

    @cache
    def numbers(kernels: Kernels, rows: int, evaluated: bool) -> Numbers:
        config = _config(prepared_folder, folder / f"{kernels}-{rows}", kernels, rows)
        outcome = train(config, show_progress=False)
        numbers = {"steps": _logged_steps(config), "validation": [outcome["validation"]]}
        return numbers | ({"dropped": _with_fields_dropped(config)} if evaluated else {})

    return numbers


def _config(data: Path, out: Path, kernels: Kernels, rows: int) -> TrainConfig:
    asymdiffrec = AsymDiffRecConfig(
        hidden_width=40, reconstruction_weight=1.0, auxiliary_weight=1.0, kernels=kernels
    )
    return TrainConfig(
        out=out,
        data=DataConfig(path=data, batch_size=rows),
        model=ModelConfig(
            dcnv2=DCNv2Config(deep_widths=(16,), z_width=16), asymdiffrec=asymdiffrec
        ),
        loop=LoopConfig(epochs=1, max_steps=STEPS, log_every=1),
    )


def _logged_steps(config: TrainConfig) -> list[dict[str, float]]:
    entries = map(json.loads, (config.out / "log.jsonl").read_text().splitlines())
    return [
        {name: value for name, value in entry.items() if name != "kind"}
        for entry in entries
        if entry["kind"] == "train"
    ]


def _with_fields_dropped(config: TrainConfig) -> list[dict[str, float]]:
    result = evaluate(EvaluateConfig(run_folder=config.out), config, show_progress=False)
    return [dataclasses.asdict(point.metrics) for point in result.tasks["click"].robustness]


def check(ours: Numbers, references: Numbers) -> None:
    steps = references["steps"]
    assert [step["step"] for step in steps] == list(range(1, STEPS + 1))
    assert steps[-1]["reconstruction"] != pytest.approx(steps[0]["reconstruction"], rel=0.01)
    assert ours.keys() == references.keys()
    for name, expected in references.items():
        assert len(ours[name]) == len(expected) > 0, name
        for entry, reference in zip(ours[name], expected, strict=True):
            assert entry == pytest.approx(reference, rel=1e-4, abs=1e-6), name


@pytest.mark.parametrize("kernels", ["automatic", "torch"])
def test_losses_and_metrics_are_those_of_the_references(run, kernels):
    check(run(kernels, 250, True), run("reference", 250, True))


def test_losses_with_interpreted_kernels_are_those_of_the_references(run):
    """In small batches and without an evaluation: each program takes milliseconds."""
    check(run("triton", 32, False), run("reference", 32, False))
