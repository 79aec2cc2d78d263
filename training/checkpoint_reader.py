"""Reading a checkpoint's tensors without running anything that is in it.

``.metadata`` of torch.distributed.checkpoint is a pickle, and a pickle calls whatever it names: one
that comes from elsewhere may run code. :class:`TensorReader` makes nothing of it but the classes
that metadata consists of, and takes tensors alone, which torch itself reads with a list of what is
allowed; any other object would be unpickled whole.
"""

from __future__ import annotations

import pickle
from pathlib import Path, PosixPath
from typing import Any

import torch
from torch.distributed.checkpoint import filesystem, metadata
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import (
    Metadata,
    MetadataIndex,
    StorageMeta,
    TensorStorageMetadata,
)
from torch.serialization import _get_layout

METADATA_FILE = ".metadata"
# What the names of the model's tensors begin with in a checkpoint.
WEIGHTS = "model."

_CLASSES = (
    metadata.BytesStorageMetadata,
    metadata.ChunkStorageMetadata,
    metadata.Metadata,
    metadata.MetadataIndex,
    metadata.StorageMeta,
    metadata.TensorProperties,
    metadata.TensorStorageMetadata,
    metadata._MEM_FORMAT_ENCODING,
    filesystem._StorageInfo,
)

# What a pickle may name, and what it then gets: torch 2.13's metadata names nothing else.
_ALLOWED: dict[tuple[str, str], Any] = {
    **{(kind.__module__, kind.__qualname__): kind for kind in _CLASSES},
    **{("torch", str(t).removeprefix("torch.")): t for t in torch.__dict__.values()
       if isinstance(t, torch.dtype)},
    ("torch", "Size"): torch.Size,
    ("torch.serialization", "_get_layout"): _get_layout,
    # The folder that was written to; Python 3.13 has the class in a module of its own.
    ("pathlib", "PosixPath"): PosixPath,
    ("pathlib._local", "PosixPath"): PosixPath,
}  # fmt: skip

# What a pickle that is cut off or put together by hand may end in.
_BROKEN = (
    pickle.UnpicklingError,
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)


class _ForbiddenClassError(Exception):
    """The pickle names what metadata does not consist of."""


class _MetadataUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """What the pickle names so; an error where it may not."""
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise _ForbiddenClassError(f"{module}.{name}") from None


def read_metadata(file: Path) -> Metadata:
    """The metadata in ``file``, of tensors alone.

    Raises:
        ValueError: it names a class that metadata does not need, describes something else than
            tensors, or is no metadata; the message names the file and what is wrong.
    """
    try:
        with file.open("rb") as stream:
            read = _MetadataUnpickler(stream).load()
    except _ForbiddenClassError as error:
        raise ValueError(
            f"{file} names {error.args[0]!r}, which is no part of a checkpoint's metadata: nothing "
            "was loaded; do not use a checkpoint that others may have written to"
        ) from error
    except _BROKEN as error:
        raise ValueError(f"{file} is not a checkpoint's metadata: {error}") from error
    _check_kinds(file, read)
    for name, item in read.state_dict_metadata.items():
        if not isinstance(item, TensorStorageMetadata):
            raise ValueError(f"{file} describes {name!r}, which is no tensor: nothing was loaded")
    return read


def described_weights(checkpoint: Path) -> dict[str, TensorStorageMetadata]:
    """What a checkpoint says of the model's tensors, by their names in the model.

    Raises:
        ValueError: as :func:`read_metadata`.
    """
    described = read_metadata(checkpoint / METADATA_FILE).state_dict_metadata
    return {
        name.removeprefix(WEIGHTS): item
        for name, item in described.items()
        if name.startswith(WEIGHTS) and isinstance(item, TensorStorageMetadata)
    }


def _check_kinds(file: Path, read: Any) -> None:
    """ValueError unless it is metadata whose tensors lie in files beside it."""
    described = getattr(read, "state_dict_metadata", None)
    stored = getattr(read, "storage_data", None)
    if not (
        isinstance(read, Metadata) and isinstance(described, dict) and isinstance(stored, dict)
    ):
        raise ValueError(f"{file} is not a checkpoint's metadata: it holds {type(read).__name__}")
    for index, place in stored.items():
        path = getattr(place, "relative_path", None)
        if not isinstance(index, MetadataIndex) or not isinstance(path, str):
            raise ValueError(f"{file} is not a checkpoint's metadata: it lacks where tensors lie")
        if Path(path).name != path:
            raise ValueError(f"{file} names the file {path!r}, which is not beside it")


class TensorReader(FileSystemReader):
    """Reads a checkpoint of tensors as :func:`read_metadata` allows.

    Args:
        path: the checkpoint's directory.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._metadata_file = path / METADATA_FILE

    # Without the parent's keyword arguments: torch would go on to the metadata of single ranks.
    def read_metadata(self) -> Metadata:
        """See the function of this name; ValueError as there."""
        read = read_metadata(self._metadata_file)
        read.storage_meta = StorageMeta(load_id=self.load_id)
        return read
