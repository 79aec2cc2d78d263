"""A matching model: one lookup of a catalogue, a user tower, an item tower, their softmax.

Legend: B rows, L positions, K items, d width of an item's embedding, o width of the vectors that
are multiplied.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from dropdrift.data.batch import SequenceBatch
from dropdrift.data.config import SequenceConfig
from dropdrift.data.schema import Schema
from dropdrift.models.config import ModelConfig
from dropdrift.models.matching.config import SASRecConfig
from dropdrift.models.matching.items import ItemEmbedding, ItemTower, identities
from dropdrift.models.matching.sasrec import SASRec
from dropdrift.models.matching.softmax import full_softmax_loss, sampled_softmax_loss
from dropdrift.models.t2diff.user_tower import T2DiffTower


class MatchingModel(nn.Module):
    """Embeddings and dense part: what is sharded and trained.

    Args:
        schema: fields of the items.
        config: the model's options.
        sequence: how sequences become rows.
        seed: seed of noise and dropout; initial weights of tables come from
            ``sharding.initialise``.
        device: where the tables are made; ``meta`` where they are sharded later.

    Raises:
        ValueError: a field that the items have not, or options that contradict each other or need
            times that the data set has not.
    """

    def __init__(
        self,
        schema: Schema,
        config: ModelConfig,
        sequence: SequenceConfig,
        seed: int,
        device: torch.device,
    ) -> None:
        super().__init__()
        self.embedding = ItemEmbedding(schema, config.item, device, config.table_precision)
        self.dense = MatchingTowers(schema, config, sequence, seed)

    def forward(self, batch: SequenceBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss to minimise and its parts. Plain enough for TorchRec's pipelines to trace."""
        x = self.embedding(batch.catalogue)
        return self.dense(x, batch)

    def embed(self, catalogue: KeyedJaggedTensor) -> Tensor:
        """Embeddings x [K, d], for any number of the calls below."""
        return self.embedding(catalogue)

    def item_vectors(self, x: Tensor) -> Tensor:
        """[K, o], to be multiplied with users' vectors."""
        return self.dense.items(x)

    @torch.no_grad()
    def user_vectors(self, x: Tensor, batch: SequenceBatch, noise_seed: int) -> Tensor:
        """[B, o] at the last position, without dropout and targets, in evaluation mode.

        Args:
            x: [K, d], embeddings of the batch's catalogue.
            batch: items and times; its targets are not looked at.
            noise_seed: seed of the reverse process's noise.
        """
        assert not self.training
        return self.dense.user.serve(x, batch, noise_seed)


class MatchingTowers(nn.Module):
    """The dense part: both towers and the loss, L_TOTAL (T2Diff, eq. 25)."""

    def __init__(
        self, schema: Schema, config: ModelConfig, sequence: SequenceConfig, seed: int
    ) -> None:
        super().__init__()
        _check(schema, config, sequence)
        # Of a data set of interactions the first field is the item's id.
        self.identifier = schema.field_names[0]
        item = config.item
        self.softmax = config.softmax
        self.full = not sequence.negatives
        self.last_only = sequence.training == "one_window"
        self.items = ItemTower(item)
        self.user: T2DiffTower | SASRec
        if config.kind == "sasrec":
            self.user = SASRec(config.sasrec, item.width, item.output_width, item.dropout, seed)
        else:
            self.user = T2DiffTower(
                config.t2diff, item.width, item.output_width, sequence.window, item.dropout, seed
            )

    def forward(self, x: Tensor, batch: SequenceBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss to minimise, and its parts, detached, from the embeddings [K, d]."""
        users, losses = self.user(x, batch, self.last_only)
        targets = batch.targets[:, -1:] if self.last_only else batch.targets
        known = targets >= 0
        items = self.items(x)
        if self.full:
            total = full_softmax_loss(users[known], items, targets[known], self.softmax)
        else:
            total = sampled_softmax_loss(
                users[known],
                items,
                targets[known],
                self.softmax,
                batch.negatives,
                batch.log_expected,
                identities(batch.catalogue, self.identifier),
            )
        losses = {"softmax": total / batch.target_share, **losses}
        loss = torch.stack(list(losses.values())).sum()
        return loss, {name: part.detach() for name, part in losses.items()}


def _check(schema: Schema, config: ModelConfig, sequence: SequenceConfig) -> None:
    """ValueError for options that contradict each other or the data set."""
    assert config.kind != "ranking"
    if sequence.negatives and config.softmax.label_smoothing:
        raise ValueError(
            f"model.softmax.label_smoothing is {config.softmax.label_smoothing}, which needs the "
            f"full softmax, but data.sequence.negatives is {sequence.negatives}"
        )
    if config.kind == "sasrec":
        _check_positions(config.sasrec, sequence)
    elif not schema.has_time:
        session = config.t2diff.session
        for name, asked in (("split", session.split == "gap"), ("time_lag", session.time_lag)):
            if asked:
                raise ValueError(
                    f"model.t2diff.session.{name} needs times, which data set {schema.name!r} has "
                    "not: split sessions by count and switch time_lag off"
                )


def _check_positions(config: SASRecConfig, sequence: SequenceConfig) -> None:
    """ValueError where a position is asked for that SASRec has not or never trains."""
    every_position = sequence.training == "every_position"
    trained = sequence.stretch if every_position else sequence.window
    for name, positions in (("window", sequence.window), ("stretch", trained)):
        if positions > config.max_positions:
            raise ValueError(
                f"data.sequence.{name} is {positions}, must be at most "
                f"model.sasrec.max_positions, {config.max_positions}"
            )
    if sequence.window > trained:
        raise ValueError(
            f"data.sequence.window is {sequence.window}, but SASRec's positions beyond "
            f"data.sequence.stretch, {trained}, would never be trained: lower the window or raise "
            "the stretch"
        )
