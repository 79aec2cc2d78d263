"""A ranking model: one lookup of all fields, an extractor, a head, and a method around them.

Legend: B rows, D width of the embeddings, Z width of the latent representation, L tasks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from dropdrift.data.batch import Batch
from dropdrift.data.schema import Schema
from dropdrift.kernels.feature_dropout import mask_features
from dropdrift.models.config import ModelConfig
from dropdrift.models.dcnv2 import DCNv2
from dropdrift.models.embedding import FieldEmbedding, MissingWords
from dropdrift.models.methods.make import make_method


class RankingHead(nn.Module):
    """The dense part: the base model, and how it is trained and served."""

    def __init__(self, schema: Schema, config: ModelConfig, tasks: int, seed: int) -> None:
        super().__init__()
        self.widths = schema.widths
        self.z_width = config.dcnv2.z_width
        self.extractor = DCNv2(sum(schema.widths), config.dcnv2)
        self.tower = nn.Linear(self.z_width, tasks)
        # Last, so that runs of one seed begin with the same base whatever the method.
        self.method = make_method(schema, config, seed)

    def extract(self, embedded: Tensor) -> Tensor:
        """h: x [B, D] to z [B, Z]."""
        return self.extractor(embedded)

    def head(self, z: Tensor) -> Tensor:
        """f: z [B, Z] to logits [B, L]."""
        return self.tower(z)

    def forward(
        self, embedded: Tensor, missing: Tensor, labels: Tensor, step: int, first_row: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss to minimise, and its parts, detached."""
        return self.method.losses(self, embedded, missing, labels, step, first_row)

    def logits(self, embedded: Tensor, missing: Tensor) -> Tensor:
        """Serving: logits [B, L]."""
        return self.head(self.method.serve(self.extract(embedded), missing))


class RankingModel(nn.Module):
    """Embeddings and dense part: what is sharded and trained.

    Args:
        schema: fields and tables.
        config: the model's options.
        seed: seed of what the method draws; initial weights come from ``sharding.initialise``.
        device: where the tables are made; ``meta`` where they are sharded later.

    Raises:
        ValueError: a task is no label of the schema, or the options contradict each other.
    """

    def __init__(
        self, schema: Schema, config: ModelConfig, seed: int, device: torch.device
    ) -> None:
        super().__init__()
        self.schema = schema
        self.tasks = task_names(schema, config)
        self.label_columns = [schema.label_index(task) for task in self.tasks]
        self.embedding = FieldEmbedding(schema, device, config.table_precision)
        self.missing_words = MissingWords(schema.field_names)
        self.dense = RankingHead(schema, config, len(self.tasks), seed)

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss to minimise and its parts. Plain enough for TorchRec's pipelines to trace."""
        embedded = self.embedding(batch.features)
        return self.dense(
            embedded,
            self.missing_words(batch.features),
            batch.labels[:, self.label_columns],
            batch.step,
            batch.first_row,
        )

    def look_up(self, features: KeyedJaggedTensor) -> tuple[Tensor, Tensor]:
        """Embeddings [B, D] and missing words [B, W] of a batch, for any number of ``score``."""
        return self.embedding(features), self.missing_words(features)

    def score(self, embedded: Tensor, missing: Tensor, dropped: Tensor | None = None) -> Tensor:
        """Logits [B, L], with the fields of ``dropped`` (words, natural ones included) dropped."""
        if dropped is None:
            return self.dense.logits(embedded, missing)
        backend = self.dense.method.backend
        masked = mask_features(embedded, dropped, self.schema.widths, backend=backend)
        return self.dense.logits(masked, dropped)


def task_names(schema: Schema, config: ModelConfig) -> tuple[str, ...]:
    """The labels that are trained; ValueError for one that the data set has not."""
    tasks = config.tasks or schema.labels[:1]
    for task in tasks:
        schema.label_index(task)
    return tasks
