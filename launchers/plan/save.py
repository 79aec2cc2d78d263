"""``dropdrift plan save``: a plan to train with."""

from __future__ import annotations

from dropdrift.launchers.plan.remedies import plan_or_diagnose
from dropdrift.launchers.plan.target import read_target
from dropdrift.training.plans.config import SaveConfig


def run(arguments: list[str]) -> int:
    """Plan, and write the plan unless it breaks the limits.

    Raises:
        ValueError: wrong options, no plan, after what is known of the reason was printed, or one
            that breaks the limits.
    """
    target = read_target(
        SaveConfig,
        arguments,
        prog="dropdrift plan save",
        description="Plan a model for a cluster and write the plan, for dropdrift train --plan.",
    )
    from dropdrift.sharding.checks import broken_limits
    from dropdrift.sharding.saved.document import document
    from dropdrift.sharding.summary import summarise
    from dropdrift.training.plans.views.grids import cluster_text
    from dropdrift.training.provenance import check_writable, provenance, write_result

    config = target.config
    check_writable(config.out)
    planned = plan_or_diagnose(target, config.limits)
    summary = summarise(planned)
    problems = broken_limits(summary, config.limits)
    if problems:
        raise ValueError(f"{'; '.join(problems)}; nothing was written to {config.out}")
    write_result(config.out, document(planned, provenance(config, config.loop.seed)))
    print(
        f"{config.out}: {len(summary.tables)} tables on {cluster_text(summary)}, for dropdrift "
        f"train --plan {config.out}"
    )
    return 0
