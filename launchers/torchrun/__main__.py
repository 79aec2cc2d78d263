"""torchrun, which says in one line which of the ranks has failed first, and of what.

``python -m dropdrift.launchers.torchrun OPTIONS -m -- dropdrift train ...`` takes what
``torch.distributed.run`` takes and does what it does. It differs in what is said, and in the exit
code: that of the first failure, which is 2 for a user's mistake, 128 and the number of a signal,
else 1.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch.distributed.launcher.api as launcher
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous.api import RendezvousError
from torch.distributed.run import parse_args, run

from dropdrift.launchers.failure import TELLER, Failure, Kind, leave, parent_tells, say, tell
from dropdrift.launchers.one_line import one_line
from dropdrift.launchers.processes import end_with
from dropdrift.launchers.torchrun.agent import OtherNodeError, ReportingAgent

# Of what torch logs, what the line about the first failure says, or what follows any failure.
_SAID_ANYWAY = (
    "Sending process %s closing signal",
    "failed (exitcode: %s)",
    "Received %s death signal",
    "Got termination signal",
    "Error waiting on exit barrier",
    "has failed to shutdown the rendezvous",
    "has failed to send a keep-alive heartbeat",
)
_LOGGERS = ("torch.distributed.elastic", "torch.distributed.run", "torch.distributed.launcher")


def main(arguments: Sequence[str]) -> int:
    """Run torchrun; its exit code."""
    told_by_parent = parent_tells()
    if told_by_parent:
        # Nobody would see the job any more, which trains on: it saves and ends.
        end_with(os.getppid(), signal.SIGTERM)
    os.environ[TELLER] = str(os.getpid())
    _log_in_lines()
    with _reporting_agents() as agents:
        try:
            run(parse_args(list(arguments)))  # type: ignore[no-untyped-call]
            return 0
        except (ChildFailedError, SignalException, OtherNodeError):
            failure = agents[-1].failure
            assert failure is not None, "the agent has not seen why"
        except RendezvousError as error:
            why = str(error.__cause__ or error) or "they have not come in time"
            message = f"the nodes have not met: {one_line(why)}"
            failure = Failure.of_this_process(Kind.LOST, message, exit_code=1)
    if not (leave(failure) and told_by_parent):
        tell(failure)
    for agent in agents:
        agent.wait_for_other_nodes()
    return failure.exit_code


@contextmanager
def _reporting_agents() -> Iterator[list[ReportingAgent]]:
    """Have torch's launcher make the agents of the block so; it knows no other way to choose."""
    made: list[ReportingAgent] = []

    def make(*arguments: Any, **options: Any) -> ReportingAgent:
        """An agent, of whatever the launcher makes its own of."""
        made.append(ReportingAgent(*arguments, **options))
        return made[-1]

    agent = vars(launcher)["LocalElasticAgent"]
    vars(launcher)["LocalElasticAgent"] = make
    try:
        yield made
    finally:
        vars(launcher)["LocalElasticAgent"] = agent


class _Lines(logging.Handler):
    """Says what torch logs in one line each, without what is said anyway."""

    def emit(self, record: logging.LogRecord) -> None:
        """Say one record."""
        if not any(text in str(record.msg) for text in _SAID_ANYWAY):
            say(f"torchrun: {one_line(record.getMessage())}")


def _log_in_lines() -> None:
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.addHandler(_Lines())
        logger.propagate = False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
