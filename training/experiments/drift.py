"""What the diffusion of a trained T2Diff does: its schedule, and how near it comes to the drift."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from dropdrift.data.interactions.loader import SequenceLoader
from dropdrift.data.json_file import read_json
from dropdrift.data.loading.loader import Cursor
from dropdrift.data.schema import Schema
from dropdrift.models.matching.gather import gather_items
from dropdrift.models.noise import RowNoise
from dropdrift.models.t2diff.schedule import betas
from dropdrift.models.t2diff.user_tower import T2DiffTower
from dropdrift.training.build import matching_model
from dropdrift.training.config import TrainConfig
from dropdrift.training.distributed import process_group
from dropdrift.training.evaluation import restore_model
from dropdrift.training.matching.catalogue import catalogue_vectors
from dropdrift.training.provenance import write_result
from dropdrift.training.run_folder import RunFolder

# The first rows of a part tell enough.
ROWS = 1024


@dataclass(frozen=True)
class Similarity:
    """Cosine similarity of z_0 and its estimate over the reverse process (T2Diff, figure 4).

    Attributes:
        steps: the steps visited, from T down, [K].
        low: lower quartile over users at each step.
        median: median.
        high: upper quartile.
        users: number of users.
    """

    steps: tuple[int, ...]
    low: tuple[float, ...]
    median: tuple[float, ...]
    high: tuple[float, ...]
    users: int

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        write_result(path, self)

    @staticmethod
    def load(path: Path) -> Similarity:
        """The inverse of :meth:`save`; ValueError where the file is damaged."""
        raw: Any = read_json(path)
        try:
            lists = {n: tuple(raw[n]) for n in ("steps", "low", "median", "high")}
            return Similarity(**lists, users=raw["users"])
        except (TypeError, KeyError) as error:
            raise ValueError(f"{path} is damaged: remove it") from error


def noise_schedule(config: TrainConfig) -> tuple[float, ...]:
    """beta_1..beta_T of a run that is diffusing."""
    options = config.model.t2diff.diffusion
    found = betas(options.schedule, options.steps, options.beta_first, options.beta_last)
    return tuple(found.tolist())


@torch.no_grad()
def measure_similarity(config: TrainConfig, part: str) -> Similarity:
    """Follow the reverse process for some users of ``part``, with a run's best checkpoint.

    Raises:
        ValueError: there is no checkpoint, or its data has changed.
    """
    schema = Schema.load(config.out)
    data = dataclasses.replace(config.data, batch_size=ROWS)
    loader = SequenceLoader(config.data.path, part, schema, data, training=False)
    with process_group(config.loop.timeout) as ranks:
        sharded = restore_model(RunFolder(config.out), schema, config, ranks)
        sharded.eval()
        model = matching_model(sharded)
        tower = model.dense.user
        assert isinstance(tower, T2DiffTower)
        batch = next(iter(loader.batches(Cursor()))).to(ranks.device)
        x, _ = catalogue_vectors(model, loader.catalogue, ranks.device)
        sequence, present = gather_items(x, batch.items[:, -tower.window :])
        target, known = gather_items(x, batch.targets[:, -1])
        noise = RowNoise(0, 0, batch.first_row, ranks.device)
        found = tower.next_item.trajectory(sequence, present, target, noise)
        cosine = F.cosine_similarity(found.estimates, found.truth.unsqueeze(0), dim=2)
        cosine = cosine[:, known & present[:, -1]].cpu()
    levels = torch.tensor([0.25, 0.5, 0.75])
    low, median, high = torch.quantile(cosine.float(), levels, dim=1).tolist()
    steps = tuple(int(step) for step in found.steps)
    return Similarity(steps, tuple(low), tuple(median), tuple(high), cosine.shape[1])
