"""Runs the command line in this process, as a user's shell does."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from dropdrift.launchers.main import main


@dataclass(frozen=True)
class Ended:
    """How a command ended: exit code and what it said."""

    code: object
    output: str
    messages: str


def _ended(*arguments: object) -> Ended:
    """Run ``dropdrift ARGUMENTS``; an exception other than SystemExit is the test's failure."""
    output, messages = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(messages):
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as leave:
            return Ended(leave.code, output.getvalue(), messages.getvalue())
    raise AssertionError("main returned")


@pytest.fixture
def command() -> Callable[..., Ended]:
    """Runs a command that may end in any way."""
    return _ended


@pytest.fixture(scope="session")
def succeed() -> Callable[..., Ended]:
    """Runs a command that must end well."""

    def run(*arguments: object) -> Ended:
        ended = _ended(*arguments)
        assert ended.code == 0, ended.messages
        return ended

    return run


@pytest.fixture
def mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Runs a command that must end in one line and exit code 2, and leave no file in ``tmp_path``.

    Where training has begun, its folder ``begun`` may be left, without checkpoint and result.
    """
    monkeypatch.delenv("DROPDRIFT_TRACEBACK", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)

    def run(*arguments: object, begun: Path | None = None) -> str:
        before = files(tmp_path)
        ended = _ended(*arguments)
        assert ended.code == 2, (ended.code, ended.output, ended.messages)
        assert ended.output == ""
        # A progress bar may be there, above the line.
        lines = [line for line in ended.messages.splitlines() if line.startswith("dropdrift: ")]
        assert len(lines) == 1, ended.messages
        assert ended.messages.endswith(f"{lines[0]}\n")
        new = files(tmp_path) - before
        assert not {path for path in new if begun is None or begun not in path.parents}
        assert not {"COMMITTED", "result.json"} & {path.name for path in new}
        return lines[0].removeprefix("dropdrift: ")

    return run


def files(folder: Path) -> set[Path]:
    """All files in and below ``folder``."""
    return {path for path in folder.rglob("*") if path.is_file()}
