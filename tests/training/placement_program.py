"""Takes a step of each run and writes what this rank then holds of each table.

Run by test_placement.py on two ranks: ``placement_program.py CONFIG.yaml ...``. Beside each file,
``CONFIG-RANK.json`` gets the plan's document and the bytes of weights and optimizer state by table.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor
from torchrec.distributed.embeddingbag import ShardedEmbeddingBagCollection

from dropdrift.data.schema import Schema
from dropdrift.launchers.options import load_config
from dropdrift.training.checkpoint import TrainingState
from dropdrift.training.config import TrainConfig
from dropdrift.training.distributed import Ranks, on_first_rank, process_group
from dropdrift.training.run_folder import RunFolder
from dropdrift.training.trainer import Trainer


def lookups(trainer: Trainer) -> Iterator[Any]:
    """TorchRec's groups of tables, each with its FBGEMM module."""
    for module in trainer.model.modules():
        if isinstance(module, ShardedEmbeddingBagCollection):
            for lookup in module._lookups:  # DistributedDataParallel wraps those of replicated ones
                yield from getattr(lookup, "module", lookup)._emb_modules


def held(trainer: Trainer) -> dict[str, list[int]]:
    """Bytes of weights and of optimizer state by table, taken from FBGEMM's own buffers."""
    found: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for group in lookups(trainer):
        names, fbgemm = [table.name for table in group._config.embedding_tables], group._emb_module
        weights = fbgemm.split_embedding_weights()
        for name, weight in zip(names, weights, strict=True):
            found[name][0] += weight.nbytes
        if not hasattr(fbgemm, "split_optimizer_states"):
            continue  # a replicated table, whose optimizer is torch's
        states = fbgemm.split_optimizer_states()
        for name, tensors in zip(names, states, strict=False):
            found[name][1] += sum(tensor.nbytes for tensor in tensors)
        # The tables' parts are all that the buffers hold.
        assert fbgemm.weights_host.nbytes == sum(weight.nbytes for weight in weights)
        buffer = fbgemm.momentum1_host
        assert (buffer.nbytes if states else 0) == sum(t.nbytes for s in states for t in s)
    for key, state in trainer.optimizers.combined.state_dict()["state"].items():
        if ".embedding_bags." in key and "exp_avg" in state:
            tensors = [value for name, value in state.items() if name != "step"]
            assert all(isinstance(tensor, Tensor) for tensor in tensors)
            found[key.split(".")[-2]][1] += sum(tensor.nbytes for tensor in tensors)
    return found


def run(path: Path, ranks: Ranks) -> None:
    config = load_config(TrainConfig, path)
    schema, folder = Schema.load(config.data.path), RunFolder(config.out)
    on_first_rank(lambda: folder.create(config))
    trainer = Trainer(config, schema, ranks, folder, TrainingState(lanes=ranks.world_size))
    trainer.fit(False)
    told = {"document": trainer.placement.document, "held": held(trainer)}
    path.with_name(f"{path.stem}-{ranks.rank}.json").write_text(json.dumps(told))


def main() -> None:
    with process_group(timeout=60) as ranks:
        for path in sys.argv[1:]:
            run(Path(path), ranks)


if __name__ == "__main__":
    main()
