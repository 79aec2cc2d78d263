"""TorchRec's sharded collection of tables, held to what an unsharded one computes.

TorchRec 1.8 cuts tables by rows on GPUs alone, though nothing in it needs one. The ids of a bag may
then lie on several ranks, so that it sums such bags and divides them by their lengths at the end:
of ``grid_shard`` it does not, and elsewhere it divides *every* field, also those whose tables are
cut otherwise, whose means are then divided twice and whose sums are no sums. It adds 1e-6 to the
lengths, too.
"""

from __future__ import annotations

from typing import Any

import torch
from torchrec.distributed.embeddingbag import (
    EmbeddingBagCollectionContext,
    EmbeddingBagCollectionSharder,
    ShardedEmbeddingBagCollection,
)
from torchrec.distributed.types import Awaitable, ParameterSharding, ShardingEnv
from torchrec.modules.embedding_configs import PoolingType
from torchrec.modules.embedding_modules import EmbeddingBagCollection
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from dropdrift.sharding.config import CUT_BY_ROWS


class CollectionSharder(EmbeddingBagCollectionSharder):
    """Shards an EmbeddingBagCollection by every sharding type, on a CPU too."""

    def sharding_types(self, compute_device_type: str) -> list[str]:
        """Sharding types that a type of device offers."""
        types = super().sharding_types(compute_device_type)
        return list(dict.fromkeys([*types, *CUT_BY_ROWS]))

    def shard(
        self,
        module: EmbeddingBagCollection,
        params: dict[str, ParameterSharding],
        env: ShardingEnv,
        device: torch.device | None = None,
        module_fqn: str | None = None,
    ) -> ShardedCollection:
        """The module, sharded by ``params``."""
        return ShardedCollection(
            module=module,
            table_name_to_parameter_sharding=params,
            env=env,
            fused_params=self.fused_params,
            device=device,
            qcomm_codecs_registry=self.qcomm_codecs_registry,
            module_fqn=module_fqn,
        )


class ShardedCollection(ShardedEmbeddingBagCollection):
    """TorchRec's, with the means and sums that the unsharded collection gives."""

    def __init__(
        self,
        module: EmbeddingBagCollection,
        table_name_to_parameter_sharding: dict[str, ParameterSharding],
        **options: Any,
    ) -> None:
        cut = [
            table
            for table in module.embedding_bag_configs()
            if table.pooling is PoolingType.MEAN
            and table_name_to_parameter_sharding[table.name].sharding_type in CUT_BY_ROWS
        ]
        for table in cut:
            # TorchRec leaves those of grid_shard a mean of every part of a bag.
            table.pooling = PoolingType.SUM
        super().__init__(module, table_name_to_parameter_sharding, **options)
        for table in cut:
            table.pooling = PoolingType.MEAN
        divided = {feature for table in cut for feature in table.feature_names}
        features = [f for table in module.embedding_bag_configs() for f in table.feature_names]
        self._has_mean_pooling_callback = bool(divided)
        self._pooling_type_to_rs_features[PoolingType.SUM.value] = [
            feature for feature in features if feature not in divided
        ]

    def input_dist(
        self, ctx: EmbeddingBagCollectionContext, features: KeyedJaggedTensor
    ) -> Awaitable[Awaitable[Any]]:
        """As TorchRec's, the bags' lengths exact; those of empty bags, whose sum is zero, one."""
        awaitable = super().input_dist(ctx, features)
        if ctx.divisor is not None:
            ctx.divisor = ctx.divisor.round().clamp(min=1)
        return awaitable
