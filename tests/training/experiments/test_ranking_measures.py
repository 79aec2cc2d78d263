"""What an experiment reads of ranking models."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dropdrift.data.config import DataConfig
from dropdrift.data.preparing.statistics import STATISTICS_FILE
from dropdrift.data.schema import Schema
from dropdrift.models.config import ModelConfig
from dropdrift.training.config import TrainConfig
from dropdrift.training.experiments.plan import Plan, Variant
from dropdrift.training.experiments.ranking import RankingMeasures


def plan_of(*metrics: str) -> Plan:
    return Plan("Title", "dcnv2", "base", metrics, {"base": Variant()})


def test_titles() -> None:
    titles = {
        "auc": "AUC",
        "uauc@50%": "UAUC, 50% dropped",
        "auc@user": "AUC, no user fields",
        "like/log_loss@identifiers": "like: Log loss, no identifiers",
    }
    assert RankingMeasures(plan_of(*titles)).titles == titles


def test_what_is_compared_is_of_one_label(prepared_folder: Path) -> None:
    schema = Schema.load(prepared_folder)
    usual, same, other = (
        TrainConfig(data=DataConfig(path=prepared_folder), model=ModelConfig(tasks=tasks))
        for tasks in ((), schema.labels, schema.labels[1:])
    )
    measures = RankingMeasures(plan_of("auc"))
    measures.check(same, usual, schema)
    measures.check(usual, same, schema)
    with pytest.raises(ValueError, match=r"first label .* is 'like' and the base's is 'click'"):
        measures.check(other, usual, schema)


def test_a_test_part_of_one_class(prepared_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    shutil.copytree(prepared_folder, folder)
    for path in (folder / "test").glob("*.parquet"):
        table = pq.read_table(path)
        index = table.schema.get_field_index("label:click")
        ones = pa.array(np.ones(len(table)), table.schema.field(index).type)
        pq.write_table(table.set_column(index, table.schema.field(index), ones), path)
    config = TrainConfig(data=DataConfig(path=folder))
    with pytest.raises(ValueError, match="test: label 'click' is 1 in all rows where it is known"):
        RankingMeasures(plan_of("auc")).check(config, config, Schema.load(folder))


def test_the_best_there_can_be_is_of_the_first_label_of_the_data(
    prepared_folder: Path, tmp_path: Path
) -> None:
    schema = Schema.load(prepared_folder)
    counted = {"rows": 9, "labels": {label: {"rate": 0.5} for label in schema.labels}}
    text = {"parts": {"train": counted, "test": counted}, "bayes_optimal_auc": {"test": 0.8}}
    (tmp_path / STATISTICS_FILE).write_text(json.dumps(text), encoding="utf-8")
    measures = RankingMeasures(plan_of("auc"))
    for label in schema.labels:
        model = ModelConfig(tasks=(label,))
        facts = measures.data_facts(TrainConfig(data=DataConfig(tmp_path), model=model), schema)
        assert facts["Label"] == label
        assert facts.get("Bayes-optimal AUC") == (0.8 if label == schema.labels[0] else None)
