"""Weights in one file that needs neither torchrec nor this package."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from dropdrift.data.config import DataConfig, SequenceConfig
from dropdrift.data.schema import Schema
from dropdrift.launchers.main import main
from dropdrift.models.config import DCNv2Config, ModelConfig
from dropdrift.training.checkpoint import checkpoint_path
from dropdrift.training.config import ExportConfig, LoopConfig, TrainConfig
from dropdrift.training.export import export_weights
from dropdrift.training.trainer import train

pytestmark = pytest.mark.timeout(120)

# Nothing but numpy and the library of the format.
READER = """
import sys
from safetensors.numpy import load_file
for name, tensor in sorted(load_file(sys.argv[1]).items()):
    print(name, tensor.dtype, *tensor.shape)
assert not {"torch", "torchrec", "dropdrift"} & sys.modules.keys()
"""


@pytest.fixture(scope="module")
def trained(prepared_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    """Validated at 4, 8 and 12 steps; the best is not the last."""
    config = TrainConfig(
        out=tmp_path_factory.mktemp("trained") / "run",
        data=DataConfig(path=prepared_folder, batch_size=128),
        model=ModelConfig(dcnv2=DCNv2Config(deep_widths=(8,), z_width=4), table_precision="fp16"),
        loop=LoopConfig(max_steps=12, validate_every=4, keep_checkpoints=9, log_every=1),
    )
    train(config, show_progress=False)
    return config


def saved_weights(config: TrainConfig, step: int, scratch: Path) -> dict[str, torch.Tensor]:
    """The checkpoint as torch's own tool reads it."""
    dcp_to_torch_save(checkpoint_path(config.out / "checkpoints", step), scratch)
    weights: dict[str, torch.Tensor] = torch.load(scratch, weights_only=True)["model"]
    return weights


def test_every_tensor_is_the_checkpoints(trained, tmp_path, capsys):
    out = tmp_path / "new" / "weights.safetensors"
    with pytest.raises(SystemExit) as ended:
        main(["export-weights", "--run-folder", str(trained.out), "--out", str(out)])
    assert ended.value.code == 0
    about = json.loads(out.with_suffix(".json").read_text())
    expected = saved_weights(trained, about["step"], tmp_path / "w.pt")
    actual = load_file(out)
    assert actual.keys() == expected.keys()
    assert len(actual) > 10
    assert {tensor.dtype for tensor in actual.values()} == {torch.float16, torch.float32}
    for name, tensor in expected.items():
        assert actual[name].dtype == tensor.dtype, name
        assert torch.equal(actual[name], tensor), name
    size = sum(tensor.nbytes for tensor in expected.values())
    assert f"{size:,} bytes of weights written to {out}\n" in capsys.readouterr().out
    read = subprocess.run(
        [sys.executable, "-I", "-c", READER, str(out)], capture_output=True, text=True, check=False
    )
    assert read.returncode == 0, read.stderr
    kinds = {torch.float16: "float16", torch.float32: "float32"}
    assert read.stdout.splitlines() == [
        " ".join([name, kinds[tensor.dtype], *map(str, tensor.shape)])
        for name, tensor in sorted(expected.items())
    ]


def test_what_the_weights_are(trained, tmp_path):
    out = tmp_path / "weights.safetensors"
    export_weights(ExportConfig(trained.out, out), trained)
    about = json.loads(out.with_suffix(".json").read_text())
    schema = Schema.load(trained.out)
    outcome = json.loads((trained.out / "result.json").read_text())
    assert about["file"] == {
        "name": out.name, "sha256": hashlib.sha256(out.read_bytes()).hexdigest()
    }  # fmt: skip
    assert about["schema"] == schema.fingerprint()
    assert about["step"] == outcome["best_step"]
    assert about["validation"] == outcome["validation"]
    assert about["metric"] == {"name": "auc", "value": outcome["validation"]["auc"]}
    assert about["config"]["model"]["dcnv2"]["deep_widths"] == [8]
    provenance = json.loads((trained.out / "provenance.json").read_text())
    assert about["provenance"]["training"] == provenance
    assert about["versions"] == provenance["versions"]
    assert about["versions"]["torch"] == metadata.version("torch")
    weights = load_file(out)
    assert [table["name"] for table in about["tables"]] == [table.name for table in schema.tables]
    for table, expected in zip(about["tables"], schema.tables, strict=True):
        assert tuple(weights[table["tensor"]].shape) == (expected.rows, expected.width)
        assert (table["rows"], table["width"]) == (expected.rows, expected.width)
        assert table["encoding"]["kind"] == expected.encoding.kind
        assert table["encoding"]["digest"] == expected.encoding.digest
    fields = {t["name"]: [field["name"] for field in t["fields"]] for t in about["tables"]}
    assert fields["item"] == ["history", "item_id"]
    assert sum(map(len, fields.values())) == len(schema.fields)


def test_a_matching_model(interactions_folder, tmp_path):
    sequence = SequenceConfig(window=8, stretch=10)
    config = TrainConfig(
        out=tmp_path / "run",
        data=DataConfig(path=interactions_folder, batch_size=16, sequence=sequence),
        model=ModelConfig(kind="sasrec"),
        loop=LoopConfig(max_steps=2, select_by="recall"),
    )
    train(config, show_progress=False)
    export_weights(ExportConfig(config.out, tmp_path / "w.safetensors"), config)
    expected, actual = (
        saved_weights(config, 2, tmp_path / "w.pt"),
        load_file(tmp_path / "w.safetensors"),
    )
    assert actual.keys() == expected.keys()
    assert all(torch.equal(actual[name], tensor) for name, tensor in expected.items())
    about = json.loads((tmp_path / "w.json").read_text())
    assert about["metric"]["name"] == "recall@10"
    for table in about["tables"]:
        assert list(actual[table["tensor"]].shape) == [table["rows"], table["width"]]


class TestMistakes:
    def test_another_ending(self, tmp_path):
        with pytest.raises(ValueError, match=r"out is .*w.pt, must end in .safetensors"):
            ExportConfig(tmp_path, tmp_path / "w.pt")

    @pytest.mark.parametrize("name", ["w.safetensors", "w.json"])
    def test_files_that_are_there(self, trained, tmp_path, name):
        (tmp_path / name).write_text("mine")
        with pytest.raises(ValueError, match=f"{name} exists: choose another --out"):
            export_weights(ExportConfig(trained.out, tmp_path / "w.safetensors"), trained)
        assert [path.name for path in tmp_path.iterdir()] == [name]

    def test_a_damaged_checkpoint(self, trained, tmp_path):
        damaged = replace(trained, out=tmp_path / "run")
        shutil.copytree(trained.out, damaged.out)
        for file in damaged.out.glob("checkpoints/*/*.distcp"):
            file.write_bytes(file.read_bytes()[:-1])
        out = tmp_path / "w.safetensors"
        with pytest.raises(ValueError, match=r"distcp is damaged"):
            export_weights(ExportConfig(damaged.out, out), damaged)
        assert not out.exists()
