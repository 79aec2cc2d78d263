"""Ranking models in the training loop: batches of impressions, AUC and its kin on validation."""

from __future__ import annotations

from dataclasses import asdict

from torchrec.distributed import DistributedModelParallel

from dropdrift.data.loading.loader import Cursor, Loader
from dropdrift.data.schema import Schema
from dropdrift.models.ranking import task_names
from dropdrift.training.build import ranking_model
from dropdrift.training.config import TrainConfig
from dropdrift.training.distributed import Ranks, on_first_rank
from dropdrift.training.metrics import RankingMetrics, ranking_metrics
from dropdrift.training.scenarios import COMPLETE
from dropdrift.training.scoring import Scores, score_batches
from dropdrift.training.task import part_loader


class RankingTask:
    """See :class:`~dropdrift.training.task.Task`.

    Args:
        config: the run's options.
        schema: of the prepared data.
        ranks: this process among all.

    Raises:
        ValueError: the data cannot train the tasks or choose the best checkpoint.
    """

    def __init__(self, config: TrainConfig, schema: Schema, ranks: Ranks) -> None:
        self._config, self._schema, self._ranks = config, schema, ranks
        self.chosen_by = config.chosen_by
        self.lower_is_better = config.loop.select_by == "log_loss"
        self.lookup_rows = max(config.data.batch_size // ranks.world_size, 1)
        self.data = part_loader(Loader, "train", config, schema, ranks)
        self._validation = part_loader(Loader, "validation", config, schema, ranks)
        self._check_labels()

    def validate(self, model: DistributedModelParallel) -> dict[str, float]:
        """Metrics of the first task on the validation part."""
        scores = score_batches(model, self._validation.batches(Cursor()), [COMPLETE], self._ranks)
        return asdict(on_first_rank(lambda: self._metrics(model, scores)))

    def _check_labels(self) -> None:
        if self._config.loop.select_by == "uauc" and not self._schema.has_user:
            raise ValueError(
                f"loop.select_by is 'uauc', but {self._config.data.path} does not say whose rows "
                "are whose: choose 'auc', or prepare the data with a user column"
            )
        tasks = task_names(self._schema, self._config.model)
        for task in tasks:
            self.data.check_label(task)
        self._validation.check_label(tasks[0])

    def _metrics(self, model: DistributedModelParallel, scores: Scores | None) -> RankingMetrics:
        assert scores is not None, "called on the first rank, which has the scores"
        metrics = ranking_metrics(
            scores.logits[0, :, 0],
            scores.labels[:, 0],
            scores.user_groups(self._schema),
            f"label {ranking_model(model).tasks[0]!r} of the validation part",
        )
        if self._config.loop.select_by == "uauc" and not metrics.users_counted:
            raise ValueError(
                "loop.select_by is 'uauc', but no user of the validation part has rows of both "
                "classes: choose 'auc'"
            )
        return metrics
