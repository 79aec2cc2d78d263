"""What is on the disk when the power goes, at any moment: whole checkpoints, or none."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from dropdrift.training import checkpoint_writer, durable_files
from dropdrift.training.checkpoint import (
    DamagedCheckpointError,
    TrainingState,
    committed_steps,
    verify_checkpoint,
)
from dropdrift.training.checkpoint_writer import (
    begin_checkpoint,
    complete_checkpoint,
    prune_checkpoints,
)
from dropdrift.training.distributed import process_group

pytestmark = pytest.mark.timeout(120)

Tree = dict[str, Any]


class File:
    """Bytes that were written, and those of them that a power cut leaves."""

    def __init__(self) -> None:
        self.now, self.kept = b"", b""

    def sync(self) -> None:
        self.kept = self.now


class Folder:
    """Names, and those of them that a power cut leaves for sure."""

    def __init__(self) -> None:
        self.now: dict[str, File | Folder] = {}
        self.kept: dict[str, File | Folder] = {}

    def sync(self) -> None:
        self.kept = dict(self.now)

    def may_be_left(self) -> Iterator[dict[str, File | Folder]]:
        """Names that may be there: none of the later changes, all of them, or any one alone."""
        yield self.kept
        yield self.now
        for name in self.now.keys() | self.kept.keys():
            if self.now.get(name) is not self.kept.get(name):
                alone = {key: item for key, item in self.kept.items() if key != name}
                yield alone | ({name: self.now[name]} if name in self.now else {})


class Disk:
    """Follows what this process does to a folder.

    Attributes:
        cuts: what a power cut may leave after each thing done: what that was, ``committed`` then,
            and the names in the folder with their contents.
        committed: the step that is said to be saved.
    """

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.root, self._folder = Folder(), folder
        self.cuts: list[tuple[str, int, Tree]] = []
        self.committed = 0
        self._open = io.open
        patch.setattr(io, "open", self._opened)
        for name in ("mkdir", "rename", "unlink", "rmdir", "fsync"):
            patch.setattr(os, name, self._followed(name, getattr(os, name)))

    def _followed(self, name: str, really: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            paths = [self._place(argument, options.get("dir_fd")) for argument in arguments]
            result = really(*arguments, **options)
            if paths[0] is not None:
                getattr(self, f"_{name}")(*paths)
                self._cut(f"{name} {paths[0]}")
            return result

        return call

    def _place(self, argument: Any, folder: int | None) -> Path | None:
        """Where it is below the folder; None where it is elsewhere."""
        if isinstance(argument, int):
            path = Path(f"/proc/self/fd/{argument}").resolve()
        else:
            at = Path.cwd() if folder is None else Path(f"/proc/self/fd/{folder}").resolve()
            path = at / argument
        return path.relative_to(self._folder) if path.is_relative_to(self._folder) else None

    def _find(self, place: Path) -> Any:
        found: Any = self.root
        for part in place.parts:
            found = found.now[part]
        return found

    def _mkdir(self, place: Path, *_: Any) -> None:
        self._find(place.parent).now[place.name] = Folder()

    def _rename(self, place: Path, target: Path) -> None:
        moved = self._find(place.parent).now.pop(place.name)
        self._find(target.parent).now[target.name] = moved

    def _unlink(self, place: Path) -> None:
        del self._find(place.parent).now[place.name]

    _rmdir = _unlink

    def _fsync(self, place: Path) -> None:
        self._find(place).sync()

    def _opened(self, file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        place = None if isinstance(file, int) else self._place(file, None)
        if place is None or "w" not in mode:
            return self._open(file, mode, *arguments, **options)
        inode = File()
        self._find(place.parent).now[place.name] = inode
        stream = io.BufferedWriter(_Followed(self._folder / place, inode))
        return stream if "b" in mode else io.TextIOWrapper(stream, encoding="utf-8")

    def _cut(self, after: str) -> None:
        self.cuts += [(after, self.committed, tree) for tree in self._may_be_left(self.root)]

    def _may_be_left(self, folder: Folder) -> Iterator[Tree]:
        """As trees of names and contents; at most one folder has lost or kept some of its names."""
        for names in folder.may_be_left():
            plain = {name: self._kept(item) for name, item in names.items()}
            yield plain
            for name, item in names.items():
                if isinstance(item, Folder):
                    for inner in self._may_be_left(item):
                        yield {**plain, name: inner}

    def _kept(self, item: File | Folder) -> bytes | Tree:
        if isinstance(item, File):
            return item.kept
        return {name: self._kept(inner) for name, inner in item.kept.items()}


class _Followed(io.FileIO):
    def __init__(self, path: Path, inode: File) -> None:
        super().__init__(str(path), "w")
        self._inode = inode

    def write(self, content: Any) -> int:
        self._inode.now += bytes(content)
        return super().write(content)


def lay_out(tree: Tree, path: Path) -> None:
    path.mkdir()
    for name, item in tree.items():
        if isinstance(item, dict):
            lay_out(item, path / name)
        else:
            (path / name).write_bytes(item)


def losses(cuts: list[tuple[str, int, Tree]], scratch: Path) -> list[str]:
    """What a run would find that is not whole, or not find."""
    found = []
    seen: set[str] = set()
    for after, committed, tree in cuts:
        key = f"{committed} {tree}"
        if key in seen:
            continue
        seen.add(key)
        lay_out(tree, scratch)
        steps = committed_steps(scratch)
        if max(steps, default=0) < committed:
            found.append(f"after {after}: {steps}, and {committed} was saved")
        for step in steps:
            try:
                verify_checkpoint(scratch, step)
            except DamagedCheckpointError as error:
                found.append(f"after {after}: {error}")
        shutil.rmtree(scratch)
    return found


def save_some(folder: Path, scratch: Path, patch: pytest.MonkeyPatch) -> tuple[int, list[str]]:
    """Save three checkpoints and keep one; how many states there were, and what was lost."""
    folder.mkdir()
    with process_group(60), patch.context() as following:
        disk = Disk(folder.resolve(), following)
        for step in (2, 4, 6):
            tensors = {"model": {"weight": torch.full((3, 2), float(step))}, "optimizer": {}}
            partial = begin_checkpoint(folder, step, tensors)
            assert partial is not None
            complete_checkpoint(partial, tensors, TrainingState(step=step), {"plan": "of a test"})
            disk.committed = step
            prune_checkpoints(folder, 1, -1)
    assert committed_steps(folder) == [6]
    assert sorted(disk.root.now) == ["step-000000006"]
    return len(disk.cuts), losses(disk.cuts, scratch)


def test_whole_checkpoints_or_none(tmp_path, monkeypatch):
    """Where files and names are kept that were synced, and of the others none, all or any one."""
    states, lost = save_some(tmp_path / "checkpoints", tmp_path / "state", monkeypatch)
    assert states > 300
    assert lost == []


@pytest.mark.parametrize(
    ("module", "left_out"), [(checkpoint_writer, "sync"), (durable_files, "sync")]
)
def test_without_syncing_some_would_be_lost(tmp_path, monkeypatch, module, left_out):
    """So that the test above can fail: without syncing the folders, and after renaming alone."""
    monkeypatch.setattr(module, left_out, lambda _: None)
    _, lost = save_some(tmp_path / "checkpoints", tmp_path / "state", monkeypatch)
    assert lost
