"""One process and several ranks do the same, whatever the plan."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from dropdrift.data.schema import Schema
from dropdrift.sharding.initialise import fill_shard

PROGRAM = "tests.training.parity_program"
# "-reference": without the kernels' operators, which the one process has.
PLANS = [
    "planner", "spread", "last", "rows", "mixed", "columns-adagrad", "mixed-adagrad",
    "planner-reference",
]  # fmt: skip
# Parts of other sizes: of seven rows three, three and one.
ON_THREE = ["mixed", "mixed-adagrad"]

pytestmark = pytest.mark.timeout(280)


@pytest.fixture(scope="module")
def runs(launch, prepared_folder, tmp_path_factory) -> Mapping[int, Path]:
    """Of one, two and three ranks."""
    plans = {1: ["planner", "planner-adagrad"], 2: PLANS, 3: ON_THREE}
    return {
        ranks: launched(launch, ranks, prepared_folder, tmp_path_factory, *plans[ranks])
        for ranks in plans
    }


def launched(launch, world_size, data, tmp_path_factory, *plans) -> Path:
    out = tmp_path_factory.mktemp(f"parity-{world_size}")
    done = launch(world_size, "-m", PROGRAM, data, out, *plans)
    assert done.returncode == 0, done.stderr[-3000:]
    return out


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of the model in a checkpoint, whole, whatever they were sharded by."""
    target = folder / "whole.pt"
    dcp_to_torch_save(next(folder.glob("step-*")), target)
    model = torch.load(target, weights_only=False)["model"]
    return {name: tensor for name, tensor in model.items() if torch.is_tensor(tensor)}


@pytest.mark.parametrize(
    ("ranks", "plan"), [*((2, plan) for plan in PLANS), *((3, plan) for plan in ON_THREE)]
)
def test_several_ranks_do_as_one_process(runs, ranks, plan):
    reference = runs[1] / ("planner-adagrad" if plan.endswith("adagrad") else "planner")
    losses = json.loads((reference / "losses.json").read_text())
    found = json.loads((runs[ranks] / plan / "losses.json").read_text())
    assert found == pytest.approx(losses, abs=1e-5)
    expected, actual = weights(reference), weights(runs[ranks] / plan)
    assert expected.keys() == actual.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(actual[name], tensor, atol=2e-5, rtol=0, msg=name)


def test_every_table_moves(runs, prepared_folder):
    for folder in (runs[1] / "planner", *(runs[2] / plan for plan in PLANS)):
        after = weights(folder)
        for table in Schema.load(prepared_folder).tables:
            weight = after[f"embedding.collection.embedding_bags.{table.name}.weight"]
            before = torch.empty(table.rows, table.width)
            fill_shard(before, 0, 0, table.width, 0.01, f"1/{table.name}")
            moved = (weight - before).abs().amax(dim=1)
            assert moved.max() > 1e-3, (folder, table.name)
