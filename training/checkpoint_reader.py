"""Reading a checkpoint's tensors without running anything that is in it.

``.metadata`` of torch.distributed.checkpoint is a pickle, and a pickle calls whatever it names: one
that comes from elsewhere may run code. :class:`TensorReader` makes nothing of it but the classes
that metadata consists of, and takes tensors alone, which torch itself reads with a list of what is
allowed; any other object would be unpickled whole. What the metadata says of tensors must fit
together, and lie within files beside it.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Sequence
from pathlib import Path, PosixPath
from typing import Any, ClassVar

import torch
from torch.distributed.checkpoint import filesystem, metadata
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader, _StorageInfo
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    StorageMeta,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.state_dict_loader import load
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
    OSError,
    RuntimeError,
    SystemError,
    TypeError,
    ValueError,
)

# Codes that are not in metadata; they take memory for the bytes they announce before any is read.
_FORBIDDEN_CODES = (*pickle.BYTEARRAY8, *pickle.NEXT_BUFFER)


class _ForbiddenClassError(Exception):
    """The pickle names what metadata does not consist of."""


# In Python: the one in C makes room for as many objects as five bytes may number, gigabytes of it.
class _MetadataUnpickler(pickle._Unpickler):
    dispatch: ClassVar[dict[int, Any]] = {
        code: function
        for code, function in pickle._Unpickler.dispatch.items()
        if code not in _FORBIDDEN_CODES
    }

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
    if file.is_symlink() or not file.is_file():
        raise ValueError(f"{file} is not a checkpoint's metadata: it is no file of its own")
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
        if not _is_possible(item):
            raise ValueError(f"{file} describes {name!r} by shapes that do not fit together")
        for chunk in item.chunks:
            place = read.storage_data.get(MetadataIndex(name, chunk.offsets))
            # It is stored as it is: so what is made room for has been written.
            if place is None or _bytes_of(chunk.sizes, item) > place.length:
                raise ValueError(f"{file} does not say where {name!r} lies")
    return read


def load_tensors(checkpoint: Path, tensors: dict[str, Any], *, alone: bool = False) -> None:
    """Load the tensors of a checkpoint into ``tensors``, nested; all ranks must call.

    Args:
        checkpoint: its directory.
        tensors: what to fill.
        alone: whether this process is the only one that calls.

    Raises:
        ValueError: as :func:`read_metadata`, or the files do not hold what the metadata says.
    """
    try:
        load(tensors, storage_reader=TensorReader(checkpoint), no_dist=alone)
    except CheckpointException as error:  # on every rank
        failure = next(failure for failure, _ in error.failures.values())
        said = " ".join(f"{type(failure).__name__}: {failure}".split())
        raise ValueError(f"{checkpoint} cannot be loaded: {said}") from error


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
        if not isinstance(index, MetadataIndex) or not isinstance(place, _StorageInfo):
            raise ValueError(f"{file} is not a checkpoint's metadata: it lacks where tensors lie")
        path = place.relative_path
        if not isinstance(path, str) or Path(path).name != path:
            raise ValueError(f"{file} names the file {path!r}, which is not beside it")
        if problem := _problem_of(file.with_name(path), place):
            raise ValueError(f"{file} names the file {path!r}, {problem}")


def _problem_of(file: Path, place: _StorageInfo) -> str:
    """What is wrong with where a tensor is said to lie; nothing where it may lie there."""
    if file.is_symlink() or not file.is_file():
        return "which is no file of its own"
    begin, length = place.offset, place.length
    if not _are_sizes([begin, length]) or begin + length > file.stat().st_size:
        return "and a part of it that it does not have"
    # torch would look the name of a transformation up among what is installed.
    return "and how to change it" if getattr(place, "transform_descriptors", None) else ""


def _is_possible(item: TensorStorageMetadata) -> bool:
    """Whether a tensor's parts lie within it, and there are enough of them."""
    if not (
        isinstance(item.properties, TensorProperties)
        and isinstance(item.properties.dtype, torch.dtype)
        and _are_sizes(item.size)
        and isinstance(item.chunks, list)
    ):
        return False
    for chunk in item.chunks:
        if not (
            isinstance(chunk, ChunkStorageMetadata)
            and _are_sizes(chunk.offsets)
            and _are_sizes(chunk.sizes)
            and len(chunk.offsets) == len(chunk.sizes) == len(item.size)
        ):
            return False
        ends = (o + size for o, size in zip(chunk.offsets, chunk.sizes, strict=True))
        if any(end > whole for end, whole in zip(ends, item.size, strict=True)):
            return False
    return sum(_bytes_of(chunk.sizes, item) for chunk in item.chunks) >= _bytes_of(item.size, item)


def _bytes_of(sizes: Sequence[int], item: TensorStorageMetadata) -> int:
    return math.prod(sizes) * item.properties.dtype.itemsize


def _are_sizes(numbers: Any) -> bool:
    return isinstance(numbers, Sequence) and all(
        type(number) is int and number >= 0 for number in numbers
    )


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
