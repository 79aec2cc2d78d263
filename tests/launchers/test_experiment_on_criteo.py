"""A format check: data without users and times, with real missing values, through an experiment."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

ROWS = 2_000
SMALL = {"cross_layers": 1, "deep_widths": [16], "z_width": 8}


@pytest.mark.timeout(120)
@pytest.mark.skipif("DROPDRIFT_DATASETS" not in os.environ, reason="DROPDRIFT_DATASETS is not set")
def test_base_and_asymdiffrec_on_the_criteo_sample(
    succeed: Callable[..., Any], mistake: Callable[..., str], tmp_path: Path
) -> None:
    sample = Path(os.environ["DROPDRIFT_DATASETS"]) / "criteo-sample" / "train.txt"
    rows = sample.read_text(encoding="utf-8").splitlines(keepends=True)[:ROWS]
    (tmp_path / "train.txt").write_text("".join(rows), encoding="utf-8")
    data = tmp_path / "criteo"
    succeed("prepare", "criteo", "--source", tmp_path / "train.txt", "--out", data)
    plan = tmp_path / "plan.yaml"
    text = {
        "title": "Criteo's sample",
        "recipe": "dcnv2",
        "base": "dcnv2",
        "metrics": ["auc", "log_loss", "auc@50%"],
        "options": {"model.dcnv2." + name: value for name, value in SMALL.items()},
        "variants": {"dcnv2": None, "asymdiffrec": {"recipe": "asymdiffrec"}},
    }
    plan.write_text(yaml.safe_dump(text), encoding="utf-8")
    usual = ("experiment", "--plan", plan, "--data", data, "--seeds", 2, "--out", tmp_path / "out")
    succeed(*usual)
    found = json.loads((tmp_path / "out" / "experiment.json").read_text())
    for row in ("dcnv2", "asymdiffrec"):
        # So few rows teach little: a number for each metric, none of them of a collapse.
        assert all(found["rows"][row]["mean"].values()), row
    assert found["data"]["Missing rate"] == pytest.approx(0.142, abs=0.02)
    plan.write_text(yaml.safe_dump({**text, "metrics": ["uauc"]}), encoding="utf-8")
    assert "does not say whose rows are whose" in mistake(*usual)
