"""Training is sharded as ``dropdrift plan`` says, or as a saved plan says."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from dropdrift.data.config import DataConfig, SequenceConfig
from dropdrift.data.schema import Schema
from dropdrift.models.config import DCNv2Config, ModelConfig
from dropdrift.models.matching.config import ItemConfig, SASRecConfig
from dropdrift.sharding.config import ShardingConfig
from dropdrift.sharding.planning import Planned, make_plan
from dropdrift.sharding.saved.document import document, read_plan
from dropdrift.sharding.summary import summarise
from dropdrift.training.checkpoint import checkpoint_path
from dropdrift.training.config import LoopConfig, OptimizerConfig, TrainConfig
from dropdrift.training.plans.config import PlanConfig
from dropdrift.training.plans.request import planned_run
from dropdrift.training.run_folder import save_config
from dropdrift.training.trainer import train

PROGRAM = Path(__file__).with_name("placement_program.py")
ITEMS = 30
CASES = (
    "ranking-rowwise_adagrad",
    "ranking-adagrad",
    "ranking-sgd",
    "ranking-adam",
    "ranking-rowwise_adagrad-fp16",
    "ranking-adagrad-fp16",
    "ranking-rowwise_adagrad-fp32-rows",
    "matching-adagrad",
    "matching-adam",
)

pytestmark = pytest.mark.timeout(280)


def ranking(data: Path, optimizer: str = "rowwise_adagrad") -> TrainConfig:
    return TrainConfig(
        data=DataConfig(path=data, batch_size=64, lanes=2, prefetch=0),
        model=ModelConfig(dcnv2=DCNv2Config(deep_widths=(16,), z_width=8)),
        optimizer=OptimizerConfig(sparse=optimizer),  # type: ignore[arg-type]  # one of the literals
        loop=LoopConfig(max_steps=1, log_every=1),
    )


def matching(data: Path, optimizer: str) -> TrainConfig:
    """Items 256 wide, so that a table can be cut by columns."""
    sequence = SequenceConfig(window=8, stretch=12, negatives=10)
    return TrainConfig(
        data=DataConfig(path=data, batch_size=8, sequence=sequence),
        model=ModelConfig(
            kind="sasrec",
            item=ItemConfig(width=256),
            sasrec=SASRecConfig(blocks=1, max_positions=12),
        ),
        sharding=ShardingConfig(types=("column_wise",)),
        optimizer=OptimizerConfig(sparse=optimizer),  # type: ignore[arg-type]  # one of the literals
        loop=LoopConfig(max_steps=1, log_every=1, select_by="ndcg"),
    )


def planned(config: TrainConfig) -> Planned:
    """What ``dropdrift plan`` plans for it, on one CPU node of two ranks."""
    sections = {field.name: getattr(config, field.name) for field in dataclasses.fields(PlanConfig)
                if hasattr(config, field.name)}  # fmt: skip
    wanted = PlanConfig(**sections, hardware="CPU", gpus_per_node=2)
    return make_plan(planned_run(wanted, Schema.load(config.data.path), ITEMS))


def as_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


@pytest.fixture(scope="module")
def configs(prepared_folder, interactions_folder, tmp_path_factory):
    """Each case, written to a file."""
    folder = tmp_path_factory.mktemp("parity")
    made = {}
    for case in CASES:
        kind, optimizer, *others = case.split("-")
        config = (
            ranking(prepared_folder, optimizer)
            if kind == "ranking"
            else matching(interactions_folder, optimizer)
        )
        model = replace(config.model, table_precision=others[0] if others else "fp32")
        sharding = ShardingConfig(types=("row_wise",)) if "rows" in others else config.sharding
        made[case] = replace(config, model=model, sharding=sharding, out=folder / "runs" / case)
        save_config(made[case], folder / f"{case}.yaml")
    return folder, made


@pytest.fixture(scope="module")
def told(configs, launch) -> Mapping[str, list[dict[str, Any]]]:
    """What each rank says of each case."""
    folder, made = configs
    done = launch(2, PROGRAM, *(folder / f"{case}.yaml" for case in made))
    assert done.returncode == 0, done.stderr[-3000:]
    return {
        case: [json.loads((folder / f"{case}-{rank}.json").read_text()) for rank in (0, 1)]
        for case in made
    }


@pytest.mark.parametrize("case", CASES)
def test_the_plan_that_is_shown_is_the_one_that_trains(case, configs, told):
    shown = as_json(document(planned(configs[1][case]), {}))
    for rank in told[case]:
        used = rank["document"]
        assert used.pop("provenance")["seed"] == 1
        assert used == {key: value for key, value in shown.items() if key != "provenance"}


@pytest.mark.parametrize("case", CASES)
def test_planned_bytes_are_those_that_the_ranks_hold(case, configs, told):
    summary = summarise(planned(configs[1][case]))
    wanted: list[dict[str, list[int]]] = [defaultdict(lambda: [0, 0]) for _ in range(2)]
    for table in summary.tables:
        for shard in table.shards:
            wanted[shard.rank][table.name][0] += shard.weight_bytes
            wanted[shard.rank][table.name][1] += shard.optimizer_bytes
    assert [rank["held"] for rank in told[case]] == wanted
    assert all(wanted), "a rank without a table shows nothing"
    assert sum(s for rank in wanted for held in rank.values() for s in held) == (
        summary.stored_bytes
    )


def test_the_cases_cut_by_rows_and_columns_and_replicate(told):
    ids = told["ranking-rowwise_adagrad-fp32-rows"][0]["document"]["placement"][0]
    assert ids["table"] == "user_id"
    assert [(s["rank"], s["row"], s["rows"]) for s in ids["shards"]] == [(0, 0, 100), (1, 100, 100)]
    item = told["matching-adagrad"][0]["document"]["placement"][0]
    assert item["table"] == "item_id"
    assert sorted((s["rank"], s["column"], s["columns"]) for s in item["shards"]) == [
        (0, 0, 128), (1, 128, 128),
    ]  # fmt: skip
    for rank in told["ranking-adam"]:
        # 200 rows of 16 in fp32, and Adam's two moments.
        assert rank["held"]["user_id"] == [200 * 16 * 4, 2 * 200 * 16 * 4]
    halves = [rank["held"] for rank in told["ranking-adagrad-fp16"]]
    # Weights in fp16 and sums in fp32.
    assert sum(rank.get("user_id", [0, 0])[0] for rank in halves) == 200 * 16 * 2
    assert sum(rank.get("user_id", [0, 0])[1] for rank in halves) == 200 * 16 * 4


def edited(config: TrainConfig, path: Path, ranks: Mapping[str, int]) -> Path:
    """The planner's plan with some tables moved, in a file."""
    plan = as_json(document(planned(config), {"command": "edited by hand"}))
    for table in plan["placement"]:
        for shard in table["shards"]:
            shard["rank"] = ranks.get(table["table"], shard["rank"])
    path.write_text(json.dumps(plan))
    return path


def ranks_of_tables(checkpoint: Path) -> dict[str, set[int]]:
    """The ranks that wrote each table's weights: torch names a file after its rank."""
    saved = FileSystemReader(checkpoint).read_metadata().storage_data
    found: dict[str, set[int]] = defaultdict(set)
    for index, stored in saved.items():
        if index.fqn.startswith("model.") and ".embedding_bags." in index.fqn:
            found[index.fqn.split(".")[-2]].add(int(stored.relative_path.split("_")[2]))
    return found


def trained_tensors(run: Path, step: int, scratch: Path) -> dict[str, torch.Tensor]:
    """Weights and optimizer state of a checkpoint, whole."""
    dcp_to_torch_save(checkpoint_path(run / "checkpoints", step), scratch)
    found = {}

    def collect(value: Any, path: str) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                collect(item, f"{path}/{key}")
        elif torch.is_tensor(value):
            found[path] = value

    collect(torch.load(scratch, weights_only=False), "")
    return found


def train_on_two(launch, config: TrainConfig, recipe: Path, *options: str | Path) -> None:
    save_config(config, recipe)
    done = launch(2, "-m", "dropdrift", "train", "--recipe", recipe, *options)
    assert done.returncode == 0, done.stderr[-3000:]


def test_training_by_a_saved_plan_and_going_on_by_another(prepared_folder, tmp_path, launch):
    """Table by table where the plans say, with the same weights in the end as by either alone."""
    loop = LoopConfig(max_steps=12, checkpoint_every=6, log_every=1, keep_checkpoints=9)
    config = replace(ranking(prepared_folder, "adagrad"), loop=loop)
    names = [table.name for table in Schema.load(prepared_folder).tables]
    own = {t.name: set(t.ranks) for t in summarise(planned(config)).tables}
    first = edited(config, tmp_path / "first.json", dict.fromkeys(names, 1))
    second = edited(config, tmp_path / "second.json", {n: i % 2 for i, n in enumerate(names)})
    assert set.union(*own.values()) == {0, 1}, "the planner's own choice is another"
    run, other = tmp_path / "run", tmp_path / "other"
    train_on_two(launch, replace(config, out=run, plan=first), tmp_path / "recipe.yaml")
    checkpoint = checkpoint_path(run / "checkpoints", 12)
    assert ranks_of_tables(checkpoint) == {name: {1} for name in names}
    assert json.loads((checkpoint / "plan.json").read_text()) == json.loads(first.read_text())
    assert "plan.json" in json.loads((checkpoint / "COMMITTED").read_text())

    shutil.copytree(run, other)
    (other / "result.json").unlink()
    shutil.rmtree(checkpoint_path(other / "checkpoints", 12))
    resumed = replace(config, out=other, plan=second)
    train_on_two(launch, resumed, tmp_path / "recipe.yaml", "--resume")
    checkpoint = checkpoint_path(other / "checkpoints", 12)
    assert ranks_of_tables(checkpoint) == {name: {i % 2} for i, name in enumerate(names)}
    assert read_plan(checkpoint / "plan.json") == read_plan(second)

    expected = trained_tensors(run, 12, tmp_path / "w.pt")
    before = trained_tensors(run, 6, tmp_path / "w.pt")
    actual = trained_tensors(other, 12, tmp_path / "w.pt")
    assert expected.keys() == actual.keys()
    for path, tensor in expected.items():
        torch.testing.assert_close(actual[path], tensor, atol=1e-6, rtol=0, msg=path)
    tables = [path for path in expected if ".embedding_bags." in path]
    assert len(tables) == 2 * len(names), "weights and Adagrad's sums"
    for path in tables:
        assert not torch.allclose(before[path], expected[path], atol=1e-5), path


def test_a_run_of_before_plans_goes_on_by_other_options_of_planning(prepared_folder, tmp_path):
    """Whatever placed its tables: planning decides nothing about the weights."""
    loop = LoopConfig(max_steps=8, checkpoint_every=4, log_every=1, keep_checkpoints=9)
    config = replace(ranking(prepared_folder, "adagrad"), out=tmp_path / "run", loop=loop)
    train(config, show_progress=False)
    expected = trained_tensors(config.out, 8, tmp_path / "w.pt")
    checkpoints = config.out / "checkpoints"
    (config.out / "result.json").unlink()
    shutil.rmtree(checkpoint_path(checkpoints, 8))
    # As a version before plans left it: no plan in the checkpoint, no options of planning.
    first = checkpoint_path(checkpoints, 4)
    (first / "plan.json").unlink()
    manifest = json.loads((first / "COMMITTED").read_text())
    del manifest["plan.json"]
    (first / "COMMITTED").write_text(json.dumps(manifest))
    saved = yaml.safe_load((config.out / "config.yaml").read_text())
    saved["sharding"] = {"types": ["table_wise"], "host_memory_gb": 0.0}
    del saved["plan"], saved["loop"]["keep_checkpoints"]
    (config.out / "config.yaml").write_text(yaml.safe_dump(saved))
    sharding = ShardingConfig(types=("column_wise",), hardware="CPU", host_memory_gib=1)
    again = replace(config, sharding=sharding, resume=True)
    with pytest.raises(ValueError, match=r"--loop.keep_checkpoints was 1, and is now 9"):
        train(again, show_progress=False)
    train(replace(again, loop=replace(loop, keep_checkpoints=1)), show_progress=False)
    plan = read_plan(checkpoint_path(checkpoints, 8) / "plan.json")
    assert {table.sharding_type for table in plan.placement} == {"column_wise"}
    actual = trained_tensors(config.out, 8, tmp_path / "w.pt")
    assert expected.keys() == actual.keys()
    for path, tensor in expected.items():
        torch.testing.assert_close(actual[path], tensor, atol=1e-6, rtol=0, msg=path)


def test_a_plan_of_something_else_is_refused_before_anything_is_written(prepared_folder, tmp_path):
    config = replace(ranking(prepared_folder), out=tmp_path / "run")
    path = edited(config, tmp_path / "plan.json", {})
    other = replace(
        config, plan=path, optimizer=replace(config.optimizer, sparse="sgd"),
        data=replace(config.data, batch_size=96),
    )  # fmt: skip
    with pytest.raises(ValueError, match="was made for something else") as caught:
        train(other, show_progress=False)
    assert str(caught.value) == (
        f"plan {path} was made for something else: world size was 2 (1 x 2), is 1 (1 x 1); rows of "
        "a lookup on a rank were 32, are 96; optimizer was rowwise_adagrad, is sgd: make one for "
        "this run with 'dropdrift plan save'"
    )
    with pytest.raises(ValueError, match=r"nowhere.json does not exist"):
        train(replace(config, plan=tmp_path / "nowhere.json"), show_progress=False)
    assert not config.out.exists()


def test_many_differences_are_counted(prepared_folder, tmp_path):
    config = replace(ranking(prepared_folder), out=tmp_path / "run")
    path = edited(config, tmp_path / "plan.json", {})
    folder = tmp_path / "data"
    shutil.copytree(prepared_folder, folder)
    schema = Schema.load(folder)
    fields = tuple(replace(f, pooling_factor=f.pooling_factor + 1) for f in schema.fields)
    replace(schema, fields=fields).save(folder)
    with pytest.raises(ValueError, match="; and 2 more differences: make one") as caught:
        train(
            replace(config, plan=path, data=replace(config.data, path=folder)), show_progress=False
        )
    assert str(caught.value).count("ids a row, has") == 6
