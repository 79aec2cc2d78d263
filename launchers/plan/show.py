"""``dropdrift plan show``: the plan of a model on a cluster."""

from __future__ import annotations

from dropdrift.launchers.plan.output import check_outputs, write_json
from dropdrift.launchers.plan.target import Target, read_target
from dropdrift.sharding.checks import broken_limits
from dropdrift.training.plans.config import ShowConfig


def run(arguments: list[str]) -> int:
    """Plan, and show the plan.

    Raises:
        ValueError: wrong options; no plan, after what is known of the reason was printed; a plan
            that breaks the limits, after it was shown.
    """
    target = read_target(
        ShowConfig,
        arguments,
        prog="dropdrift plan show",
        description="Plan a model for a cluster and show the plan.",
    )
    check_outputs(target.config.json, target.config.html)
    problems = _show(target)
    if problems:
        raise ValueError("; ".join(problems))
    return 0


def _show(target: Target[ShowConfig]) -> list[str]:
    """Show the plan everywhere that was asked for; what is wrong with it."""
    from dropdrift.launchers.plan.remedies import fixes_of_skew, plan_or_diagnose
    from dropdrift.sharding.saved.document import document
    from dropdrift.sharding.summary import summarise
    from dropdrift.training.plans.fixes.fix import about_fix, fix_lines
    from dropdrift.training.plans.views.page import plan_page
    from dropdrift.training.plans.views.terminal import print_plan
    from dropdrift.training.provenance import provenance, write_whole

    config = target.config
    planned = plan_or_diagnose(target, config.limits)
    summary = summarise(planned)
    problems = broken_limits(summary, config.limits)
    origin = provenance(config, config.loop.seed)
    on_terminal = not write_json(document(planned, origin), config.json)
    if on_terminal:
        print_plan(target.name, summary, all_tables=config.all_tables)
    # After the plan, which should not wait for them.
    shown = on_terminal or config.html is not None
    fixes = fixes_of_skew(target, summary, config.limits) if problems and shown else []
    if on_terminal and fixes:
        print("\n".join(["What keeps the limits, each planned to be sure:", *fix_lines(fixes)]))
    if config.html is not None:
        write_whole(
            config.html,
            plan_page(
                target.name,
                target.about,
                summary,
                problems,
                [f"{about_fix(fix)}: {fix.options}" for fix in fixes],
                origin,
            ),
        )
    return problems
