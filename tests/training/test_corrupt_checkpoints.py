"""Whatever a checkpoint's files say: one line that names the file, no hang, and no memory taken."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import pickle
import resource
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.small_runs import on_one_rank
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, MetadataIndex

from dropdrift.training.checkpoint import (
    checkpoint_path,
    newest_good_step,
    read_state,
    verify_checkpoint,
)
from dropdrift.training.checkpoint_reader import read_metadata
from dropdrift.training.config import TrainConfig
from dropdrift.training.trainer import train

# A hang is what some of these would end in.
pytestmark = pytest.mark.timeout(120)

STEPS = 4
SHARD = "__0_0.distcp"
TABLE = "model.embedding.collection.embedding_bags.item.weight"
BIAS = "model.dense.tower.bias"


@pytest.fixture(scope="module")
def trained(prepared_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    config = on_one_rank(
        prepared_folder, tmp_path_factory.mktemp("trained") / "run", max_steps=STEPS
    )
    train(config, show_progress=False)
    return config


@pytest.fixture
def config(trained: TrainConfig, tmp_path: Path) -> TrainConfig:
    """A run that was stopped before its end, whose checkpoint may be changed."""
    shutil.copytree(trained.out, tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    return replace(trained, out=tmp_path / "run", resume=True)


@pytest.fixture
def checkpoint(config: TrainConfig) -> Path:
    return checkpoint_path(config.out / "checkpoints", STEPS)


def write(checkpoint: Path, name: str, content: bytes) -> None:
    """Replace a file, and its digest in the manifest."""
    (checkpoint / name).write_bytes(content)
    manifest = json.loads((checkpoint / "COMMITTED").read_text())
    manifest[name] = hashlib.sha256(content).hexdigest()
    (checkpoint / "COMMITTED").write_text(json.dumps(manifest))


def place_of(metadata: Metadata, name: str) -> Any:
    (chunk,) = metadata.state_dict_metadata[name].chunks  # type: ignore[union-attr]  # a tensor's
    return metadata.storage_data[MetadataIndex(name, chunk.offsets)]


def begins_before_the_file(metadata: Metadata) -> None:
    place_of(metadata, TABLE).offset = -1


def is_longer_than_the_file(metadata: Metadata) -> None:
    place_of(metadata, TABLE).length = 10**15


def is_of_half_a_byte(metadata: Metadata) -> None:
    place_of(metadata, TABLE).length = 0.5


def lies_nowhere(metadata: Metadata) -> None:
    del metadata.storage_data[MetadataIndex(TABLE, torch.Size([0, 0]))]


def wants_a_transformation(metadata: Metadata) -> None:
    place_of(metadata, TABLE).transform_descriptors = ["stream.zstd"]


def is_larger_than_its_parts(metadata: Metadata) -> None:
    metadata.state_dict_metadata[TABLE].size = torch.Size([10**12, 16])  # type: ignore[union-attr]


def is_larger_than_what_is_stored(metadata: Metadata) -> None:
    table: Any = metadata.state_dict_metadata[TABLE]
    table.size = table.chunks[0].sizes = torch.Size([10**12, 16])


def has_a_part_before_it(metadata: Metadata) -> None:
    metadata.state_dict_metadata[TABLE].chunks[0].offsets = torch.Size([-4, 0])  # type: ignore[union-attr]


def has_a_part_beyond_it(metadata: Metadata) -> None:
    metadata.state_dict_metadata[TABLE].chunks[0].offsets = torch.Size([200, 0])  # type: ignore[union-attr]


def has_parts_of_three_dimensions(metadata: Metadata) -> None:
    metadata.state_dict_metadata[TABLE].chunks[0].sizes = torch.Size([300, 4, 4])  # type: ignore[union-attr]


def has_no_parts(metadata: Metadata) -> None:
    metadata.state_dict_metadata[TABLE].chunks = None  # type: ignore[union-attr, assignment]


def is_of_no_type(metadata: Metadata) -> None:
    metadata.state_dict_metadata[TABLE].properties.dtype = "float32"  # type: ignore[union-attr, assignment]


@pytest.mark.parametrize(
    "change",
    [
        begins_before_the_file, is_longer_than_the_file, is_of_half_a_byte, lies_nowhere,
        wants_a_transformation, is_larger_than_its_parts, is_larger_than_what_is_stored,
        has_a_part_before_it, has_a_part_beyond_it, has_parts_of_three_dimensions, has_no_parts,
        is_of_no_type,
    ],
)  # fmt: skip
def test_metadata_that_cannot_be(checkpoint, change: Callable[[Metadata], None]):
    metadata = FileSystemReader(checkpoint).read_metadata()
    change(metadata)
    write(checkpoint, ".metadata", pickle.dumps(metadata))
    with pytest.raises(ValueError, match=r"\.metadata (names|describes|does not say)") as refused:
        read_metadata(checkpoint / ".metadata")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "content",
    [
        # An object that is to be remembered as number 4,294,967,280.
        b"\x80\x02]r\xf0\xff\xff\xff.",
        # An array of a terabyte, of which five bytes are there.
        b"\x80\x05\x96" + (1 << 40).to_bytes(8, "little") + b"abcd.",
        # A frame of half of all that can be addressed.
        b"\x80\x04\x95" + (1 << 62).to_bytes(8, "little") + b"].",
        b"(" * 100_000,
    ],
)
def test_metadata_that_is_to_take_memory(tmp_path, content):
    file = tmp_path / ".metadata"
    file.write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=f"{file} is not a checkpoint's metadata"):
        read_metadata(file)
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert kilobytes < 500_000


def test_a_tensor_of_another_shape_than_the_metadata_says(config, checkpoint):
    place = place_of(FileSystemReader(checkpoint).read_metadata(), BIAS)
    stream = io.BytesIO()
    torch.save(torch.zeros(1, 1), stream)
    shard = bytearray((checkpoint / SHARD).read_bytes())
    stored = stream.getvalue()
    assert len(stored) <= place.length
    shard[place.offset : place.offset + place.length] = stored.ljust(place.length, b"\0")
    write(checkpoint, SHARD, bytes(shard))
    with pytest.raises(ValueError, match=f"{checkpoint} cannot be loaded: ") as refused:
        train(config, show_progress=False)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"step": STEPS + 1},
        {"step": str(STEPS)},
        {"step": float(STEPS)},
        {"epoch": math.nan},
        {"batch": -1},
        {"lanes": None},
        {"lanes": True},
        {"best_step": STEPS + 1},
        {"best_value": "0.5"},
        {"best_metrics": [0.5]},
        {"best_metrics": {"auc": "0.5"}},
        {"unlogged": {"main": 0.5}},
        {"unlogged": {"main": [math.nan]}},
        {"unlogged_steps": 10**9},
        {"schema": 5},
        {"unknown": 5},
    ],
    ids=str,
)
def test_a_state_that_cannot_be(checkpoint, changes: dict[str, Any]):
    state = json.loads((checkpoint / "state.json").read_text())
    write(checkpoint, "state.json", json.dumps({**state, **changes}).encode())
    pattern = "state.json (says what cannot be: |is of another version)"
    with pytest.raises(ValueError, match=pattern) as refused:
        read_state(checkpoint.parent, STEPS)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("content", [b"[]", b"5", b"null", b'"text"', b"[" * 100_000])
def test_a_state_that_is_none(checkpoint, content):
    write(checkpoint, "state.json", content)
    with pytest.raises(ValueError, match=r"state\.json is (not valid JSON|of another version)"):
        read_state(checkpoint.parent, STEPS)


def test_a_metric_may_be_no_number(checkpoint):
    """A validation part may have no user to measure the metric with."""
    state = json.loads((checkpoint / "state.json").read_text())
    write(checkpoint, "state.json", json.dumps({**state, "best_value": math.nan}).encode())
    assert math.isnan(read_state(checkpoint.parent, STEPS).best_value)


def as_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def as_endless_device(file: Path) -> None:
    file.unlink()
    file.symlink_to("/dev/zero")


def as_link(file: Path) -> None:
    """To the very content, so that its digest is right."""
    file.rename(file.parents[2] / "elsewhere")
    file.symlink_to(file.parents[2] / "elsewhere")


def as_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize("name", ["COMMITTED", "state.json", ".metadata", SHARD])
@pytest.mark.parametrize("change", [as_pipe, as_endless_device, as_link, as_folder])
def test_what_is_no_file_is_not_opened(checkpoint, name, change: Callable[[Path], None]):
    file = checkpoint / name
    change(file)
    with pytest.raises(ValueError, match=f"{file} is damaged: it is no file of its own"):
        newest_good_step(checkpoint.parent)
    if name.startswith((".", "_")):
        with pytest.raises(ValueError, match="is no file of its own"):
            read_metadata(checkpoint / ".metadata")


@pytest.mark.parametrize(
    "manifest",
    ["[]", "{}", '{"state.json": "0"}', '{"state.json": 0, ".metadata": 0}', "[" * 100_000],
)
def test_a_manifest_that_is_none(checkpoint, manifest):
    (checkpoint / "COMMITTED").write_text(manifest)
    with pytest.raises(ValueError, match=r"COMMITTED is (damaged|not valid JSON)"):
        verify_checkpoint(checkpoint.parent, STEPS)


def test_a_manifest_of_a_terabyte(checkpoint):
    os.truncate(checkpoint / "COMMITTED", 10**12)
    with pytest.raises(ValueError, match="is damaged: it has 1,000,000,000,000 bytes"):
        verify_checkpoint(checkpoint.parent, STEPS)
