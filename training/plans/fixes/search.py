"""The search for fixes: what is tried in place of a configuration that has no plan."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from dropdrift.data.schema import Schema
from dropdrift.sharding.advance import Advance
from dropdrift.sharding.checks import broken_limits, too_full
from dropdrift.sharding.cluster import Cluster
from dropdrift.sharding.config import CUT_BY_COLUMNS, SHARDING_TYPES, PlanLimits
from dropdrift.sharding.constraints import offered
from dropdrift.sharding.hardware import hardware_names, load_hardware
from dropdrift.sharding.planning import NoPlanError, PlanRequest, make_plan
from dropdrift.sharding.summary import PlanSummary, summarise
from dropdrift.training.plans.config import PlanConfig
from dropdrift.training.plans.fixes.changes import (
    Options,
    as_text,
    changed,
    more_kernels,
    more_types,
    without_columns,
)
from dropdrift.training.plans.fixes.fix import Fix, Kind
from dropdrift.training.plans.fixes.shortage import may_fit
from dropdrift.training.plans.request import planned_run

MOST_NODES = 64
# A plan with all types is told beside one with a single type more where it is faster by this.
FASTER = 0.99


class FixSearch:
    """Plans a configuration with other options.

    Args:
        config: what has no plan, or one that is to be better.
        schema: fields and tables.
        items: of the whole catalogue (matching models).
        cluster: of ``config``.
        limits: what a plan should keep to.
        advance: told what is planned next.

    Attributes:
        tried: plans so far.
    """

    def __init__(
        self,
        config: PlanConfig,
        schema: Schema,
        items: int,
        cluster: Cluster,
        limits: PlanLimits,
        advance: Advance,
    ) -> None:
        self.config, self.cluster = config, cluster
        self._schema, self._items = schema, items
        self._limits, self._advance = limits, advance
        self._known: dict[str, PlanSummary | None] = {}

    @property
    def tried(self) -> int:
        """Plans so far."""
        return len(self._known)

    def fix(self, kind: Kind, about: str, options: Options) -> Fix | None:
        """The fix that some options are; none where they change nothing or lead to no plan."""
        summary = self._plan(options) if options else None
        return None if summary is None else self._told(kind, about, options, summary)

    def first(self, kind: Kind, choices: Sequence[tuple[str, Options]]) -> Fix | None:
        """The first that does, with any sharding type where none does otherwise.

        Args:
            kind: of the fix.
            choices: what each does, and its options; where one does, all behind it do.
        """
        found = first_fix(len(choices), lambda place: self.fix(kind, *choices[place]))
        if found is not None or any(self._plan(wider) for wider in self.wider(self.config)):
            return found
        for rules in (False, True):

            def with_any_type(place: int, rules: bool = rules) -> Fix | None:
                """A choice with any sharding type."""
                about, options = choices[place]
                config = changed(self.config, options)
                wider = more_types(config.sharding, self.addable(config), rules=rules)
                about = f"{about} and any sharding type"
                return self.fix(kind, about, {**options, **wider}) if options and wider else None

            found = first_fix(len(choices), with_any_type)
            if found is not None:
                break
        return found

    def addable(self, config: PlanConfig) -> tuple[str, ...]:
        """Sharding types that the device offers and the optimizer can train."""
        if config.optimizer.sparse == "adam":
            return ()
        barred = CUT_BY_COLUMNS if config.optimizer.sparse == "rowwise_adagrad" else ()
        there = offered(self.cluster.device)
        return tuple(kind for kind in SHARDING_TYPES if kind in there and kind not in barred)

    def wider(self, config: PlanConfig, added: Sequence[str] = ()) -> list[dict[str, Any]]:
        """Options that allow sharding types (all, or ``added``) to more tables, few first."""
        kinds = added or self.addable(config)
        for_most = more_types(config.sharding, kinds, rules=False)
        for_all = more_types(config.sharding, kinds, rules=True)
        different = [for_most] if for_most == for_all else [for_most, for_all]
        return [options for options in different if options]

    def _plan(self, options: Options) -> PlanSummary | None:
        """What the options come to; none where not everything fits."""
        text = as_text(options)
        if text not in self._known:
            self._advance(text)
            request = planned_run(changed(self.config, options), self._schema, self._items)
            # Planning in vain takes longest.
            self._known[text] = _planned(request) if may_fit(request) else None
        return self._known[text]

    def _told(self, kind: Kind, about: str, options: Options, summary: PlanSummary) -> Fix:
        # A spill is told with its tables, whether or not the limit allows it.
        limits = PlanLimits(self._limits.max_skew, math.inf)
        return Fix(
            about=about,
            options=as_text(options),
            kind=kind,
            step_ms=summary.step_ms,
            ranks=summary.cluster.world_size,
            hardware=summary.cluster.hardware,
            fullest_bytes=summary.fullest_bytes,
            spilled=tuple((t.name, t.spilled_bytes) for t in summary.spilled_tables()),
            problems=tuple(broken_limits(summary, limits)),
        )


def _planned(request: PlanRequest) -> PlanSummary | None:
    try:
        summary = summarise(make_plan(request))
    except NoPlanError:
        return None
    return None if too_full(summary) else summary


def find_fixes(search: FixSearch) -> list[Fix]:
    """All fixes, in the order to look at them.

    First those that change neither hardware nor what is trained, then those that change what is
    trained, both the quickest first; then more or larger GPUs, the fewest and smallest first; then
    host memory.
    """
    return [
        *sorted(_placement(search), key=lambda fix: fix.step_ms),
        *sorted(_training(search), key=lambda fix: fix.step_ms),
        *sorted(_hardware(search), key=lambda fix: (fix.ranks, fix.step_ms)),
        *_host_memory(search),
    ]


def first_fix(count: int, fix_at: Callable[[int], Fix | None]) -> Fix | None:
    """The fix of the lowest place that has one, where all places above it have one too."""
    low, high, found = -1, 0, None
    while high < count and (found := fix_at(high)) is None:
        low, high = high, 2 * high + 1 if 2 * high + 1 < count else max(high + 1, count - 1)
    if found is None:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        lower = fix_at(middle)
        low, high, found = (middle, high, found) if lower is None else (low, middle, lower)
    return found


def _placement(search: FixSearch) -> list[Fix]:
    return [*_more_types(search), *_higher_cap(search)]


def _more_types(search: FixSearch) -> list[Fix]:
    """One more sharding type; all of them where that is quicker or the only way."""
    config = search.config
    every = _first_of(search, "any sharding type", search.wider(config))
    if every is None:
        return []
    single = [
        _first_of(search, f"tables may be {kind} too", search.wider(config, [kind]))
        for kind in search.addable(config)
    ]
    fixes = sorted((fix for fix in single if fix is not None), key=lambda fix: fix.step_ms)[:1]
    return fixes if fixes and fixes[0].step_ms <= every.step_ms / FASTER else [every, *fixes]


def _first_of(search: FixSearch, about: str, choices: Sequence[Options]) -> Fix | None:
    fixes = (search.fix("placement", about, options) for options in choices)
    return next((fix for fix in fixes if fix is not None), None)


def _higher_cap(search: FixSearch) -> list[Fix]:
    """Memory that the hardware has and a cap keeps from the plan: all of it, and the least."""
    cluster = search.cluster
    config, hardware = search.config.sharding, cluster.hardware
    if cluster.device == "cpu":
        name, cap = "sharding.host_memory_gib", config.host_memory_gib
        own = hardware.host_memory_gib / cluster.ranks_per_node
    else:
        name, cap, own = "sharding.hbm_gib", config.hbm_gib, hardware.hbm_gib
    if not 0 < cap < own:
        return []
    whole = search.first("placement", [(f"all {own:.4g} GiB that a rank has", {name: 0.0})])
    if whole is None:
        return []
    caps = range(math.floor(cap) + 1, math.ceil(own))
    choices = [(f"{cap} GiB a rank, no less", {name: float(cap)}) for cap in caps]
    least = search.first("placement", choices)
    return [whole] if least is None else [whole, least]


def _training(search: FixSearch) -> list[Fix]:
    config = search.config
    optimizer: dict[str, Any] = {}
    if config.optimizer.sparse in ("adagrad", "adam"):
        optimizer = {"optimizer.sparse": "rowwise_adagrad", **without_columns(config.sharding)}
    precision: dict[str, Any] = {}
    if config.model.table_precision == "fp32" and config.optimizer.sparse != "adam":
        precision = {"model.table_precision": "fp16"}
    fixes = [
        search.first("training", [("row-wise Adagrad, one number of state a row", optimizer)]),
        search.first("training", [("tables in fp16", precision)]),
    ]
    if not any(fixes) and optimizer:
        both = {**optimizer, "model.table_precision": "fp16"}
        about = "tables in fp16 and row-wise Adagrad, one number of state a row"
        fixes.append(search.first("training", [(about, both)]))
    fixes.append(_smaller_batch(search))
    return [fix for fix in fixes if fix is not None]


def _smaller_batch(search: FixSearch) -> Fix | None:
    """The largest half, quarter, ... of the batch."""
    batch = search.config.data.batch_size
    sizes = [batch >> half for half in range(1, batch.bit_length()) if batch % (1 << half) == 0]
    sizes = [size for size in sizes if _divides(search, size, search.cluster.world_size)]

    def fix_at(place: int) -> Fix | None:
        """The fix that a size is."""
        size = sizes[place]
        return search.fix("training", f"a batch of {size:,} rows", {"data.batch_size": size})

    # Where the smallest is no fix, none is.
    return first_fix(len(sizes), fix_at) if sizes and fix_at(len(sizes) - 1) else None


def _hardware(search: FixSearch) -> list[Fix]:
    fixes = [_more_gpus(search) or _more_nodes(search), _larger_gpus(search)]
    return [fix for fix in fixes if fix is not None]


def _more_gpus(search: FixSearch) -> Fix | None:
    """Of the same node, where not all of them are used."""
    cluster, batch = search.cluster, search.config.data.batch_size
    if cluster.device == "cpu" or cluster.nodes > 1:
        return None
    counts = [
        count
        for count in range(cluster.ranks_per_node + 1, cluster.hardware.gpus_per_node + 1)
        if _divides(search, batch, count)
    ]
    choices = [(f"{count} GPUs", {"gpus_per_node": count}) for count in counts]
    return search.first("hardware", choices)


def _more_nodes(search: FixSearch) -> Fix | None:
    cluster, batch = search.cluster, search.config.data.batch_size
    counts = [
        count
        for count in range(cluster.nodes + 1, MOST_NODES + 1)
        if _divides(search, batch, count * cluster.ranks_per_node)
    ]
    return search.first("hardware", [(f"{count} nodes", {"nodes": count}) for count in counts])


def _larger_gpus(search: FixSearch) -> Fix | None:
    """As many of the smallest preset that does, unless those that are there have what it takes."""
    cluster = search.cluster
    if cluster.device == "cpu" or _higher_cap(search):
        return None
    presets = [load_hardware(name) for name in hardware_names()]
    # Real ones alone: those that a run can find itself on.
    larger = [p for p in presets if p.device_names and p.hbm_gib > cluster.hardware.hbm_gib]
    uncapped: dict[str, Any] = {"sharding.hbm_gib": 0.0} if search.config.sharding.hbm_gib else {}
    choices: list[tuple[str, Options]] = []
    for preset in sorted(larger, key=lambda preset: preset.hbm_gib):
        options = {"hardware": preset.name, **uncapped}
        if (search.config.gpus_per_node or preset.gpus_per_node) != cluster.ranks_per_node:
            options["gpus_per_node"] = cluster.ranks_per_node
        choices.append((f"GPUs of {preset.hbm_gib:.4g} GiB", options))
    return search.first("hardware", choices)


def _host_memory(search: FixSearch) -> list[Fix]:
    if search.cluster.device == "cpu" or search.config.optimizer.sparse == "adam":
        return []
    for added in (["fused_uvm_caching"], ["fused_uvm_caching", "fused_uvm"]):
        options = more_kernels(search.config.sharding, added)
        fix = search.first("host memory", [("tables in host memory", options)])
        if fix is not None:
            return [fix]
    return []


def _divides(search: FixSearch, batch: int, ranks: int) -> bool:
    """Whether training takes that many ranks."""
    return batch % ranks == 0 and search.config.data.lanes % ranks == 0
