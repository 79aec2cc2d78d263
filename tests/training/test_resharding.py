"""Runs that go on elsewhere: on other ranks, by other plans, to the end of the same data."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tests.training.hand_made_plans import dealt, write_plan
from tests.training.resharding_program import NOISE_SEED, Asked, key_of_rows, run
from tests.training.small_runs import asymdiffrec, t2diff
from tests.training.test_matching_parity import BLIND
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from dropdrift.data.columns import USER_COLUMN
from dropdrift.data.loading.loader import Cursor
from dropdrift.data.schema import Schema
from dropdrift.models.ranking import RankingModel
from dropdrift.sharding.config import SHARDING_TYPES
from dropdrift.training.checkpoint import checkpoint_path, read_state
from dropdrift.training.config import TrainConfig
from dropdrift.training.distributed import Ranks, process_group
from dropdrift.training.matching.catalogue import catalogue_vectors
from dropdrift.training.plans.request import unsharded
from dropdrift.training.run_folder import save_config
from dropdrift.training.task import part_loader
from dropdrift.training.trainer import make_task

PROGRAM = "tests.training.resharding_program"
ALONE = Ranks(0, 1, 1, torch.device("cpu"))
BY_ROWS = ("table_wise", "row_wise", "table_row_wise")
# Sharding types of a table, by its optimizer.
MATRIX = {
    "rowwise_adagrad": BY_ROWS,
    "adagrad": SHARDING_TYPES,
    "sgd": SHARDING_TYPES,
    "adam": ("data_parallel",),
}
MODELS = ("asymdiffrec", "t2diff")
STOPPED_AT, STEPS = 4, 12
# From how many ranks to how many.
MOVES = [(1, 2), (1, 3), (3, 2), (2, 1), (3, 1)]

pytestmark = pytest.mark.timeout(700)


DOCUMENT = Path(__file__).parents[2] / "docs" / "plans.md"


def test_the_table_in_the_documentation_is_what_is_tested():
    section = DOCUMENT.read_text().partition("## Going on by another plan")[2].partition("\n## ")[0]
    rows = [line.split("|")[1:3] for line in section.splitlines() if line.startswith("| `")][1:]
    told = {name.strip(" `"): tuple(kinds.strip().split(", ")) for name, kinds in rows}
    assert told == MATRIX


@pytest.mark.parametrize(
    ("sparse", "kind"),
    [
        (sparse, kind)
        for sparse, kinds in MATRIX.items()
        for kind in (*SHARDING_TYPES, "data_parallel")
        if kind not in kinds
    ],
)
def test_every_other_type_is_refused_by_name(prepared_folder, tmp_path, sparse, kind):
    config, schema = asymdiffrec(prepared_folder, sparse), Schema.load(prepared_folder)
    ranks = Ranks(rank=0, world_size=2, ranks_per_node=2, device=torch.device("cpu"))
    kinds = dict.fromkeys([table.name for table in schema.tables], kind)
    told = rf"table 'user_id' is {kind}: .*{sparse}.* it may be {', '.join(MATRIX[sparse])}$"
    with pytest.raises(ValueError, match=told):
        write_plan(schema, config, ranks, kinds, tmp_path / "plan.json")


def test_a_part_without_rows_is_refused(prepared_folder, tmp_path):
    """FBGEMM's backward on a CPU would read beyond its buffers."""
    config, schema = asymdiffrec(prepared_folder, "adagrad"), Schema.load(prepared_folder)
    ranks = Ranks(rank=0, world_size=4, ranks_per_node=4, device=torch.device("cpu"))
    kinds = dict.fromkeys([table.name for table in schema.tables], "row_wise")
    assert schema.table("tab").rows == 6
    with pytest.raises(ValueError, match="table 'tab' leaves a rank without rows"):
        write_plan(schema, config, ranks, kinds, tmp_path / "plan.json")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("resharding")


@pytest.fixture(scope="module")
def impressions(prepared_folder, folder) -> Path:
    """Every training row of a user of its own, and every table wide enough to be cut by columns."""
    copy = folder / "impressions"
    for path in prepared_folder.rglob("*"):
        if path.is_file():
            (copy / path.relative_to(prepared_folder)).parent.mkdir(parents=True, exist_ok=True)
            (copy / path.relative_to(prepared_folder)).write_bytes(path.read_bytes())
    schema = Schema.load(copy)
    tables = tuple(dataclasses.replace(table, width=16) for table in schema.tables)
    dataclasses.replace(schema, tables=tables).save(copy)
    first = 1
    for path in sorted((copy / "train").iterdir()):
        table = pq.read_table(path)
        users = pa.array(range(first, first + len(table)))
        place = table.column_names.index(USER_COLUMN)
        pq.write_table(table.set_column(place, USER_COLUMN, users), path, row_group_size=600)
        first += len(table)
    for path in (copy / "validation").iterdir():
        pq.write_table(pq.read_table(path).slice(0, 300), path)
    return copy


@pytest.fixture(scope="module")
def interactions(write_interactions, folder) -> Path:
    """No two interactions at the same time."""
    generator = np.random.default_rng(3)
    users = [generator.integers(30, size=6 + u % 20).tolist() for u in range(40)]
    times = [[1000 * (1 + u) + n for n in range(len(items))] for u, items in enumerate(users)]
    # Five and the unknown one: two rows on each of three ranks.
    tags = [[f"t{i % 5}"] for i in range(30)]
    return write_interactions(folder / "interactions", users, items=30, times=times, tags=tags)


@pytest.fixture(scope="module")
def configs(impressions, interactions) -> Mapping[str, TrainConfig]:
    """Two epochs of 6 steps."""
    two = {"epochs": 2, "checkpoint_every": STOPPED_AT}
    return {
        "asymdiffrec": asymdiffrec(impressions, "rowwise_adagrad", **two),
        "t2diff": t2diff(interactions, "rowwise_adagrad", **two),
        **{
            sparse: asymdiffrec(impressions, sparse, max_steps=4, checkpoint_every=2)
            for sparse in MATRIX
        },
    }


def kinds_of(config: TrainConfig, kinds: tuple[str, ...], first: int = 0) -> dict[str, str]:
    return dealt([table.name for table in Schema.load(config.data.path).tables], kinds, first)


class Runs:
    """What is to be run on so many ranks, and where it goes."""

    def __init__(self, folder: Path, configs: Mapping[str, TrainConfig]) -> None:
        self.folder, self.configs = folder, configs
        for name, config in configs.items():
            save_config(config, folder / f"{name}.yaml")

    def of(self, model: str, ranks: int) -> list[Asked]:
        """A model's own run on so many ranks, and those that go on from others' there."""
        kinds = {first: kinds_of(self.configs[model], BY_ROWS, first) for first in (0, 1)}
        config = f"{self.folder / model}.yaml"
        if ranks == 1:
            kinds = dict.fromkeys(kinds)  # one rank has no choice
        begun = self.folder / f"{model}-{ranks}"
        return [
            Asked(config, f"{begun}", kinds[0]),
            Asked(config, f"{begun}-again", kinds[0], f"{begun}", STOPPED_AT),
            *(
                Asked(config, f"{begun}-from-{was}", kinds[1], f"{self.folder / model}-{was}",
                      STOPPED_AT)
                for was, now in MOVES
                if now == ranks and ranks != 1
            ),
        ]  # fmt: skip

    def moved_to_one(self, model: str) -> list[Asked]:
        """Those that go on alone."""
        return [
            Asked(f"{self.folder / model}.yaml", f"{self.folder / model}-1-from-{was}", None,
                  f"{self.folder / model}-{was}", STOPPED_AT)
            for was, now in MOVES
            if now == 1
        ]  # fmt: skip

    def of_matrix(self, sparse: str) -> list[Asked]:
        """A run whose tables are cut in all ways, and its goings-on, each of which moves all on."""
        config, begun = f"{self.folder / sparse}.yaml", f"{self.folder / sparse}"
        kinds = [
            kinds_of(self.configs[sparse], MATRIX[sparse], first)
            for first in range(len(MATRIX[sparse]))
        ]
        return [
            Asked(config, begun, kinds[0]),
            *(
                Asked(config, f"{begun}-moved-{by}", to, begun, step=2)
                for by, to in enumerate(kinds)
            ),
        ]


@pytest.fixture(scope="module")
def trained(folder, configs, launch) -> Path:
    """All runs, on one, three, two ranks, and one again."""
    runs = Runs(folder, configs)
    with process_group(timeout=60) as ranks:
        for asked in [one for model in MODELS for one in runs.of(model, 1)]:
            run(asked, ranks)
    for world_size in (3, 2):
        asked = [one for model in MODELS for one in runs.of(model, world_size)]
        if world_size == 2:
            asked += [one for sparse in MATRIX for one in runs.of_matrix(sparse)]
        listed = folder / f"runs-{world_size}.json"
        listed.write_text(json.dumps([dataclasses.asdict(one) for one in asked]))
        done = launch(world_size, "-m", PROGRAM, listed)
        assert done.returncode == 0, done.stderr[-3000:]
    with process_group(timeout=60) as ranks:
        for asked in [one for model in MODELS for one in runs.moved_to_one(model)]:
            run(asked, ranks)
    return folder


def tensors(out: Path, step: int) -> dict[str, torch.Tensor]:
    """Weights and optimizer state of a checkpoint, whole."""
    scratch, found = out / "whole.pt", {}
    dcp_to_torch_save(checkpoint_path(out / "checkpoints", step), scratch)

    def collect(value: object, path: str) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                collect(item, f"{path}/{key}")
        elif torch.is_tensor(value):
            found[path] = value

    collect(torch.load(scratch, weights_only=False), "")
    return found


@torch.no_grad()
def plain_logits(config: TrainConfig, weights: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Of the validation part, by the model that nothing was sharded of."""
    schema = Schema.load(config.data.path)
    model = unsharded(schema, config)
    model.embedding.to_empty(device="cpu")
    prefix = "/model/"
    model.load_state_dict(
        {n.removeprefix(prefix): w for n, w in weights.items() if n.startswith(prefix)}
    )
    model.eval()
    loader = part_loader(
        type(make_task(config, schema, ALONE).data), "validation", config, schema, ALONE
    )
    batches = loader.batches(Cursor())
    if isinstance(model, RankingModel):
        return torch.cat([model.score(*model.look_up(b.features))[: b.size] for b in batches])
    embedded, items = catalogue_vectors(model, loader.catalogue, ALONE.device)
    users = [model.user_vectors(embedded, b, NOISE_SEED)[: b.size] for b in batches]
    return torch.cat(users) @ items.T


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_on_the_same_ranks_by_the_same_plan_it_ends_as_if_never_stopped(trained, model, ranks):
    """Bit by bit, with every line of the log."""
    whole, again = trained / f"{model}-{ranks}", trained / f"{model}-{ranks}-again"
    expected, actual = tensors(whole, STEPS), tensors(again, STEPS)
    assert actual.keys() == expected.keys()
    for path, tensor in expected.items():
        assert torch.equal(actual[path], tensor), path
    states = [read_state(out / "checkpoints", STEPS) for out in (whole, again)]
    assert states[0] == states[1]
    logs = [(out / "log.jsonl").read_text() for out in (whole, again)]
    assert len(logs[0].splitlines()) == STEPS + 2
    assert logs[0] == logs[1]
    rows = [rows_by_step(out) for out in (whole, again)]
    assert {step: rows[0][step] for step in range(STOPPED_AT, STEPS)} == rows[1]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("was", "now"), MOVES)
def test_right_after_loading_the_logits_are_those_of_the_plain_model(
    trained, configs, model, was, now
):
    expected = plain_logits(configs[model], tensors(trained / f"{model}-{was}", STOPPED_AT))
    found = np.load(trained / f"{model}-{now}-from-{was}" / "logits.npy")
    assert expected.std() > 0.1
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-6, rtol=1e-6)


def rows_by_step(out: Path) -> dict[int, list[str]]:
    """What all ranks were trained on, by step."""
    found: dict[int, list[str]] = {}
    for path in sorted(out.glob("rows-*.json")):
        for step, key in json.loads(path.read_text()):
            found.setdefault(step, []).append(key)
    return found


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("was", "now"), MOVES)
def test_every_row_of_an_epoch_is_trained_on_once(trained, configs, model, was, now):
    before = rows_by_step(trained / f"{model}-{was}")
    after = rows_by_step(trained / f"{model}-{now}-from-{was}")
    assert sorted(after) == list(range(STOPPED_AT, STEPS))
    together = {step: before[step] for step in range(STOPPED_AT)} | after
    loader = make_task(configs[model], Schema.load(configs[model].data.path), ALONE).data
    for epoch in range(2):
        steps = range(6 * epoch, 6 * (epoch + 1))
        rows = Counter(key for step in steps for key in together[step])
        assert set(rows.values()) == {1}
        cursor = Cursor(epoch=epoch, step=6 * epoch)
        wanted = Counter(key for batch in loader.batches(cursor) for key in key_of_rows(batch))
        assert rows == wanted
        assert len(rows) == 6 * configs[model].data.batch_size
    assert together[0] != together[6]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("was", "now"), MOVES)
def test_it_ends_as_the_run_that_was_not_moved(trained, model, was, now):
    expected = tensors(trained / f"{model}-{was}", STEPS)
    actual = tensors(trained / f"{model}-{now}-from-{was}", STEPS)
    assert actual.keys() == expected.keys()
    for path, tensor in expected.items():
        if not any(f"{name}/" in f"{path}/" for name in BLIND):
            torch.testing.assert_close(actual[path], tensor, atol=2e-5, rtol=1e-5, msg=path)


@pytest.mark.parametrize(
    ("sparse", "by"), [(sparse, by) for sparse in MATRIX for by in range(len(MATRIX[sparse]))]
)
def test_every_sharding_type_goes_on_as_every_other(trained, configs, sparse, by):
    """Bit by bit where all stay as they were."""
    begun, moved = trained / sparse, trained / f"{sparse}-moved-{by}"
    plan = json.loads((checkpoint_path(moved / "checkpoints", 4) / "plan.json").read_text())
    kinds = {table["table"]: table["sharding_type"] for table in plan["placement"]}
    assert kinds == kinds_of(configs[sparse], MATRIX[sparse], by)
    expected = plain_logits(configs[sparse], tensors(begun, 2))
    np.testing.assert_allclose(np.load(moved / "logits.npy"), expected.numpy(), atol=1e-6, rtol=0)
    wanted, actual = tensors(begun, 4), tensors(moved, 4)
    assert wanted.keys() == actual.keys()
    atol = 1e-6 if by else 0.0
    for path, tensor in wanted.items():
        torch.testing.assert_close(actual[path], tensor, atol=atol, rtol=0, msg=path)
