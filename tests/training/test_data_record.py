"""A run goes on with the data that it was trained on, wherever that lies now, and with no other."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.training.small_runs import on_one_rank

from dropdrift.data.config import DataConfig, SequenceConfig
from dropdrift.launchers.main import main
from dropdrift.models.config import ModelConfig
from dropdrift.models.matching.config import ItemConfig, SASRecConfig
from dropdrift.training.checkpoint import committed_steps
from dropdrift.training.config import LoopConfig, OptimizerConfig, TrainConfig
from dropdrift.training.data_record import check_data_record, write_data_record
from dropdrift.training.trainer import train

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def trained(prepared_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    config = on_one_rank(
        prepared_folder,
        tmp_path_factory.mktemp("trained") / "run",
        max_steps=4,
        checkpoint_every=2,
        log_every=1,
        keep_checkpoints=9,
    )
    train(config, show_progress=False)
    return config


@pytest.fixture
def stopped(trained: TrainConfig, tmp_path: Path) -> TrainConfig:
    """The run after two steps, and a copy of its data that may be changed."""
    shutil.copytree(trained.out, tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-000000004")
    data = shutil.copytree(trained.data.path, tmp_path / "data")
    moved = replace(trained.data, path=data)
    return replace(trained, out=tmp_path / "run", data=moved, resume=True)


def delete(data: Path) -> str:
    (data / "train" / "part-00001.parquet").unlink()
    return "train/part-00001.parquet is missing"


def replace_rows(data: Path) -> str:
    """By as many others."""
    file = data / "train" / "part-00000.parquet"
    table = pq.read_table(file)
    order = pa.array(range(len(table) - 1, -1, -1))
    pq.write_table(table.take(order), file, row_group_size=600, compression="zstd")
    return "train/part-00000.parquet is another file"


def cut_short(data: Path) -> str:
    file = data / "train" / "part-00001.parquet"
    file.write_bytes(file.read_bytes()[:-1000])
    return "train/part-00001.parquet is another file"


def add(data: Path) -> str:
    shutil.copy(data / "train" / "part-00000.parquet", data / "train" / "part-00002.parquet")
    return "train/part-00002.parquet was not there"


def replace_validation(data: Path) -> str:
    shutil.copy(data / "test" / "part-00000.parquet", data / "validation" / "part-00000.parquet")
    return "validation/part-00000.parquet is another file"


@pytest.mark.parametrize("change", [delete, replace_rows, cut_short, add, replace_validation])
def test_other_data_is_refused(stopped, change: Callable[[Path], str]):
    changed = change(stopped.data.path)
    log = (stopped.out / "log.jsonl").read_text()
    with pytest.raises(ValueError, match=changed) as refused:
        train(stopped, show_progress=False)
    assert str(refused.value) == (
        f"{stopped.data.path} is not the data that {stopped.out} was made from: "
        f"{changed}; give that data, or another --out (or remove {stopped.out}/data.json to go on "
        "with other rows)"
    )
    assert committed_steps(stopped.out / "checkpoints") == [2]
    assert (stopped.out / "log.jsonl").read_text() == log


@pytest.mark.parametrize("recorded", [True, False])
def test_the_same_data_elsewhere_is_taken(trained, stopped, recorded):
    """Also with a test part that it was not trained on, and by a run of an older version."""
    shutil.rmtree(stopped.data.path / "test")
    if not recorded:
        (stopped.out / "data.json").unlink()
    train(stopped, show_progress=False)
    assert (stopped.out / "log.jsonl").read_text() == (trained.out / "log.jsonl").read_text()


def test_a_record_that_is_damaged(stopped):
    (stopped.out / "data.json").write_text("[]")
    with pytest.raises(ValueError, match=r"data\.json is damaged: it names no files"):
        train(stopped, show_progress=False)


def test_the_record_of_interactions(interactions_folder, tmp_path):
    data = shutil.copytree(interactions_folder, tmp_path / "data")
    config = TrainConfig(
        out=tmp_path / "run",
        data=DataConfig(
            path=data, batch_size=8, sequence=SequenceConfig(window=8, stretch=12, negatives=10)
        ),
        model=ModelConfig(
            kind="sasrec", item=ItemConfig(width=8), sasrec=SASRecConfig(blocks=1, max_positions=12)
        ),
        optimizer=OptimizerConfig(sparse="adam"),
        loop=LoopConfig(max_steps=2, select_by="ndcg"),
    )
    train(config, show_progress=False)
    assert sorted(json.loads((config.out / "data.json").read_text())) == [
        "items.parquet",
        "users.parquet",
    ]
    table = pq.read_table(data / "users.parquet")
    pq.write_table(table.slice(1), data / "users.parquet")
    with pytest.raises(ValueError, match=r"made from: users\.parquet is another file"):
        train(replace(config, resume=True), show_progress=False)


def test_an_experiment_goes_on_with_its_data_alone(interactions_folder, tmp_path, capsys):
    """Of what was only counted too."""
    data = shutil.copytree(interactions_folder, tmp_path / "data")
    experiment = [
        "experiment",
        "--plan",
        "t2diff-table2",
        "--only",
        "popularity",
        "--data",
        str(data),
    ]

    def run() -> tuple[object, str]:
        with pytest.raises(SystemExit) as ended:
            main([*experiment, "--out", str(tmp_path / "out")])
        return ended.value.code, capsys.readouterr().err

    assert run()[0] == 0
    table = pq.read_table(data / "items.parquet")
    pq.write_table(table, data / "items.parquet", compression="none")
    code, told = run()
    assert code == 2
    assert f"dropdrift: {data} is not the data that {tmp_path}/out was made from: items" in told


def test_a_test_part_counts_where_it_is_evaluated(prepared_folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(prepared_folder, data)
    run, experiment = tmp_path / "run", tmp_path / "experiment"
    write_data_record(run, data, "impressions")
    write_data_record(experiment, data, "impressions", test=True)
    check_data_record(experiment, data, "impressions")
    parts = sorted((data / "test").glob("*.parquet"))
    parts[0].write_bytes((data / "train" / "part-00001.parquet").read_bytes())
    check_data_record(run, data, "impressions")
    with pytest.raises(ValueError, match=r"test/part-00000\.parquet is another file"):
        check_data_record(experiment, data, "impressions")
