"""Each method through the same loop and the same serving, with several tasks."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import get_args

import pytest

from dropdrift.data.config import DataConfig
from dropdrift.models.config import DCNv2Config, ModelConfig
from dropdrift.models.methods.config import MethodKind
from dropdrift.training.config import EvaluateConfig, LoopConfig, TrainConfig
from dropdrift.training.evaluation import evaluate
from dropdrift.training.trainer import train

KINDS = get_args(MethodKind)

pytestmark = pytest.mark.timeout(200)


def configuration(data: Path, out: Path, kind: MethodKind) -> TrainConfig:
    return TrainConfig(
        out=out,
        data=DataConfig(path=data, batch_size=256),
        model=ModelConfig(
            method=kind,
            tasks=("click", "like"),
            dcnv2=DCNv2Config(deep_widths=(16,), z_width=8),
        ),
        loop=LoopConfig(epochs=1, max_steps=4, log_every=2),
    )


@pytest.fixture(scope="module")
def runs(prepared_folder, tmp_path_factory) -> dict[str, TrainConfig]:
    """A run of each method; 15% of the likes and 2% of the clicks are not known."""
    folder = tmp_path_factory.mktemp("methods")
    configs = {kind: configuration(prepared_folder, folder / kind, kind) for kind in KINDS}
    for config in configs.values():
        train(config, show_progress=False)
    return configs


def evaluated(config: TrainConfig):
    options = EvaluateConfig(run_folder=config.out, robustness=False)
    return evaluate(options, config, show_progress=False)


def test_every_method_has_its_losses_in_the_log_and_metrics_of_each_task(runs):
    aucs = {}
    for kind, config in runs.items():
        entries = map(json.loads, (config.out / "log.jsonl").read_text().splitlines())
        steps = [entry for entry in entries if entry["kind"] == "train"]
        assert [entry["step"] for entry in steps] == [2, 4]
        assert {"main", "z_variance"} <= steps[0].keys(), kind
        result = evaluated(config)
        assert list(result.tasks) == ["click", "like"]
        rows = {task: numbers.complete.rows for task, numbers in result.tasks.items()}
        assert 1400 < rows["click"] < 1500  # those whose label is known
        assert 1200 < rows["like"] < 1350
        aucs[kind] = tuple(numbers.complete.auc for numbers in result.tasks.values())
        assert all(0.3 < auc < 0.9 for auc in aucs[kind]), kind
    assert len(set(aucs.values())) == len(KINDS)  # none is another in disguise


@pytest.mark.parametrize(
    ("trained", "served"),
    [("cdae", "multivae"), ("ssl", "base"), ("base", "diffrec"), ("diffrec", "asymdiffrec")],
)
def test_a_checkpoint_of_one_method_is_refused_by_another(runs, trained, served):
    config = runs[trained]
    other = dataclasses.replace(config, model=dataclasses.replace(config.model, method=served))
    with pytest.raises(ValueError, match="of another model than the run") as told:
        evaluated(other)
    assert "method." in str(told.value)
    assert "\n" not in str(told.value)
