"""Matching models in the training loop: batches of sequences, full ranking on validation."""

from __future__ import annotations

from torchrec.distributed import DistributedModelParallel

from dropdrift.data.interactions.loader import SequenceLoader
from dropdrift.data.schema import Schema
from dropdrift.training.config import TrainConfig
from dropdrift.training.distributed import Ranks, on_first_rank
from dropdrift.training.matching.config import DEFAULT_KS
from dropdrift.training.matching.metrics import MatchingMetrics, matching_metrics
from dropdrift.training.matching.ranks import Ranked, rank_batches
from dropdrift.training.task import part_loader

# Validation draws the same noise every time, so that two of them can be compared.
NOISE_SEED = 0


class MatchingTask:
    """See :class:`~dropdrift.training.task.Task`.

    Args:
        config: the run's options.
        schema: of the prepared data.
        ranks: this process among all.

    Raises:
        ValueError: no user's sequence is long enough.
    """

    lower_is_better = False

    def __init__(self, config: TrainConfig, schema: Schema, ranks: Ranks) -> None:
        self._config, self._schema, self._ranks = config, schema, ranks
        self.chosen_by = config.chosen_by
        self.data = part_loader(SequenceLoader, "train", config, schema, ranks)
        self._validation = part_loader(SequenceLoader, "validation", config, schema, ranks)
        self.lookup_rows = self.data.catalogue_rows

    def validate(self, model: DistributedModelParallel) -> dict[str, float]:
        """Recall, MRR and NDCG over the whole catalogue on the validation part."""
        ranked = rank_batches(model, self._validation, self._ranks, NOISE_SEED)
        return on_first_rank(lambda: self._metrics(ranked).as_numbers())

    def _metrics(self, ranked: Ranked | None) -> MatchingMetrics:
        assert ranked is not None, "called on the first rank, which has the ranks"
        unseen = self._config.data.sequence.exclude_seen
        return matching_metrics(
            ranked.among_unseen if unseen else ranked.among_all,
            sorted({self._config.loop.select_at, *DEFAULT_KS}),
        )
