"""ID features to one vector a row: a TorchRec EmbeddingBagCollection made from a schema."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchrec.modules.embedding_configs import DataType, EmbeddingBagConfig, PoolingType
from torchrec.modules.embedding_modules import EmbeddingBagCollection
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor, KeyedTensor

from dropdrift.data.schema import Schema
from dropdrift.kernels.feature_dropout import pack_words
from dropdrift.models.config import TablePrecision

_POOLING = {"sum": PoolingType.SUM, "mean": PoolingType.MEAN}
_DATA_TYPES: dict[TablePrecision, DataType] = {"fp32": DataType.FP32, "fp16": DataType.FP16}


class FieldEmbedding(nn.Module):
    """Pooled embeddings of all fields, side by side in schema order.

    The tables are not initialised here: their values must not depend on how they are sharded (see
    ``sharding.initialise``).

    Args:
        schema: fields and tables.
        device: where the tables are made; ``meta`` where they are sharded later.
        precision: of the tables; what is looked up is fp32 whatever it is.

    Raises:
        ValueError: a table has a name that torch cannot give a module.
    """

    def __init__(
        self, schema: Schema, device: torch.device, precision: TablePrecision = "fp32"
    ) -> None:
        super().__init__()
        for table in schema.tables:
            _check_name(table.name)
        self.collection = EmbeddingBagCollection(
            tables=[
                EmbeddingBagConfig(
                    name=table.name,
                    num_embeddings=table.rows,
                    embedding_dim=table.width,
                    data_type=_DATA_TYPES[precision],
                    pooling=_POOLING[table.pooling],
                    feature_names=[f.name for f in schema.fields if f.table == table.name],
                )
                for table in schema.tables
            ],
            device=device,
        )
        self.in_schema_order = SelectFields(schema.field_names)

    def forward(self, features: KeyedJaggedTensor) -> Tensor:
        """[B, sum of widths]; the part of a missing field is zero."""
        return self.in_schema_order(self.collection(features))


def _check_name(table: str) -> None:
    if hasattr(nn.ModuleDict, table) or "." in table:
        raise ValueError(
            f"table {table!r}: torch cannot give a module that name; prepare the data with another "
            "one, such as 'table: {}_id' beside the field".format(table.replace(".", "_"))
        )


class SelectFields(nn.Module):
    """Concatenates the fields of a KeyedTensor by name.

    A sharded collection returns its keys in an order that depends on the plan, so ``values()`` may
    not be used as it is. A module of its own, so that TorchRec's pipelines need not trace into it.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__()
        self.names = list(names)

    def forward(self, pooled: KeyedTensor) -> Tensor:
        """[B, sum of widths] in the order of the names."""
        return KeyedTensor.regroup([pooled], [self.names])[0]


class MissingWords(nn.Module):
    """Which fields of a batch are missing, as packed words in schema order."""

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__()
        self.names = list(names)

    def forward(self, features: KeyedJaggedTensor) -> Tensor:
        """int32 [B, W]; see ``kernels.feature_dropout``."""
        position = {key: index for index, key in enumerate(features.keys())}
        order = [position[name] for name in self.names]
        lengths = features.lengths().view(len(position), -1)
        return pack_words((lengths[order] == 0).T)
