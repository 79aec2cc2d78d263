"""Ends a training at the n-th thing that it does to the folder of its checkpoints.

A program. ``write_points.py all FOLDER DATA`` trains once for each point that standard input names,
ends there, and resumes. ``write_points.py rank POINT OPTIONS...`` is ``dropdrift OPTIONS...``, but
its last rank ends at a point when it runs for the first time.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from dropdrift.data.config import DataConfig
from dropdrift.models.config import DCNv2Config, ModelConfig
from dropdrift.training.checkpoint import checkpoint_path, committed_steps, verify_checkpoint
from dropdrift.training.config import LoopConfig, TrainConfig
from dropdrift.training.trainer import train

EVERY, LAST = 2, 8
AT_ONCE = 2  # processes

# What happens to a file or folder: which argument of the event names it, and which its folder.
_EVENTS = {
    "open": (0, None),
    "os.mkdir": (0, 2),
    "os.rmdir": (0, 1),
    "os.remove": (0, 1),
    "os.rename": (0, 2),
}


class WritePoints:
    """Notes what this process does to a folder, before it is done, and may end it there.

    Args:
        folder: what happens below it is noted.
        kill_at: the point to end at, from 0; at a write, half of it is done.
        note: is given each point.
    """

    def __init__(self, folder: Path, kill_at: int, note: Callable[[str], None]) -> None:
        self.folder, self._kill_at, self._note = str(folder.resolve()), kill_at, note
        self._count = 0
        self._fsync, self._open = os.fsync, io.open
        sys.addaudithook(self._audit)
        os.fsync = self._synced
        io.open = self._opened  # type: ignore[assignment]

    def reach(self, what: str, path: str, half: Callable[[], object] = lambda: None) -> None:
        """Note a point where ``path`` lies below the folder, and end where it is the one."""
        if not path.startswith(f"{self.folder}/") and (what, path) != ("fsync", self.folder):
            return
        self._note(f"{what} {path[len(self.folder) + 1 :]}".replace("step-00000000", ""))
        if self._count == self._kill_at:
            half()
            os.kill(os.getpid(), signal.SIGKILL)
        self._count += 1

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in _EVENTS or (event == "open" and not _writes(arguments[1])):
            return
        name, folder = (None if i is None else arguments[i] for i in _EVENTS[event])
        if isinstance(name, (str, bytes, os.PathLike)):
            path = os.fsdecode(name)
            if isinstance(folder, int) and folder >= 0:
                path = f"/proc/self/fd/{folder}/{path}"
            # The last part is what is acted on, and no link to be followed.
            place = os.path.realpath(os.path.dirname(path))  # noqa: PTH120  # makes no events
            self.reach(event.removeprefix("os."), f"{place}/{os.path.basename(path)}")  # noqa: PTH119

    def _synced(self, descriptor: int) -> None:
        self.reach("fsync", os.path.realpath(f"/proc/self/fd/{descriptor}"))
        self._fsync(descriptor)

    def _opened(self, file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        path = isinstance(file, (str, os.PathLike)) and os.path.realpath(file)
        if not path or not path.startswith(self.folder) or not _writes(mode):
            return self._open(file, mode, *arguments, **options)
        stream = io.BufferedWriter(_Written(self, path, "w"))
        return stream if "b" in mode else io.TextIOWrapper(stream, encoding="utf-8")


class _Written(io.FileIO):
    """A file whose writes are points."""

    def __init__(self, points: WritePoints, path: str, mode: str) -> None:
        super().__init__(path, mode)
        self._points, self._path = points, path

    def write(self, content: Any) -> int:
        """Half of it is there where the process ends in its midst."""
        half = memoryview(content)[: len(content) // 2]
        self._points.reach("write", self._path, lambda: super(_Written, self).write(half))
        return super().write(content)


def _writes(mode: Any) -> bool:
    return isinstance(mode, str) and any(letter in mode for letter in "wax+")


def configuration(data: Path, out: Path, *, beside: bool = False) -> TrainConfig:
    """A run with several checkpoints, the older of which are removed; written beside training."""
    return TrainConfig(
        out=out,
        data=DataConfig(path=data, batch_size=128, prefetch=0, shuffle_rows=300),
        model=ModelConfig(dcnv2=DCNv2Config(deep_widths=(8,), z_width=4)),
        loop=LoopConfig(
            max_steps=LAST,
            checkpoint_every=EVERY,
            log_every=1,
            keep_checkpoints=2,
            save_in_background=beside,
        ),
    )


def left_by(out: Path) -> dict[str, str]:
    """All that a run must end in, as text: names of files, and what is in those that it decides."""
    folder = out / "checkpoints"
    found = {"log": (out / "log.jsonl").read_text()}
    for path in sorted(folder.glob("*/*")):
        same = path.suffix == ".distcp" or path.name == "state.json"
        found[str(path.relative_to(folder))] = path.read_bytes().hex() if same else ""
    for step in committed_steps(folder):
        verify_checkpoint(folder, step)
    outcome = json.loads((out / "result.json").read_text())
    found["outcome"] = str([outcome[key] for key in ("steps", "best_step", "validation")])
    return found


def in_a_process(action: Callable[[], object]) -> int:
    """Do it in a process of its own; its number."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        action()
        code = 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def ended(process: int) -> int:
    """The exit code of a process, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def train_noting(config: TrainConfig, kill_at: int, notes: Path) -> None:
    """Train, and write each point to the file ``notes``."""
    stream = notes.open("w", buffering=1)
    WritePoints(config.out / "checkpoints", kill_at, lambda point: print(point, file=stream))
    train(config, show_progress=False)


def try_point(
    start: Path | None, config: TrainConfig, point: int, expected: dict[str, str]
) -> None:
    """End at a point, from what is in ``start``; go on; print what is not as expected."""
    if start is not None:
        shutil.copytree(start, config.out)
        config = replace(config, resume=True)
    notes = config.out.with_suffix(".notes")
    code = ended(in_a_process(lambda: train_noting(config, point, notes)))
    where = notes.read_text().splitlines()[-1]
    code_after = ended(
        in_a_process(lambda: train(replace(config, resume=True), show_progress=False))
    )
    found = left_by(config.out) if code_after == 0 else {}
    wrong = sorted(key for key in {**found, **expected} if found.get(key) != expected.get(key))
    shutil.rmtree(config.out)
    told = {"point": point, "where": where, "codes": [code, code_after], "wrong": wrong}
    print(json.dumps(told), flush=True)


def damaged_copy(run: Path, copy: Path) -> Path:
    """A run that was stopped before its end, whose newest checkpoint is damaged."""
    shutil.copytree(run, copy)
    (copy / "result.json").unlink()
    shard = checkpoint_path(copy / "checkpoints", LAST) / "__0_0.distcp"
    shard.write_bytes(shard.read_bytes()[:-1000])
    (copy / "config.yaml").write_text(
        (copy / "config.yaml").read_text().replace(str(run), str(copy))
    )
    return copy


def main() -> None:
    """Answer each line of standard input: ``saving``, ``beside`` or ``setting-aside``, a point."""
    folder, data = map(Path, sys.argv[2:4])
    whole = configuration(data, folder / "whole")
    damaged = configuration(data, folder / "aside")
    assert ended(in_a_process(lambda: train_noting(whole, -1, folder / "saving"))) == 0
    start = damaged_copy(whole.out, folder / "damaged")
    shutil.copytree(start, damaged.out)
    again = replace(damaged, resume=True)
    assert ended(in_a_process(lambda: train_noting(again, -1, folder / "setting-aside"))) == 0
    expected = {"saving": left_by(whole.out), "setting-aside": left_by(damaged.out)}
    expected["beside"] = expected["saving"]
    print("ready", flush=True)
    running: list[int] = []
    for number, line in enumerate(sys.stdin):
        kind, point = line.split()
        config = configuration(data, folder / f"run-{number}", beside=kind == "beside")
        begin = start if kind == "setting-aside" else None
        if len(running) == AT_ONCE:
            assert ended(running.pop(0)) == 0
        running.append(
            in_a_process(
                lambda c=config, p=int(point), b=begin, k=kind: try_point(b, c, p, expected[k])
            )
        )
    for process in running:
        assert ended(process) == 0


if __name__ == "__main__":
    if sys.argv[1] == "all":
        main()
    else:
        point, arguments = int(sys.argv[2]), sys.argv[3:]
        first = os.environ.get("TORCHELASTIC_RESTART_COUNT") == "0"
        if first and os.environ["RANK"] == str(int(os.environ["WORLD_SIZE"]) - 1):
            out = Path(arguments[arguments.index("--out") + 1])
            WritePoints(out / "checkpoints", point, lambda _: None)
        from dropdrift.launchers.main import main as dropdrift

        dropdrift(arguments)
