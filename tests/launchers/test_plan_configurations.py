"""The ready plan configurations: their sizes, that they are explained, that their models build."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from dropdrift.data.schema import Schema
from dropdrift.data.yaml_file import read_yaml
from dropdrift.launchers.config_file import load_config
from dropdrift.models.matching.model import MatchingModel
from dropdrift.models.ranking import RankingModel
from dropdrift.sharding.hardware import load_hardware
from dropdrift.sharding.shard import is_table
from dropdrift.training.config import TrainConfig
from dropdrift.training.plans.described_tables import (
    DescribedTable,
    described_schema,
    read_tables,
)

FOLDER = Path(__file__).resolve().parents[2] / "launchers/plan/configurations"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))


@dataclass(frozen=True)
class Configuration:
    about: str
    gpus: int
    hardware: str
    entries: tuple[DescribedTable, ...]
    schema: Schema
    config: TrainConfig

    @property
    def rows(self) -> int:
        return sum(table.rows for table in self.schema.tables)

    @property
    def table_bytes(self) -> int:
        """In fp32."""
        return sum(4 * table.rows * table.width for table in self.schema.tables)

    @property
    def ids(self) -> float:
        return sum(field.pooling_factor for field in self.schema.fields)


def read(name: str, folder: Path) -> Configuration:
    """A configuration; whatever is not of the tables and the cluster must be options of a run."""
    raw: dict[str, Any] = read_yaml(FOLDER / f"{name}.yaml")
    about, hardware = raw.pop("about"), raw.pop("hardware")
    gpus = raw.pop("nodes") * raw.pop("gpus_per_node")
    entries = read_tables(raw.pop("tables"))
    labels, kind = tuple(raw.pop("labels", ())), raw.pop("kind", "impressions")
    schema = described_schema(name, entries, labels, kind)
    (folder / "config.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    config = load_config(TrainConfig, folder / "config.yaml")
    return Configuration(about, gpus, hardware, entries, schema, config)


def build(configuration: Configuration) -> RankingModel | MatchingModel:
    config, device = configuration.config, torch.device("meta")
    with device:
        if config.model.kind == "ranking":
            return RankingModel(configuration.schema, config.model, 1, device)
        return MatchingModel(configuration.schema, config.model, config.data.sequence, 1, device)


def dense_parameters(model: nn.Module) -> int:
    return sum(p.numel() for name, p in model.named_parameters() if not is_table(name))


def test_there_are_the_three() -> None:
    assert NAMES == ["asymdiffrec-200", "mlperf-dlrm-dcnv2", "t2diff-100m"]


@pytest.mark.parametrize("name", NAMES)
def test_a_configuration_says_what_it_is_and_where_it_runs(name: str, tmp_path: Path) -> None:
    configuration = read(name, tmp_path)
    assert 0 < len(configuration.about.splitlines()[0]) < 400
    assert load_hardware(configuration.hardware).device == "cuda"
    assert configuration.config.data.batch_size % configuration.gpus == 0


@pytest.mark.parametrize("name", ["asymdiffrec-200", "t2diff-100m"])
def test_the_size_of_every_large_table_is_explained(name: str, tmp_path: Path) -> None:
    """MLPerf's are the reference's, which its comment says."""
    entries = read(name, tmp_path).entries
    assert [entry.name for entry in entries if entry.rows >= 100_000 and not entry.why] == []


@pytest.mark.parametrize("name", NAMES)
def test_every_rule_is_of_a_table_and_no_table_outgrows_its_types(
    name: str, tmp_path: Path
) -> None:
    configuration = read(name, tmp_path)
    sharding = configuration.config.sharding
    for rule in sharding.rules:
        assert any(fnmatchcase(t.name, rule.pattern) for t in configuration.schema.tables), rule
    memory = load_hardware(configuration.hardware).hbm_gib * 2**30
    for table in configuration.schema.tables:
        types, _ = sharding.allowed(table.name)
        if table.rows * 4 * table.width > (1 - sharding.reserve) * memory:
            assert {"row_wise", "table_row_wise"} & set(types), table.name


def test_mlperf_is_the_benchmarks(tmp_path: Path) -> None:
    configuration = read("mlperf-dlrm-dcnv2", tmp_path)
    # 5 x 40,000,000 and 92,775 (c01 to c08), 3,488,544 (c10 to c18), 603,269 (c22 to c25).
    assert configuration.rows == 204_184_588
    assert configuration.table_bytes == 104_542_509_056
    assert configuration.ids == 214
    schema = configuration.schema
    assert len(schema.tables) == len(schema.fields) == 26
    assert {(table.width, table.pooling) for table in schema.tables} == {(128, "sum")}
    largest = max(schema.fields, key=lambda field: field.pooling_factor)
    assert (largest.name, largest.pooling_factor) == ("c20", 100)
    assert (configuration.gpus, configuration.config.data.batch_size) == (8, 65_536)


def test_mlperfs_dense_part_is_as_near_as_it_comes(tmp_path: Path) -> None:
    cross = 3 * (3_328 * 512 + 512 * 3_328 + 3_328)
    deep = 3_408_896 + 1_049_600 + 524_800 + 131_328  # weights and biases of four layers
    norms = 2 * (1_024 + 1_024 + 512 + 256)
    z_and_logit = 256 * 256 + 256 + 256 + 1
    model = build(read("mlperf-dlrm-dcnv2", tmp_path))
    assert dense_parameters(model) == cross + deep + norms + z_and_logit == 15_419_905


def test_asymdiffrec_is_at_the_papers_scale(tmp_path: Path) -> None:
    configuration = read("asymdiffrec-200", tmp_path)
    assert len(configuration.schema.fields) == 200
    assert (configuration.gpus, configuration.hardware) == (32, "H200")
    assert "19 billion ids in 2.3 TB of tables" in configuration.about
    assert round(configuration.rows / 1e9) == 19
    assert round(configuration.table_bytes / 1e12, 1) == 2.3
    with_state = configuration.table_bytes + 4 * configuration.rows
    usable = 0.85 * 141e9
    assert 16 * usable < with_state < 32 * usable
    # "a user" times 40 million users, and what is hashed is as large as ids of 32 bits allow.
    rows = {table.name: table.rows for table in configuration.schema.tables}
    assert rows["user_x_genre"] == 40 * rows["user_id"]
    assert rows["user_x_hour"] == 24 * rows["user_id"]
    assert rows["artist_x_hour"] == 24 * rows["artist_id"]
    hashed = [entry for entry in configuration.entries if "hashed" in entry.why]
    assert {entry.rows for entry in hashed} == {2_140_000_000}
    assert len(hashed) == 4
    assert configuration.config.model.dcnv2.z_width == 128
    assert configuration.config.model.method == "asymdiffrec"


def test_t2diff_has_a_hundred_million_items(tmp_path: Path) -> None:
    configuration = read("t2diff-100m", tmp_path)
    first = configuration.schema.fields[0]
    items = configuration.schema.table(first.table)
    assert (first.name, items.rows) == ("item_id", 100_000_001)
    assert round(items.rows * 4 * items.width / 1e9, 1) == 51.2
    assert round(configuration.table_bytes / 1e9, 1) == 67.6
    assert "67.6 GB of tables in fp32, 51.2 of them" in configuration.about
    config = configuration.config
    assert {table.width for table in configuration.schema.tables} == {config.model.item.width}
    assert config.data.sequence.negatives == 16_384
    assert config.optimizer.sparse == "rowwise_adagrad"


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", NAMES)
def test_the_model_builds_without_memory(name: str, tmp_path: Path) -> None:
    configuration = read(name, tmp_path)
    model = build(configuration)
    assert all(tensor.is_meta for tensor in (*model.parameters(), *model.buffers()))
    tables = {
        key.split(".")[-2]: tuple(parameter.shape)
        for key, parameter in model.named_parameters()
        if is_table(key)
    }
    assert tables == {t.name: (t.rows, t.width) for t in configuration.schema.tables}
    assert dense_parameters(model) > 100_000
