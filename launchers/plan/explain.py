"""``dropdrift plan explain``: every option of one table, and why it lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dropdrift.launchers.plan.output import check_outputs, write_json
from dropdrift.launchers.plan.target import Target, read_target
from dropdrift.sharding.config import PlanLimits
from dropdrift.training.plans.config import ExplainConfig

if TYPE_CHECKING:
    from dropdrift.sharding.explanation import Explanation

PROG = "dropdrift plan explain"


def run(arguments: list[str]) -> int:
    """Plan with every option of a table, and show what comes of each.

    Raises:
        ValueError: wrong options, no such table, or no plan, after what is known of the reason was
            printed.
    """
    named = len(arguments) > 1 and not arguments[0].startswith("-")
    table = arguments[1] if named and not arguments[1].startswith("-") else ""
    target = read_target(
        ExplainConfig,
        [arguments[0], *arguments[2:]] if table else arguments,
        prog=PROG,
        description=(
            f"'{PROG} CONFIG TABLE [OPTIONS]' tells of every way to place a table what it costs, "
            "what it takes, and why it was not chosen, by planning the whole model with it."
        ),
    )
    if not table:
        raise ValueError(f"{PROG} {target.name} needs the name of a TABLE behind {target.name}")
    check_outputs(target.config.json)
    explanation = _explain(target, table)
    from dropdrift.training.plans.views.explained import document, print_explanation
    from dropdrift.training.provenance import provenance

    if not write_json(document(explanation, provenance(target.config)), target.config.json):
        print_explanation(target.name, explanation)
    return 0


def _explain(target: Target[ExplainConfig], table: str) -> Explanation:
    from dropdrift.launchers.plan.remedies import advancing, diagnosed
    from dropdrift.sharding.explanation import explain
    from dropdrift.sharding.planning import NoPlanError

    try:
        with advancing() as advance:
            return explain(target.request(), table, advance)
    except NoPlanError as error:
        raise diagnosed(target, error, PlanLimits()) from None
