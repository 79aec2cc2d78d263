"""The command line: help, exit codes and one-line errors."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

import dropdrift
from dropdrift.launchers import main as command_line
from dropdrift.launchers.failure import FILE, TELLER, Kind, find
from dropdrift.launchers.main import COMMANDS, main

Run = Callable[[list[str]], int]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[[Run], None]:
    """Puts a function in the place of ``dropdrift train``."""
    monkeypatch.delenv("DROPDRIFT_TRACEBACK", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)

    def put(run: Run) -> None:
        module = ModuleType("dropdrift.launchers.train")
        vars(module)["run"] = run
        monkeypatch.setitem(sys.modules, "dropdrift.launchers.train", module)

    return put


def leave(*arguments: str) -> int:
    with pytest.raises(SystemExit) as error:
        main(list(arguments))
    assert isinstance(error.value.code, int)
    return error.value.code


def raising(error: BaseException) -> Run:
    def run(_: list[str]) -> int:
        raise error

    return run


def test_the_help_is_quick_and_imports_no_torch() -> None:
    code = (
        "import sys\n"
        "from dropdrift.launchers.main import main\n"
        "try:\n    main(['--help'])\n"
        "except SystemExit as leave:\n"
        "    assert leave.code == 0\n"
        "    assert 'torch' not in sys.modules, 'torch was imported'\n"
        "    assert 'numpy' not in sys.modules, 'numpy was imported'\n"
    )
    seconds = []
    for _ in range(3):  # the quickest of three: the machine may be busy
        started = time.perf_counter()
        shown = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 1.0
    for name, command in COMMANDS.items():
        assert f"  {name:<14} {command.help}" in shown.stdout


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert leave("--version") == 0
    assert capsys.readouterr().out == f"dropdrift {dropdrift.__version__}\n"


def test_no_command_shows_the_help_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert leave() == 2
    assert "usage: dropdrift" in capsys.readouterr().out


def test_an_unknown_command_lists_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert leave("trian") == 2
    message = capsys.readouterr().err
    assert message.startswith("dropdrift: unknown command 'trian'; there are: prepare, train,")
    assert message.count("\n") == 1


def test_a_command_gets_its_arguments_and_gives_the_exit_code(
    install: Callable[[Run], None],
) -> None:
    seen: list[str] = []

    def run(arguments: list[str]) -> int:
        seen.extend(arguments)
        return 7

    install(run)
    assert leave("train", "--loop.epochs", "3") == 7
    assert seen == ["--loop.epochs", "3"]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("data.path is 'x',\n  no such folder"), "data.path is 'x', no such folder"),
        (FileNotFoundError(errno.ENOENT, "No such file", "a.csv"), "a.csv: No such file"),
        (PermissionError(errno.EACCES, "Permission denied", "b"), "b: Permission denied"),
        (FileNotFoundError("Failed to open 'c.parquet'"), "Failed to open 'c.parquet'"),
        (OSError(errno.ENOSPC, "No space left"), "[Errno 28] No space left"),
        (MemoryError("Unable to allocate 8 TiB"), "not enough memory: Unable to allocate 8 TiB"),
        (MemoryError(), "not enough memory: it is used up"),
        (
            RuntimeError("[enforce fail] . DefaultCPUAllocator: can't allocate memory"),
            "not enough memory: [enforce fail] . DefaultCPUAllocator: can't allocate memory",
        ),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    install: Callable[[Run], None],
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    line: str,
) -> None:
    install(raising(error))
    assert leave("train") == 2
    shown = capsys.readouterr()
    assert shown.err == f"dropdrift: {line}\n"
    assert shown.out == ""


@pytest.mark.parametrize("error", [KeyError("bug"), ConnectionResetError(errno.ECONNRESET, "gone")])
def test_a_bug_keeps_its_traceback(install: Callable[[Run], None], error: Exception) -> None:
    install(raising(error))
    with pytest.raises(type(error)):
        main(["train"])


def test_the_traceback_of_a_mistake_can_be_had(
    install: Callable[[Run], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    install(raising(ValueError("wrong")))
    monkeypatch.setenv("DROPDRIFT_TRACEBACK", "1")
    with pytest.raises(ValueError, match="wrong"):
        main(["train"])


def test_of_several_ranks_the_failing_one_is_named(
    install: Callable[[Run], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    install(raising(ValueError("no GPU")))
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "3")
    assert leave("train") == 2
    assert capsys.readouterr().err == "dropdrift rank 3: no GPU\n"


def test_a_reason_that_the_parent_tells_is_left_and_not_said(
    install: Callable[[Run], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setenv(FILE, str(tmp_path / "error.json"))
    monkeypatch.setenv(TELLER, str(os.getppid()))
    for error, kind, code in ((ValueError("x"), Kind.MISTAKE, 2), (KeyError("x"), Kind.BUG, 1)):
        install(raising(error))
        assert leave("train") == code
        left = find(tmp_path / "error.json")
        assert left is not None
        assert (left.kind, left.exit_code) == (kind, code)
        assert ("Traceback" in left.traceback) == (kind is Kind.BUG)
    assert capsys.readouterr().err == ""
    monkeypatch.setenv(FILE, str(tmp_path / "absent" / "error.json"))
    install(raising(ValueError("x")))
    assert leave("train") == 2
    assert capsys.readouterr().err == "dropdrift: x\n"


def test_what_another_rank_is_to_blame_for_is_no_mistake_of_the_user(
    install: Callable[[Run], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    from dropdrift.training.group.hangs import HungRankError, LostRankError

    monkeypatch.setattr(command_line, "PATIENCE", 0)
    for error in (HungRankError("rank 1 has not answered"), LostRankError("rank 1 has ended")):
        install(raising(error))
        assert leave("train") == 1


@pytest.mark.parametrize("name", ["train", "report", "plan"])
@pytest.mark.parametrize("value", ["abc", "", "0", "-2", "1.5"])
def test_a_number_of_processes_that_is_none_is_named(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", value)
    assert leave(name, "show") == 2
    said = f"dropdrift: the environment variable WORLD_SIZE is {value!r}, must be a positive int"
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(said)


@pytest.mark.parametrize("name", ["prepare", "predict", "report", "demo", "bench", "doctor"])
def test_what_writes_one_result_refuses_several_ranks(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert leave(name) == 2
    expected = f"dropdrift rank 1: {name} runs on one process: start it without torchrun\n"
    assert capsys.readouterr().err == expected


def test_an_interrupt_is_one_line(
    install: Callable[[Run], None], capsys: pytest.CaptureFixture[str]
) -> None:
    install(raising(KeyboardInterrupt()))
    assert leave("train") == 130
    assert capsys.readouterr().err == "dropdrift: interrupted\n"


def test_a_mixed_set_stops_a_command_that_needs_torch(
    install: Callable[[Run], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def mixed() -> None:
        raise ValueError("installed: torch 2.12.0")

    install(lambda _: 0)
    monkeypatch.setattr(command_line, "require_matched_stack", mixed)
    assert leave("train") == 2
    assert capsys.readouterr().err == "dropdrift: installed: torch 2.12.0\n"
    assert leave("train", "--help") == 0


def test_a_reader_that_stops_reading_is_no_error() -> None:
    command = [sys.executable, "-m", "dropdrift", "--help"]
    read, write = os.pipe()
    os.close(read)
    ended = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (ended.returncode, ended.stderr) == (128 + signal.SIGPIPE, "")


def test_the_module_is_the_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dropdrift", "doctor", "--jason"]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert ended.returncode == 2
    assert ended.stderr == "dropdrift: unknown option --jason; did you mean --json?\n"
