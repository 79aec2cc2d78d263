"""A checkpoint from elsewhere runs nothing, also where its manifest was adjusted to it."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.small_runs import on_one_rank
from torch.distributed.checkpoint.filesystem import FileSystemReader, _StorageInfo
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    Metadata,
    MetadataIndex,
)

from dropdrift.training.checkpoint import checkpoint_path, verify_checkpoint
from dropdrift.training.checkpoint_reader import TensorReader, read_metadata
from dropdrift.training.config import EvaluateConfig, OptimizerConfig, TrainConfig
from dropdrift.training.evaluation import evaluate
from dropdrift.training.trainer import train

pytestmark = pytest.mark.timeout(120)

STEPS = 4


class Payload:
    """Calls ``function(*arguments)`` where it is unpickled."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.fixture(scope="module")
def trained(prepared_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    config = on_one_rank(
        prepared_folder, tmp_path_factory.mktemp("trained") / "run", max_steps=STEPS
    )
    train(config, show_progress=False)
    return config


@pytest.fixture
def config(trained: TrainConfig, tmp_path: Path) -> TrainConfig:
    """A run whose checkpoint may be tampered with."""
    shutil.copytree(trained.out, tmp_path / "run")
    return replace(trained, out=tmp_path / "run")


def checkpoint_of(config: TrainConfig) -> Path:
    return checkpoint_path(config.out / "checkpoints", STEPS)


def tamper(checkpoint: Path, name: str, content: bytes) -> None:
    """Replace a file, and its digest in the manifest, as who writes both can."""
    (checkpoint / name).write_bytes(content)
    manifest = json.loads((checkpoint / "COMMITTED").read_text())
    manifest[name] = hashlib.sha256(content).hexdigest()
    (checkpoint / "COMMITTED").write_text(json.dumps(manifest))


def genuine(checkpoint: Path) -> Metadata:
    return FileSystemReader(checkpoint).read_metadata()


@pytest.mark.parametrize(("protocol", "hidden"), [(0, False), (2, True), (5, False)])
def test_hostile_metadata_runs_nothing(config, tmp_path, protocol, hidden):
    """Alone, and inside metadata that is otherwise as it was written."""
    checkpoint, witness = checkpoint_of(config), tmp_path / "witness"
    payload = Payload(os.system, f"touch {witness}")
    content: Any = payload
    if hidden:
        content = genuine(checkpoint)
        content.planner_data = {"": payload}
    tamper(checkpoint, ".metadata", pickle.dumps(content, protocol=protocol))
    verify_checkpoint(checkpoint.parent, STEPS)
    pattern = r"/\.metadata names '(posix|nt|copyreg|copy_reg)\.\w+'"
    with pytest.raises(ValueError, match=pattern):
        evaluate(EvaluateConfig(run_folder=config.out), config, show_progress=False)
    (config.out / "result.json").unlink()
    longer = replace(config, resume=True)
    with pytest.raises(ValueError, match=pattern):
        train(longer, show_progress=False)
    assert not witness.exists()
    pickle.loads(pickle.dumps(payload))
    assert witness.exists(), "the payload does nothing, so this test shows nothing"


@pytest.mark.parametrize(
    "name", ["builtins.eval", "builtins.getattr", "torch.load", "torch.hub.load", "os.PathLike"]
)
def test_no_other_name_is_looked_up(tmp_path, name):
    module, _, function = name.rpartition(".")
    file = tmp_path / ".metadata"
    file.write_bytes(f"c{module}\n{function}\n.".encode())
    with pytest.raises(ValueError, match=f"{file} names '{name}'"):
        read_metadata(file)


def test_a_dotted_name_is_no_way_around(tmp_path):
    """Since protocol 4 a name may lead through the attributes of what is allowed."""
    file = tmp_path / ".metadata"
    name = "Size.__init__.__globals__"
    file.write_bytes(b"\x80\x04\x8c\x05torch\x8c" + bytes([len(name)]) + name.encode() + b"\x93.")
    with pytest.raises(ValueError, match=f"names 'torch.{name}'"):
        read_metadata(file)


def test_an_object_in_place_of_a_tensor_is_not_unpickled(config, tmp_path):
    """torch unpickles what is no tensor without any list of what is allowed."""
    checkpoint, witness = checkpoint_of(config), tmp_path / "witness"
    metadata = genuine(checkpoint)
    name = next(name for name in metadata.state_dict_metadata if name.startswith("optimizer."))
    stream = io.BytesIO()
    torch.save(Payload(os.system, f"touch {witness}"), stream)
    tamper(checkpoint, "object", stream.getvalue())
    metadata.state_dict_metadata[name] = BytesStorageMetadata()
    place = _StorageInfo("object", 0, len(stream.getvalue()))
    metadata.storage_data[MetadataIndex(name)] = place
    tamper(checkpoint, ".metadata", pickle.dumps(metadata))
    (config.out / "result.json").unlink()
    with pytest.raises(ValueError, match=f"describes '{name}', which is no tensor"):
        train(replace(config, resume=True), show_progress=False)
    assert not witness.exists()


def test_tensors_lie_beside_their_metadata(config):
    checkpoint = checkpoint_of(config)
    metadata = genuine(checkpoint)
    next(iter(metadata.storage_data.values())).relative_path = "../elsewhere"
    tamper(checkpoint, ".metadata", pickle.dumps(metadata))
    with pytest.raises(ValueError, match=r"names the file '../elsewhere', which is not beside it"):
        evaluate(EvaluateConfig(run_folder=config.out), config, show_progress=False)


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", pickle.dumps({"a": 1}), pickle.dumps(Metadata({})), pickle.dumps(torch.Size([1]))],
)
def test_what_is_no_metadata_is_named(tmp_path, content):
    file = tmp_path / ".metadata"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=f"{file} is not a checkpoint's metadata"):
        read_metadata(file)


@pytest.mark.parametrize("cut", [0.1, 0.5, 0.9, 0.999])
def test_metadata_cut_off(config, cut):
    checkpoint = checkpoint_of(config)
    content = (checkpoint / ".metadata").read_bytes()
    (checkpoint / ".metadata").write_bytes(content[: int(len(content) * cut)])
    with pytest.raises(ValueError, match="is not a checkpoint's metadata"):
        read_metadata(checkpoint / ".metadata")


@pytest.mark.parametrize("sparse", ["rowwise_adagrad", "adagrad", "sgd", "adam"])
def test_every_optimizers_checkpoint_is_read_as_torch_reads_it(trained, tmp_path, sparse):
    config = replace(trained, out=tmp_path / "run", optimizer=OptimizerConfig(sparse=sparse))
    train(config, show_progress=False)
    checkpoint = checkpoint_of(config)
    expected, actual = genuine(checkpoint), TensorReader(checkpoint).read_metadata()
    assert actual.state_dict_metadata == expected.state_dict_metadata
    assert actual.storage_data == expected.storage_data
    assert actual.planner_data == expected.planner_data
    (config.out / "result.json").unlink()
    outcome = train(replace(config, resume=True), show_progress=False)
    assert outcome is not None
    assert outcome["steps"] == STEPS
