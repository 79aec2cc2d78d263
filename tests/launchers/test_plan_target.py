"""What CONFIG stands for on the command line of ``dropdrift plan``."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from dropdrift.data.schema import Schema
from dropdrift.launchers.plan.target import Target, configuration_names, read_target
from dropdrift.training.config import TrainConfig
from dropdrift.training.plans.config import PlanConfig
from dropdrift.training.run_folder import save_config


def read(*arguments: str) -> Target[PlanConfig]:
    return read_target(PlanConfig, arguments, prog="dropdrift plan show", description="Shows.")


class TestReadyConfiguration:
    def test_its_cluster_tables_and_options(self):
        target = read("mlperf-dlrm-dcnv2")
        assert (target.config.nodes, target.config.gpus_per_node) == (1, 8)
        assert target.config.hardware == "H100"
        assert sum(table.rows for table in target.schema.tables) == 204_184_588
        assert target.about

    def test_what_follows_overrides_it(self):
        target = read("mlperf-dlrm-dcnv2", "--nodes", "2", "--sharding.hbm-gib=20")
        assert (target.config.nodes, target.config.sharding.hbm_gib) == (2, 20.0)
        assert target.request().cluster.world_size == 16

    def test_all_are_planned_for_what_they_name(self):
        for name in configuration_names():
            target = read(name)
            cluster = target.request().cluster
            assert cluster.hardware.name == target.config.hardware
            assert cluster.nodes == target.config.nodes


class TestPreparedData:
    def test_impressions_take_the_ranking_recipe(self, prepared_folder):
        target = read(str(prepared_folder), "--data.batch-size", "64")
        assert target.config.model.kind == "ranking"
        assert target.config.data.path == prepared_folder
        assert target.schema == Schema.load(prepared_folder)
        request = target.request()
        assert (request.cluster.hardware.name, request.optimizer) == ("CPU", "rowwise_adagrad")
        assert request.rows_per_rank * request.cluster.world_size == 64

    def test_interactions_look_the_whole_catalogue_up(self, interactions_folder):
        target = read(str(interactions_folder), "--gpus-per-node", "2")
        assert target.config.model.kind == "t2diff"
        assert target.items == 30
        assert target.request().rows_per_rank == 30

    def test_a_recipe_with_data(self, prepared_folder):
        target = read("dcnv2", "--data.path", str(prepared_folder))
        assert target.config.model.method == "base"
        assert target.schema == Schema.load(prepared_folder)


def test_a_runs_folder_has_its_own_schema(prepared_folder, tmp_path):
    config = TrainConfig(out=tmp_path, resume=True)
    config = dataclasses.replace(
        config, data=dataclasses.replace(config.data, path=Path("gone"), batch_size=77)
    )
    save_config(config, tmp_path / "config.yaml")
    Schema.load(prepared_folder).save(tmp_path)
    target = read(str(tmp_path))
    assert target.config.data.batch_size == 77
    assert target.schema == Schema.load(prepared_folder)


class TestOwnYaml:
    def test_described_tables(self, tmp_path):
        path = tmp_path / "own.yaml"
        path.write_text(
            "about: Mine.\n"
            "gpus_per_node: 4\n"
            "tables: [{name: user_id, rows: 100, width: 8, ids: 2, group: user}]\n"
            "labels: [click]\n"
            "model: {method: base}\n"
        )
        target = read(str(path), "--hardware", "A100-40")
        assert target.about == "Mine."
        assert target.request().cluster.ranks_per_node == 4
        assert target.schema.fields[0].pooling_factor == 2
        assert target.schema.labels == ("click",)

    def test_a_recipe(self, tmp_path, prepared_folder):
        path = tmp_path / "recipe.yaml"
        path.write_text(f"data: {{path: {prepared_folder}, batch_size: 32}}\n")
        assert read(str(path)).config.data.batch_size == 32

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("tables: []", "tables is empty, must be a list"),
            ("tables: [{name: a, rows: 10, width: 8}]\nkinds: x", "unknown key 'kinds'"),
            ("tables: [{name: a, rows: 10, width: 8}]\nkind: clicks", "kind is 'clicks', must be"),
            (
                "tables: [{name: a, rows: 10, width: 8}]\nlabels: click",
                "labels is 'click', must be",
            ),
            ("tables: [{name: a, rows: 10, width: 6}]", "width is 6, must be a positive multiple"),
            ("tables: [{name: a, rows: 10}]", "has no key 'width'"),
        ],
    )
    def test_mistakes_name_the_file(self, tmp_path, text, message):
        path = tmp_path / "own.yaml"
        path.write_text(text)
        with pytest.raises(ValueError, match=r"own\.yaml: ") as caught:
            read(str(path))
        assert message in str(caught.value)


class TestMistakes:
    def test_no_config(self):
        with pytest.raises(ValueError, match="dropdrift plan show needs a CONFIG: name a ready"):
            read("--nodes", "2")

    def test_an_unknown_one_lists_what_there_is(self):
        with pytest.raises(ValueError, match="unknown CONFIG 'mlperf'") as caught:
            read("mlperf")
        for known in ("mlperf-dlrm-dcnv2", "asymdiffrec-kuairand", "prepared data"):
            assert known in str(caught.value)

    def test_a_folder_of_something_else(self, tmp_path):
        with pytest.raises(ValueError, match="holds neither a run nor prepared data"):
            read(str(tmp_path))

    def test_a_recipe_without_its_data(self, tmp_path):
        with pytest.raises(ValueError, match=r"schema.yaml does not exist: is .* made by"):
            read("dcnv2", "--data.path", str(tmp_path))

    def test_unknown_hardware_lists_the_known(self):
        target = read("mlperf-dlrm-dcnv2", "--hardware", "H300")
        with pytest.raises(ValueError, match=r"unknown hardware 'H300'.*H100.*H200.*B200"):
            target.request()

    @pytest.mark.parametrize("option", ["--nodes=0", "--gpus-per-node=-1"])
    def test_sizes_that_cannot_be(self, option):
        with pytest.raises(ValueError, match=r"must be at least"):
            read("mlperf-dlrm-dcnv2", option)

    def test_data_that_the_model_does_not_learn_from(self, interactions_folder):
        target = read("dcnv2", "--data.path", str(interactions_folder))
        with pytest.raises(
            ValueError, match=r"holds interactions, but model.kind 'ranking' learns"
        ):
            target.request()

    def test_a_batch_that_the_ranks_do_not_divide(self):
        target = read("mlperf-dlrm-dcnv2", "--data.batch-size", "12")
        with pytest.raises(ValueError, match=r"data.batch_size is 12, which 8 ranks do not divide"):
            target.request()

    def test_more_memory_than_a_gpu_has(self):
        target = read("mlperf-dlrm-dcnv2", "--sharding.hbm-gib", "100")
        with pytest.raises(ValueError, match=r"hbm_gib is 100, but a GPU of hardware H100 has 79"):
            target.request()
        rounded = read("mlperf-dlrm-dcnv2", "--sharding.hbm-gib", "80")
        assert rounded.request().cluster.hbm_bytes == 80 * 2**30

    def test_columns_cut_under_rowwise_adagrad(self):
        target = read("mlperf-dlrm-dcnv2", "--sharding.tables", "c00=column_wise")
        with pytest.raises(ValueError, match=r"sharding.tables has 'column_wise', but"):
            target.request()
