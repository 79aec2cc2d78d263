"""Configurations of small trainings."""

from __future__ import annotations

from pathlib import Path

from dropdrift.data.config import DataConfig, SequenceConfig
from dropdrift.models.config import DCNv2Config, ModelConfig
from dropdrift.models.matching.config import ItemConfig, SASRecConfig
from dropdrift.models.t2diff.config import DiffusionConfig, SessionConfig, T2DiffConfig
from dropdrift.training.config import LoopConfig, OptimizerConfig, SparseOptimizer, TrainConfig


def on_one_rank(data: Path, out: Path, **loop: int) -> TrainConfig:
    """A ranking model that trains in a second."""
    return TrainConfig(
        out=out,
        data=DataConfig(path=data, batch_size=128),
        model=ModelConfig(dcnv2=DCNv2Config(deep_widths=(8,), z_width=4)),
        loop=LoopConfig(**loop),
    )


def asymdiffrec(data: Path, sparse: SparseOptimizer, **loop: int) -> TrainConfig:
    """Of batches that one, two and three ranks divide, in lanes that they divide."""
    return TrainConfig(
        data=DataConfig(path=data, batch_size=600, lanes=6, prefetch=0),
        model=ModelConfig(
            dcnv2=DCNv2Config(deep_widths=(8,), z_width=4),
            embedding_init_std=0.5,  # gradients well above rounding
        ),
        optimizer=OptimizerConfig(sparse=sparse),
        loop=LoopConfig(keep_checkpoints=9, log_every=1, **loop),
    )


def t2diff(data: Path, sparse: SparseOptimizer, **loop: int) -> TrainConfig:
    """The same, with all that is random in it."""
    return TrainConfig(
        data=DataConfig(
            path=data,
            batch_size=6,
            prefetch=0,
            sequence=SequenceConfig(window=8, stretch=12, negatives=10),
        ),
        model=ModelConfig(
            kind="t2diff",
            embedding_init_std=0.5,
            item=ItemConfig(width=8, dropout=0.1),
            t2diff=T2DiffConfig(
                next_item="diffusion-joint",
                diffusion=DiffusionConfig(
                    steps=5, window=4, levels=2, estimator="mlp", hidden_width=8
                ),
                session=SessionConfig(length=3, feed_forward=8, dropout=0.1),
            ),
            sasrec=SASRecConfig(blocks=1, max_positions=12),
        ),
        optimizer=OptimizerConfig(sparse=sparse),
        loop=LoopConfig(keep_checkpoints=9, log_every=1, select_by="ndcg", **loop),
    )
