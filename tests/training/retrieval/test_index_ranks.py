"""Several ranks build the index that one builds: the tables lie on different ranks."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dropdrift.data.config import DataConfig, SequenceConfig
from dropdrift.models.config import ModelConfig
from dropdrift.models.matching.config import ItemConfig
from dropdrift.models.t2diff.config import SessionConfig, T2DiffConfig
from dropdrift.training.config import LoopConfig, OptimizerConfig, TrainConfig
from dropdrift.training.retrieval.folder import IndexFolder
from dropdrift.training.trainer import train


@pytest.fixture
def run(interactions_folder: Path, tmp_path: Path) -> Path:
    config = TrainConfig(
        out=tmp_path / "run",
        data=DataConfig(
            interactions_folder,
            batch_size=16,
            prefetch=0,
            sequence=SequenceConfig(window=8, stretch=10),
        ),
        model=ModelConfig(
            kind="t2diff",
            item=ItemConfig(width=8),
            t2diff=T2DiffConfig("last", session=SessionConfig(length=4)),
        ),
        optimizer=OptimizerConfig(sparse_learning_rate=0.1),
        loop=LoopConfig(max_steps=2, select_by="recall"),
    )
    train(config, show_progress=False)
    return config.out


@pytest.mark.timeout(240)
def test_two_ranks_build_the_index_of_one(
    run: Path, tmp_path: Path, launch: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    vectors = []
    for ranks in (1, 2):
        out = tmp_path / f"index-{ranks}"
        options = ("--run-folder", run, "--out", out, "--sample", "4")
        ended = launch(ranks, "-m", "dropdrift", "index", *options)
        assert ended.returncode == 0, ended.stderr[-2000:]
        assert ended.stdout.count("Written to") == 1
        vectors.append(IndexFolder(out).search().vectors)
    np.testing.assert_allclose(*vectors, atol=1e-6)
    assert np.abs(vectors[0]).max() > 0.01
