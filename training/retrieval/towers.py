"""The towers of a trained run on one process, as an index and a server use them.

Shapes: R users, I items, D the embeddings' width, O the vectors'.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dropdrift.data.interactions.catalogue import Catalogue
from dropdrift.data.schema import Schema
from dropdrift.models.t2diff.next_item import ESTIMATED
from dropdrift.models.t2diff.user_tower import T2DiffTower
from dropdrift.training.build import matching_model
from dropdrift.training.compiler import require_compiler
from dropdrift.training.config import TrainConfig
from dropdrift.training.distributed import Ranks
from dropdrift.training.evaluation import restore_model
from dropdrift.training.matching.catalogue import catalogue_vectors
from dropdrift.training.retrieval.histories import Histories
from dropdrift.training.retrieval.search import Vectors
from dropdrift.training.run_folder import RunFolder


class Towers:
    """User vectors of any histories, and the vectors of all items.

    The items' embeddings are held, so that the sharded tables and the process group are not needed
    any more: a user's vector takes this process alone.

    Args:
        run_folder: of a matching model.
        schema: the run's.
        config: what the run was trained with.
        catalogue: the items.
        ranks: this process among all; every rank must make one.

    Attributes:
        items: float32 [I, O], on the CPU.
        window: newest interactions that a user's vector is made from.
        looks_at_times: whether it depends on when they were, besides on their order.

    Raises:
        ValueError: there is no whole checkpoint, or it is of another model.
    """

    def __init__(
        self,
        run_folder: Path,
        schema: Schema,
        config: TrainConfig,
        catalogue: Catalogue,
        ranks: Ranks,
    ) -> None:
        sharded = restore_model(RunFolder(run_folder), schema, config, ranks)
        sharded.eval()
        self._model = matching_model(sharded)
        self._device = ranks.device
        self._embedded, vectors = catalogue_vectors(self._model, catalogue, ranks.device)
        self._unused = catalogue.features(np.zeros(1, dtype=np.int64))
        self.items: Vectors = _to_numpy(vectors)
        self.window = config.data.sequence.window
        model = config.model
        self.looks_at_times = model.kind == "t2diff" and model.t2diff.session.looks_at_times

    def compile(self) -> None:
        """Have torch compile the reverse process when a user's vector is first asked for.

        Raises:
            ValueError: there is no compiler, or the model has no reverse process.
        """
        tower = self._model.dense.user
        if not isinstance(tower, T2DiffTower) or tower.next_item.kind not in ESTIMATED:
            raise ValueError(
                "--compile is for T2Diff's reverse process, and this run's model has none: leave "
                "it out"
            )
        require_compiler(self._device)
        tower.next_item.compile_serving()

    @torch.no_grad()
    def users(self, histories: Histories, noise_seed: int, first_row: int = 0) -> Vectors:
        """Vectors of users with at least one interaction each, float32 [R, O].

        Args:
            histories: what they did.
            noise_seed: of whatever noise the model draws.
            first_row: what that noise is keyed by besides: the position of the first user.
        """
        batch = histories.batch(self.window, self._unused, first_row)
        return _to_numpy(
            self._model.user_vectors(self._embedded, batch.to(self._device), noise_seed)
        )


def check_matching(config: TrainConfig, run_folder: Path) -> None:
    """ValueError unless the run is of a model that has two towers."""
    if config.model.kind == "ranking":
        raise ValueError(
            f"--run-folder {run_folder} is of a ranking model: an index takes a matching model, "
            "such as one of model.kind 't2diff'"
        )


def _to_numpy(tensor: Tensor) -> Vectors:
    array: Vectors = tensor.float().cpu().numpy()
    return array
