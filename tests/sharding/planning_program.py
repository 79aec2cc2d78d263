"""Prints where TorchRec's planner puts tables, for a CUDA cluster and every type and kernel.

Run by test_planning_is_repeatable.py under several seeds of Python's hashes.
"""

from __future__ import annotations

import json
from dataclasses import asdict

import torch
from torch import nn
from torchrec.modules.embedding_configs import EmbeddingBagConfig
from torchrec.modules.embedding_modules import EmbeddingBagCollection

from dropdrift.data.schema import Encoding, Field, Schema, Table
from dropdrift.sharding.cluster import make_cluster
from dropdrift.sharding.config import COMPUTE_KERNELS, SHARDING_TYPES, ShardingConfig
from dropdrift.sharding.hardware import load_hardware
from dropdrift.sharding.planning import PlanRequest, make_plan
from dropdrift.sharding.shard import fuse_sparse_optimizer
from dropdrift.sharding.summary import summarise

# Tables alike: many plans are equally good.
TABLES = [
    Table(f"t{i:02d}", 200_000 if i < 6 else 50_000, 128, Encoding("hash")) for i in range(12)
]
# Kernels and GiB of a GPU: plenty; so little that tables are cut; so little that two are spilled.
CASES = ((("fused",), 80.0), (("fused",), 0.5), (COMPUTE_KERNELS, 0.4))


def request(kernels: tuple[str, ...], hbm_gib: float) -> PlanRequest:
    schema = Schema(
        "alike",
        fields=tuple(Field(table.name, "categorical", table.name) for table in TABLES),
        tables=tuple(TABLES),
        labels=("click",),
    )
    model = nn.Module()
    model.collection = EmbeddingBagCollection(
        [
            EmbeddingBagConfig(
                name=table.name,
                num_embeddings=table.rows,
                embedding_dim=table.width,
                feature_names=[table.name],
            )
            for table in TABLES
        ],
        device=torch.device("meta"),
    )
    fuse_sparse_optimizer(model.collection, torch.optim.Adagrad, {"lr": 0.1})
    config = ShardingConfig(types=SHARDING_TYPES, kernels=kernels, hbm_gib=hbm_gib)  # type: ignore[arg-type]  # the literals
    cluster = make_cluster(config, load_hardware("H100"), 2, 2)
    return PlanRequest(model, schema, config, cluster, 256, "adagrad")


def main() -> None:
    plans = [summarise(make_plan(request(*case))) for case in CASES]
    print(json.dumps([asdict(plan) for plan in plans]))


if __name__ == "__main__":
    main()
