"""What to change where there is no plan, or a skewed one. Each fix is planned before it is told."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dropdrift.data.schema import Schema
from dropdrift.sharding.advance import Advance, silent
from dropdrift.sharding.cluster import Cluster
from dropdrift.sharding.config import PlanLimits
from dropdrift.sharding.planning import NoPlanError
from dropdrift.sharding.summary import PlanSummary
from dropdrift.sharding.wording import GIB
from dropdrift.training.plans.config import PlanConfig
from dropdrift.training.plans.fixes.fix import Fix, bullet, fix_lines, wrapped
from dropdrift.training.plans.fixes.search import FASTER, MOST_NODES, FixSearch, find_fixes
from dropdrift.training.plans.fixes.shortage import Shortage, shortage
from dropdrift.training.plans.request import planned_run

# Shares of the mean memory of a rank to which skewed plans are capped.
CAPS = (1.02, 1.05, 1.1, 1.2, 1.3, 1.4)


@dataclass(frozen=True)
class Diagnosis:
    """Why there is no plan, and what to do.

    Attributes:
        shortage: what there is too little of.
        fixes: in the order to look at them.
        tried: plans that were tried.
    """

    shortage: Shortage
    fixes: tuple[Fix, ...]
    tried: int

    def lines(self) -> list[str]:
        """In words: a title, what is short, fixes; see :func:`fix_lines`."""
        title, *short = self.shortage.lines()
        lines = [*wrapped(title)]
        for line in short:
            lines += bullet(line)
        if self.fixes:
            return [*lines, "What would do, each planned to be sure:", *fix_lines(self.fixes)]
        return lines + wrapped(
            f"Nothing that was tried instead has a plan ({self.tried} plans: other sharding types, "
            f"optimizer, precision, batch, GPUs, up to {MOST_NODES} nodes, host memory)"
        )


def diagnose(
    config: PlanConfig,
    schema: Schema,
    items: int,
    error: NoPlanError,
    advance: Advance = silent,
    limits: PlanLimits | None = None,
) -> Diagnosis:
    """Why a configuration has no plan, and what to change.

    Args:
        config: what has no plan.
        schema: fields and tables.
        items: of the whole catalogue (matching models).
        error: that planning ended with.
        advance: told what is planned next.
        limits: that fixes are held against; a fix that breaks them says so.
    """
    search = FixSearch(
        config, schema, items, error.request.cluster, limits or PlanLimits(), advance
    )
    fixes = tuple(find_fixes(search))
    return Diagnosis(shortage(error), fixes, search.tried)


def skew_fixes(
    config: PlanConfig,
    schema: Schema,
    items: int,
    summary: PlanSummary,
    limits: PlanLimits,
    advance: Advance = silent,
) -> list[Fix]:
    """What to change where a plan is skewed: less memory for it, more sharding types, or both.

    TorchRec's planner balances time, and memory only where there is little of it.

    Args:
        config: what the plan is of.
        schema: fields and tables.
        items: of the whole catalogue (matching models).
        summary: the plan.
        limits: that each fix keeps to, host memory included.
        advance: told what is planned next.

    Returns:
        The quickest of each kind, the quickest first; nothing where nothing helps.
    """
    cluster = planned_run(config, schema, items).cluster
    search = FixSearch(config, schema, items, cluster, limits, advance)
    wider = search.wider(config)[:1]
    capped = [{_cap_option(cluster): cap} for cap in _caps(summary, limits, config)]
    both = [{**cap, **options} for cap in capped for options in wider]
    choices = [
        ("any sharding type", wider),
        ("less memory for the plan", capped),
        ("less memory for the plan and any sharding type", both),
    ]
    fixes: list[Fix] = []
    for about, options in choices:
        found = (search.fix("placement", about, chosen) for chosen in options)
        kept = [fix for fix in found if fix is not None and _keeps(fix, limits)]
        quickest = min(kept, key=lambda fix: fix.step_ms, default=None)
        # Both together are worth their longer line where that is quicker than either.
        if quickest is not None and all(quickest.step_ms < FASTER * f.step_ms for f in fixes):
            fixes.append(quickest)
    return sorted(fixes, key=lambda fix: fix.step_ms)


def _keeps(fix: Fix, limits: PlanLimits) -> bool:
    return not fix.problems and fix.spilled_bytes <= limits.max_spill_gib * GIB


def _cap_option(cluster: Cluster) -> str:
    return "sharding.host_memory_gib" if cluster.device == "cpu" else "sharding.hbm_gib"


def _caps(summary: PlanSummary, limits: PlanLimits, config: PlanConfig) -> list[float]:
    """GiB of a rank that leave tables a little more than the mean, to a tenth."""
    on_cpu = summary.cluster.device == "cpu"
    share = 1.0 if on_cpu else 1 - config.sharding.reserve
    kept = summary.dense_bytes + summary.input_bytes
    caps = [
        math.ceil(10 * (times * summary.mean_bytes + kept) / share / GIB) / 10
        for times in CAPS
        if times <= limits.max_skew
    ]
    return [cap for cap in dict.fromkeys(caps) if cap * GIB < summary.cluster.device_bytes]
