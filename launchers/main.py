"""The command ``dropdrift``: finds the subcommand and turns a user's mistake into one line.

Imports neither torch nor a subcommand before it is called, so that the help is quick.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
import time
import traceback
from dataclasses import dataclass
from typing import NoReturn

import dropdrift
from dropdrift.launchers.failure import Failure, Kind, leave, parent_tells
from dropdrift.launchers.one_line import one_line
from dropdrift.launchers.processes import end_with, number_of_processes
from dropdrift.launchers.stack import require_matched_stack
from dropdrift.training.signals import EndedBySignal

FAILED = 1
USER_ERROR = 2
INTERRUPTED = 130  # what a shell reports for Ctrl-C: 128 + SIGINT
BROKEN_PIPE = 141  # 128 + SIGPIPE
PATIENCE = 2.0  # seconds


@dataclass(frozen=True)
class Command:
    """A subcommand: the module of its name, with underscores, has ``run(arguments) -> exit code``.

    Attributes:
        help: what it does, in one line.
        needs_torch: whether torch, torchrec and fbgemm must match before it is imported.
        many_ranks: whether it may run under torchrun on several processes.
    """

    help: str
    needs_torch: bool = False
    many_ranks: bool = False


COMMANDS = {
    "prepare": Command("turn raw logs into Parquet shards and a schema"),
    "train": Command("train a model by a recipe", needs_torch=True, many_ranks=True),
    "evaluate": Command(
        "measure a trained model, also with features missing", needs_torch=True, many_ranks=True
    ),
    "predict": Command("score the rows of a Parquet file", needs_torch=True),
    "export-weights": Command("write a run's weights as one safetensors file", needs_torch=True),
    "index": Command(
        "build an index of a matching model's items", needs_torch=True, many_ranks=True
    ),
    "retrieve": Command("recommend items to the users of a file", needs_torch=True),
    "baseline": Command("measure what counting reaches, beside a matching model", needs_torch=True),
    "report": Command("put the results of several runs side by side"),
    "experiment": Command("train and compare the variants of a plan", needs_torch=True),
    "series": Command("show a plan's gains by the missing rate of the data"),
    "plan": Command(
        "see, question, compare and fix sharding plans", needs_torch=True, many_ranks=True
    ),
    "preflight": Command(
        "check the ranks of a job: versions, bandwidth, who is slow",
        needs_torch=True,
        many_ranks=True,
    ),
    "launch": Command("run a command on a cluster, or on several processes here"),
    "demo": Command("train and compare two models on built-in data", needs_torch=True),
    "bench": Command("run the benchmarks"),
    "doctor": Command("check the installation and this machine"),
}


def main(argv: list[str] | None = None) -> NoReturn:
    """Run the command line and leave with its exit code.

    0: done. 2: the user's mistake or too little memory, told in one line. 1: another rank has ended
    or hangs, in one line. 130: interrupted. 143: a run that SIGTERM has ended, its checkpoint
    saved. Any other exception is a bug and leaves with its traceback and 1;
    ``DROPDRIFT_TRACEBACK=1`` shows it for mistakes as well.
    """
    if parent_tells():
        end_with(os.getppid())
    sys.exit(_guarded(sys.argv[1:] if argv is None else argv))


def _guarded(arguments: list[str]) -> int:
    try:
        code = _dispatch(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader, such as head, has enough. Python would complain once more on closing.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except KeyboardInterrupt:
        return _ended(Failure.of_this_process(Kind.ENDED, "interrupted", INTERRUPTED))
    except EndedBySignal as end:
        return _ended(Failure.of_this_process(Kind.ENDED, end.message, end.exit_code))
    except Exception as error:
        message = _users_mistake(error)
        if (kind := _of_another_rank(error)) is not None:
            return _ended(Failure.of_this_process(kind, str(error), FAILED))
        if message is None or os.environ.get("DROPDRIFT_TRACEBACK"):
            said, shown = "".join(traceback.format_exception_only(error)), traceback.format_exc()
            bug = Failure.of_this_process(Kind.BUG, said, FAILED, traceback=shown)
            if leave(bug) and parent_tells():
                return FAILED
            raise
        return _ended(Failure.of_this_process(Kind.MISTAKE, message, USER_ERROR))


def _ended(failure: Failure) -> int:
    """Leave the failure for who started this process, or say it in one line; its exit code."""
    left = leave(failure)
    if failure.kind is Kind.LOST:
        # The rank that failed first may not have said why: torchrun ends all once one has ended.
        time.sleep(PATIENCE)
    # Of a signal all ranks say the same.
    if not (left and parent_tells()) and (failure.kind is not Kind.ENDED or failure.rank == 0):
        _say(failure.message)
    return failure.exit_code


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        return 0 if arguments else USER_ERROR
    if arguments[0] == "--version":
        print(f"dropdrift {dropdrift.__version__}")
        return 0
    name, rest = arguments[0], arguments[1:]
    if name not in COMMANDS:
        raise ValueError(f"unknown command {name!r}; there are: {', '.join(COMMANDS)}")
    if number_of_processes() > 1 and not COMMANDS[name].many_ranks:
        raise ValueError(f"{name} runs on one process: start it without torchrun")
    if COMMANDS[name].needs_torch and {"-h", "--help"}.isdisjoint(rest):
        require_matched_stack()
    module = name.replace("-", "_")
    code: int = importlib.import_module(f"dropdrift.launchers.{module}").run(rest)
    return code


def _help() -> str:
    lines = [f"  {name:<14} {command.help}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: dropdrift [-h] [--version] COMMAND [OPTIONS]",
            "",
            "Diffusion recommenders on TorchRec's sharded embeddings.",
            "",
            "commands:",
            *lines,
            "",
            "'dropdrift COMMAND --help' lists the options of one.",
        ]
    )


def _is_of_memory(error: Exception) -> bool:
    """Whether memory has run out: torch says so by a RuntimeError, on a CPU by its text alone."""
    by_name = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return by_name or (isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error))


def _of_another_rank(error: Exception) -> Kind | None:
    """What it is if another rank is to blame for it. By name: the classes need torch."""
    names = {kind.__name__ for kind in type(error).__mro__}
    if "LostRankError" in names:
        return Kind.LOST
    return Kind.HUNG if "HungRankError" in names else None


def _users_mistake(error: Exception) -> str | None:
    """The line for an error that the user can mend; None for a bug."""
    if _is_of_memory(error):
        return f"not enough memory: {str(error) or 'it is used up'}"
    if isinstance(error, ValueError):
        return str(error)
    if not isinstance(error, OSError):
        return None
    if error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    about_files = isinstance(error, (FileNotFoundError, PermissionError, IsADirectoryError))
    return str(error) if about_files or error.errno == errno.ENOSPC else None


def _say(message: str) -> None:
    """One line on stderr; under torchrun with the rank it comes from.

    What a file holds may be in it: nothing that would steer the terminal gets through.
    """
    # One write, so that the lines of several ranks do not run into each other.
    sys.stderr.write(f"dropdrift{_rank()}: {one_line(message)}\n")
    sys.stderr.flush()


def _rank() -> str:
    """The rank of this process among several; nothing where their number is the mistake."""
    try:
        return f" rank {os.environ.get('RANK')}" if number_of_processes() > 1 else ""
    except ValueError:
        return ""
