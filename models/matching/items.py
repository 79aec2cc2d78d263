"""An item's embedding from its id and side features, and the item tower.

Legend: K items, F fields, d width of the embedding, o width of the vectors that are multiplied.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from dropdrift.data.schema import WIDTH_UNIT, Field, Schema
from dropdrift.models.config import TablePrecision
from dropdrift.models.embedding import FieldEmbedding
from dropdrift.models.matching.config import Combine, ItemConfig


class ItemEmbedding(nn.Module):
    """x [K, d] of a catalogue: the fields' pooled embeddings, added or side by side.

    Tables are as wide as FBGEMM needs, a multiple of 4; of a wider table only the first columns
    are read.

    Args:
        schema: of kind interactions; its tables' own widths are not used.
        config: fields, width and how they are combined.
        device: where the tables are made; ``meta`` where they are sharded later.
        precision: of the tables.

    Raises:
        ValueError: a field that the data set has not, or a width that cannot be shared equally.
    """

    def __init__(
        self,
        schema: Schema,
        config: ItemConfig,
        device: torch.device,
        precision: TablePrecision = "fp32",
    ) -> None:
        super().__init__()
        self.schema = item_schema(schema, config)
        self.fields = FieldEmbedding(self.schema, device, precision)
        self.combine = CombineFields(len(self.schema.fields), config.width, config.combine)

    def forward(self, catalogue: KeyedJaggedTensor) -> Tensor:
        """[K, d]; a missing field is zero."""
        return self.combine(self.fields(catalogue))


class CombineFields(nn.Module):
    """[K, F * table width] to [K, d]; of its own so that TorchRec need not trace into it."""

    def __init__(self, fields: int, width: int, combine: Combine) -> None:
        super().__init__()
        self.fields, self.width, self.combine = fields, width, combine

    def forward(self, pooled: Tensor) -> Tensor:
        """The sum of the fields, or all side by side."""
        by_field = pooled.view(pooled.shape[0], self.fields, -1)
        if self.combine == "sum":
            return by_field[:, :, : self.width].sum(1)
        return by_field[:, :, : self.width // self.fields].reshape(-1, self.width)


class ItemTower(nn.Module):
    """e [K, o] from x [K, d]: x itself, or Linear, ELU and layer norm."""

    def __init__(self, config: ItemConfig) -> None:
        super().__init__()
        self.layers: nn.Module = nn.Identity()
        if config.tower == "dense":
            self.layers = nn.Sequential(
                nn.Linear(config.width, config.output_width),
                nn.ELU(),
                nn.LayerNorm(config.output_width),
            )

    def forward(self, x: Tensor) -> Tensor:
        """[K, d] to [K, o]."""
        return self.layers(x)


def identities(catalogue: KeyedJaggedTensor, identifier: str) -> Tensor:
    """Which item each row of a catalogue is, int64 [K]: the id of a field; -1 where it has none."""
    bag = catalogue[identifier]
    there = bag.lengths() > 0
    ids = torch.full(there.shape, -1, dtype=torch.int64, device=there.device)
    ids[there] = bag.values().long()
    return ids


def item_schema(schema: Schema, config: ItemConfig) -> Schema:
    """The chosen fields alone, their tables at the width that ``config`` asks for."""
    if schema.kind != "interactions":
        raise ValueError(
            f"data set {schema.name!r} holds {schema.kind}, a matching model needs interactions: "
            "prepare it with --task matching"
        )
    fields = tuple(_field(schema, name) for name in config.fields or schema.field_names)
    for name in config.fields:
        if config.fields.count(name) > 1:
            raise ValueError(f"model.item.fields lists {name!r} {config.fields.count(name)} times")
    width = config.width
    if config.combine == "concat":
        if width % len(fields):
            raise ValueError(
                f"model.item.width is {width}, which {len(fields)} fields cannot share equally "
                "(model.item.combine concat): choose a multiple of that, or name fewer in "
                "model.item.fields"
            )
        width //= len(fields)
    used = {field.table for field in fields}
    stored = -(-width // WIDTH_UNIT) * WIDTH_UNIT
    tables = tuple(dataclasses.replace(t, width=stored) for t in schema.tables if t.name in used)
    return dataclasses.replace(schema, fields=fields, tables=tables)


def _field(schema: Schema, name: str) -> Field:
    if name not in schema.field_names:
        raise ValueError(
            f"model.item.fields names {name!r}; the data set's items have "
            f"{', '.join(schema.field_names)}: name some of those, or none for all"
        )
    return schema.field(name)
