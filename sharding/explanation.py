"""Why a table went where it went: all its options, and what each would make of the plan."""

from __future__ import annotations

import math
from dataclasses import dataclass
from glob import escape
from typing import Literal

from torchrec.distributed.planner.types import ShardingOption

from dropdrift.data.typed_mapping import suggestion
from dropdrift.sharding.advance import Advance, silent
from dropdrift.sharding.checks import too_full
from dropdrift.sharding.config import (
    COMPUTE_KERNELS,
    CUT_BY_COLUMNS,
    SHARDING_TYPES,
    TableRule,
)
from dropdrift.sharding.constraints import offered, usable_types
from dropdrift.sharding.planning import (
    NoPlanError,
    Planned,
    PlanRequest,
    enumerate_options,
    make_plan,
    with_config,
)
from dropdrift.sharding.summary import (
    ClusterSummary,
    Cost,
    PlanSummary,
    TableSummary,
    shard_summary,
    summarise,
)
from dropdrift.sharding.wording import digits, gib

# Plans whose times differ by less count as equally fast.
SAME_TIME = 1e-3

# What is allowed and no slower than the chosen option, and was not taken.
_WHY_NOT_TAKEN = {
    "same": ": TorchRec takes the first of equal plans",
    "faster": ": TorchRec's planner missed it",
}

Verdict = Literal["chosen", "faster", "same", "slower", "no plan", "too large", "excluded"]


@dataclass(frozen=True)
class HeldPlan:
    """What the whole plan comes to with the table held to one option.

    Attributes:
        step_ms: estimated time of the slowest rank.
        fullest_bytes: memory of its device that the fullest rank takes.
        ranks: that hold the table.
    """

    step_ms: float
    fullest_bytes: int
    ranks: int


@dataclass(frozen=True)
class OptionSummary:
    """One way to place the table.

    Attributes:
        sharding_type: how it is cut.
        kernel: how it is looked up.
        shards: parts.
        device_bytes: memory of a rank's device that the largest part takes.
        spilled_bytes: host memory of a GPU's machine that the largest part takes.
        slowest: cost of the part that takes longest.
        cost: of all parts together.
        verdict: how it compares with the chosen option; excluded: the configuration or the
            optimizer does not allow it.
        why: the verdict in words.
        plan: the plan with it; none where none was made or there is none.
    """

    sharding_type: str
    kernel: str
    shards: int
    device_bytes: int
    spilled_bytes: int
    slowest: Cost
    cost: Cost
    verdict: Verdict
    why: str
    plan: HeldPlan | None


@dataclass(frozen=True)
class NotOffered:
    """What TorchRec could do with a table, and no configuration brings about.

    Attributes:
        what: sharding type, or compute kernels.
        why: in words.
    """

    what: str
    why: str


@dataclass(frozen=True)
class Explanation:
    """Why a table is where it is.

    Attributes:
        table: as the plan has it.
        cluster: that the plan is for.
        rows_per_rank: rows of one lookup on one rank.
        optimizer: of the tables.
        available_bytes: memory of a rank's device that tables, inputs and outputs may take.
        step_ms: of the plan.
        options: the chosen one first, then by the time of the plan with them, then those without.
        not_offered: what is left out of the options.
        problems: ranks that hold more than they have, which TorchRec does not see with Adam.
    """

    table: TableSummary
    cluster: ClusterSummary
    rows_per_rank: int
    optimizer: str
    available_bytes: int
    step_ms: float
    options: tuple[OptionSummary, ...]
    not_offered: tuple[NotOffered, ...]
    problems: tuple[str, ...]


def explain(request: PlanRequest, table: str, advance: Advance = silent) -> Explanation:
    """Weigh every option of a table, by planning the whole model again with each.

    Options that the sharding types exclude are planned too, as if they were allowed; those that the
    compute kernels or the optimizer exclude are not.

    Args:
        request: what is planned.
        table: its name.
        advance: told what is planned next.

    Raises:
        ValueError: there is no such table, or no plan (:class:`NoPlanError`).
    """
    names = [known.name for known in request.schema.tables]
    if table not in names:
        listed = "" if len(names) > 40 else f"; there are: {', '.join(names)}"
        raise ValueError(f"unknown table {table!r}{suggestion(table, names, str)}{listed}")
    advance("the plan")
    planned = make_plan(request)
    judge = _Judge(planned, summarise(planned), table, advance)
    options = [judge.option(option) for option in _every_option(request, table)]
    return Explanation(
        table=judge.table,
        cluster=judge.summary.cluster,
        rows_per_rank=request.rows_per_rank,
        optimizer=request.optimizer,
        available_bytes=judge.summary.available_bytes,
        step_ms=judge.summary.step_ms,
        options=tuple(sorted(options, key=_place)),
        not_offered=_not_offered(request, table),
        problems=tuple(too_full(judge.summary)),
    )


def table_rule(table: str, types: tuple[str, ...], kernels: tuple[str, ...] = ()) -> str:
    """A rule of ``sharding.tables`` for the table of that name alone."""
    # A pattern ends at the first equals sign.
    pattern = escape(table).replace("=", "?")
    return TableRule(pattern, types, kernels).text


def compared(held_ms: float, chosen_ms: float) -> tuple[Verdict, str]:
    """How the step time of a plan compares with the chosen one's, in words too."""
    if math.isclose(held_ms, chosen_ms, rel_tol=SAME_TIME):
        return "same", f"the same {digits(chosen_ms)} ms"
    times = f"{digits(held_ms)} ms for {digits(chosen_ms)}"
    if held_ms < chosen_ms:
        share = 100 * (1 - held_ms / chosen_ms)
        return "faster", f"faster by {share:.2g}%: {times}"
    if held_ms >= 2 * chosen_ms:
        return "slower", f"{digits(held_ms / chosen_ms)} times as long: {times}"
    return "slower", f"+{100 * (held_ms / chosen_ms - 1):.2g}%: {times}"


@dataclass(frozen=True)
class _Judge:
    planned: Planned
    summary: PlanSummary
    name: str
    advance: Advance

    @property
    def request(self) -> PlanRequest:
        """What was planned."""
        return self.planned.request

    @property
    def table(self) -> TableSummary:
        """The table in the plan."""
        return next(table for table in self.summary.tables if table.name == self.name)

    @property
    def rows(self) -> int:
        """Of the table."""
        return self.request.schema.table(self.name).rows

    def option(self, option: ShardingOption) -> OptionSummary:
        """The numbers of an option, and what comes of it."""
        device, optimizer = self.request.cluster.device, self.request.optimizer
        shards = [shard_summary(shard, option, device, optimizer) for shard in option.shards]
        verdict, why, plan = self._verdict(option)
        return OptionSummary(
            sharding_type=option.sharding_type,
            kernel=option.compute_kernel,
            shards=len(shards),
            device_bytes=max(shard.device_bytes for shard in shards),
            spilled_bytes=max(shard.spilled_bytes for shard in shards),
            slowest=max((shard.cost for shard in shards), key=lambda cost: cost.total),
            cost=Cost.sum(shard.cost for shard in shards),
            verdict=verdict,
            why=why,
            plan=plan,
        )

    def _verdict(self, option: ShardingOption) -> tuple[Verdict, str, HeldPlan | None]:
        kind, kernel = option.sharding_type, option.compute_kernel
        if (kind, kernel) == (self.table.sharding_type, self.table.kernel):
            return "chosen", "chosen", self._held(self.summary)
        barred = self._barred(kind, kernel)
        if barred:
            return "excluded", barred, None
        verdict, why, plan = self._weighed(option)
        unlisted = self._unlisted(kind)
        if not unlisted:
            return verdict, why + _WHY_NOT_TAKEN.get(verdict, ""), plan
        return "excluded", f"{unlisted}; allowed: {why}", plan

    def _barred(self, kind: str, kernel: str) -> str:
        """Why the option is not worth a plan."""
        if kind in CUT_BY_COLUMNS and self.request.optimizer == "rowwise_adagrad":
            return "optimizer.sparse rowwise_adagrad does not cut columns"
        if kernel in self.request.config.allowed(self.name)[1]:
            return ""
        rule = self.request.config.rule_of(self.name)
        excluding = repr(rule.text) if rule and rule.kernels else "sharding.kernels"
        return f"excluded by {excluding}"

    def _unlisted(self, kind: str) -> str:
        """Why the configuration does not allow the type, or nothing."""
        wanted, cluster = self.request.config.allowed(self.name)[0], self.request.cluster
        if self.request.replicate or kind in usable_types(wanted, self.rows, cluster):
            return ""
        if kind in wanted:
            return f"on a {cluster.device} only where no other type is allowed"
        rule = self.request.config.rule_of(self.name)
        return f"excluded by {repr(rule.text) if rule else 'sharding.types'}"

    def _weighed(self, option: ShardingOption) -> tuple[Verdict, str, HeldPlan | None]:
        lack = self._lack(option)
        if lack:
            return "too large", lack, None
        kind, kernel = option.sharding_type, option.compute_kernel
        self.advance(f"{self.name} {kind}/{kernel}")
        rule = table_rule(self.name, (kind,), (kernel,))
        config = self.request.config
        try:
            planned = make_plan(with_config(self.request, tables=(rule, *config.tables)))
        except NoPlanError:
            return "no plan", "TorchRec finds no plan with it", None
        summary = summarise(planned)
        if too_full(summary):
            return "no plan", "TorchRec's plan with it does not fit", None
        plan = self._held(summary)
        verdict, why = compared(plan.step_ms, self.summary.step_ms)
        return verdict, why, plan

    def _lack(self, option: ShardingOption) -> str:
        """By how much the largest part is too large for a rank, or nothing.

        In TorchRec's own bytes, as its planner decides by them: none too large is worth a plan.
        """
        storages = [shard.storage for shard in option.shards if shard.storage is not None]
        cluster, on_cpu = self.request.cluster, self.request.cluster.device == "cpu"
        device = max(storage.ddr if on_cpu else storage.hbm for storage in storages)
        if device > self.summary.available_bytes:
            return (
                f"{gib(device)} GiB do not fit the {gib(self.summary.available_bytes)} that a rank "
                "has for tables"
            )
        host = 0 if on_cpu else max(storage.ddr for storage in storages)
        if host > cluster.host_bytes:
            return f"{gib(host)} GiB do not fit the {gib(cluster.host_bytes)} of host memory"
        return ""

    def _held(self, summary: PlanSummary) -> HeldPlan:
        table = next(table for table in summary.tables if table.name == self.name)
        return HeldPlan(
            step_ms=summary.step_ms,
            fullest_bytes=summary.fullest_bytes,
            ranks=len(table.ranks),
        )


def _every_option(request: PlanRequest, table: str) -> list[ShardingOption]:
    """The options of the table that there are where nothing is excluded, none placed."""
    options: list[ShardingOption] = []
    for types in _groups(request, table):
        rule = table_rule(table, types, COMPUTE_KERNELS)
        relaxed = with_config(request, tables=(rule, *request.config.tables))
        options += [option for option in enumerate_options(relaxed) if option.name == table]
    return options


def _groups(request: PlanRequest, table: str) -> list[tuple[str, ...]]:
    """Sharding types that the planner takes beside each other."""
    there = offered(request.cluster.device)
    usual = tuple(kind for kind in SHARDING_TYPES if kind in there)
    others = tuple(kind for kind in SHARDING_TYPES if kind not in there)
    rows = request.schema.table(table).rows
    alone = () if request.replicate else usable_types(others, rows, request.cluster)
    return [usual, *([tuple(alone)] if alone else [])]


def _place(option: OptionSummary) -> tuple[bool, float, bool, float]:
    """The chosen one first, then by the plan's time, then those that only the plan lacks."""
    time = option.plan.step_ms if option.plan else math.inf
    return option.verdict != "chosen", time, option.verdict == "excluded", option.slowest.total


def _not_offered(request: PlanRequest, table: str) -> tuple[NotOffered, ...]:
    device = request.cluster.device
    if request.replicate:
        why = "optimizer.sparse adam trains a copy of every table on every rank"
        return (NotOffered(", ".join(SHARDING_TYPES), why),)
    there = offered(device)
    left_out = [
        NotOffered(
            "data_parallel",
            "an optimizer inside the backward does not train copies of a table; optimizer.sparse "
            "adam does, for all tables",
        )
    ]
    listed = {kind for types in _groups(request, table) for kind in types}
    short = [kind for kind in SHARDING_TYPES if kind not in listed]
    if short:
        why = f"the table's rows leave a rank without any, which a {device} does not bear"
        left_out.append(NotOffered(", ".join(short), why))
    special = [k for k in there["table_wise"] if k not in COMPUTE_KERNELS]
    if special:
        left_out.append(
            NotOffered(
                ", ".join(special), "for tables on SSDs and of ids that come and go: none here"
            )
        )
    return tuple(left_out)
