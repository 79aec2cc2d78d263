"""Whether a command would take its arguments, judged before anything is queued."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from dropdrift.launchers.main import COMMANDS
from dropdrift.launchers.options import CHECK_FLAG


def check_command(command: str, arguments: Sequence[str], processes: int) -> None:
    """Have the command's own parser judge its arguments; nothing is run.

    Args:
        command: of ``dropdrift``.
        arguments: the command line after its name.
        processes: of the whole job.

    Raises:
        ValueError: it would refuse them, or runs on one process alone.
        SystemExit: its help was asked for, and printed.
    """
    if processes > 1 and not COMMANDS[command].many_ranks:
        raise ValueError(f"-j asks for {processes} processes, and {command} runs on one")
    if command == "plan" and not arguments:  # which lists its subcommands
        raise ValueError("launch plan needs a subcommand of plan, and its options, after --")
    asks_for_help = not {"-h", "--help"}.isdisjoint(arguments)
    check = [] if asks_for_help else [f"{CHECK_FLAG}={processes}"]
    try:
        importlib.import_module(f"dropdrift.launchers.{command}").run([*arguments, *check])
    except SystemExit:
        if asks_for_help:
            raise
    else:
        # Such as plan's own list of subcommands, which no check has stopped.
        sys.exit(0)
