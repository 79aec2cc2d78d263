"""What ``dropdrift plan`` says where there is no plan, or one that breaks its limits."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from dropdrift.launchers.plan.target import Target
from dropdrift.sharding.advance import Advance
from dropdrift.sharding.config import PlanLimits
from dropdrift.training.plans.config import PlanConfig

if TYPE_CHECKING:
    from dropdrift.sharding.planning import NoPlanError, Planned
    from dropdrift.sharding.summary import PlanSummary
    from dropdrift.training.plans.fixes.fix import Fix


def plan_or_diagnose(target: Target[PlanConfig], limits: PlanLimits) -> Planned:
    """The plan; where there is none, what is short and what would do is told on stderr.

    Raises:
        ValueError: there is no plan, or the options are wrong.
    """
    from dropdrift.sharding.planning import NoPlanError, make_plan

    request = target.request()
    try:
        with advancing() as advance:
            advance(f"{len(request.schema.tables)} tables on {request.cluster.world_size} ranks")
            return make_plan(request)
    except NoPlanError as error:
        raise diagnosed(target, error, limits) from None


def diagnosed(target: Target[PlanConfig], error: NoPlanError, limits: PlanLimits) -> ValueError:
    """What to raise instead of ``error``; what is short and what would do is told on stderr."""
    from dropdrift.training.plans.fixes.diagnosis import diagnose

    with advancing() as advance:
        diagnosis = diagnose(target.config, target.schema, target.items, error, advance, limits)
    title, *lines = diagnosis.lines()
    print("\n".join(lines), file=sys.stderr)
    return ValueError(title)


def fixes_of_skew(
    target: Target[PlanConfig], summary: PlanSummary, limits: PlanLimits
) -> list[Fix]:
    """What would make a skewed plan keep its limits; nothing where nothing was found."""
    from dropdrift.training.plans.fixes.diagnosis import skew_fixes

    with advancing() as advance:
        return skew_fixes(target.config, target.schema, target.items, summary, limits, advance)


@contextmanager
def advancing() -> Iterator[Advance]:
    """Yields what shows on the terminal what is planned next, and leaves no trace."""
    with Console(stderr=True).status("planning") as status:
        yield lambda what: status.update(Text(f"planning {what}"))
