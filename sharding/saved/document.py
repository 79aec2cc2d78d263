"""A plan as a JSON document: what it is for, where each table goes, what it comes to.

One format for ``plan show --json``, ``plan save`` and the plan in every checkpoint;
``plan.schema.json`` beside this file describes it. A run may use a plan whose context is its own.
The options that the planner was given are told, but do not count: a run that is given a plan does
not plan.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

from dropdrift.data.json_file import read_json
from dropdrift.data.typed_mapping import build
from dropdrift.sharding.saved.context import Context, context_of
from dropdrift.sharding.saved.placement import PlacedShard, PlacedTable, check_placement
from dropdrift.sharding.summary import PlanSummary, TableSummary, summarise

if TYPE_CHECKING:
    from dropdrift.sharding.planning import Planned

FORMAT = 1


@dataclass(frozen=True)
class SavedPlan:
    """The document.

    Attributes:
        kind: of the document, which tells it from other JSON of ``dropdrift plan``.
        format: version of the format.
        digest: of the context.
        context: what a run must have in common with the plan.
        sharding: options that the planner was given, as ``ShardingConfig`` calls them.
        placement: of each table, in the context's order.
        summary: what the plan comes to; in JSON its properties are told too.
        provenance: where the plan is from.
    """

    kind: Literal["plan"]
    format: int
    digest: str
    context: Context
    sharding: dict[str, Any]
    placement: tuple[PlacedTable, ...]
    summary: PlanSummary
    provenance: dict[str, Any]

    @property
    def is_edited(self) -> bool:
        """Whether the placement was edited, so that the summary is that of another one."""
        return self.placement != _placement(self.summary.tables)

    def document(self) -> dict[str, Any]:
        """The plan as JSON can hold it."""
        return asdict(self) | {"summary": _with_properties(self.summary)}


def document(planned: Planned, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """The document of a plan that has just been made, as JSON can hold it.

    Args:
        planned: the plan.
        provenance: where it is from, as JSON can hold it.
    """
    context, summary = context_of(planned.request), summarise(planned)
    return SavedPlan(
        kind="plan",
        format=FORMAT,
        digest=context.digest,
        context=context,
        sharding=asdict(planned.request.config),
        placement=_placement(summary.tables),
        summary=summary,
        provenance=dict(provenance),
    ).document()


def read_plan(path: Path) -> SavedPlan:
    """The plan that ``path`` holds.

    Raises:
        ValueError: the file is not there, is no plan or one of another format, its context was
            edited, its placement to what TorchRec cannot shard by, or its summary to that of
            another cluster; the line names the file.
    """
    raw = read_json(path)
    if not isinstance(raw, dict) or "kind" not in raw:
        raise ValueError(f"{path} holds no plan: it has no key 'kind'")
    if raw["kind"] != "plan":
        raise ValueError(f"{path} holds no plan: its kind is {raw['kind']!r}")
    version = raw.get("format")
    if version != FORMAT:
        raise ValueError(
            f"{path} has the format {version!r}, this version of dropdrift reads {FORMAT}: "
            "make the plan anew with 'dropdrift plan save'"
        )
    try:
        plan = build(SavedPlan, _without_properties(SavedPlan, raw), "plan")
        if plan.digest != plan.context.digest:
            raise ValueError(
                "context was edited, its SHA-256 is not the digest: make the plan anew with "
                "'dropdrift plan save', or edit nothing but the placement"
            )
        check_placement(plan.placement, plan.context)
        _check_summary(plan.summary, plan.context)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return plan


def _check_summary(summary: PlanSummary, context: Context) -> None:
    cluster = context.cluster
    if [rank.rank for rank in summary.ranks] != list(range(cluster.world_size)):
        raise ValueError(f"summary was edited: its ranks are not 0 to {cluster.world_size - 1}")
    for name in ("hardware", "device", "nodes", "ranks_per_node", "world_size"):
        told, planned = getattr(summary.cluster, name), getattr(cluster, name)
        if told != planned:
            raise ValueError(
                f"summary was edited: its cluster's {name} is {told!r}, the context's {planned!r}"
            )


def _placement(tables: tuple[TableSummary, ...]) -> tuple[PlacedTable, ...]:
    return tuple(
        PlacedTable(
            table=table.name,
            sharding_type=table.sharding_type,
            kernel=table.kernel,
            shards=tuple(
                PlacedShard(s.rank, s.row, s.rows, s.column, s.columns) for s in table.shards
            ),
        )
        for table in tables
    )


def _with_properties(value: Any) -> Any:
    """Dataclasses as dictionaries of their attributes and properties, tuples as lists."""
    if is_dataclass(value):
        names = [field.name for field in fields(value)]
        names += [name for name, item in vars(type(value)).items() if isinstance(item, property)]
        return {name: _with_properties(getattr(value, name)) for name in names}
    return [_with_properties(item) for item in value] if isinstance(value, tuple) else value


def _without_properties(kind: Any, raw: Any) -> Any:
    """What :func:`_with_properties` made of a ``kind``, without what follows from the rest."""
    if get_origin(kind) is tuple and isinstance(raw, list):
        return [_without_properties(get_args(kind)[0], item) for item in raw]
    if not (is_dataclass(kind) and isinstance(raw, dict)):
        return raw
    hints = get_type_hints(kind)
    return {
        name: _without_properties(hints.get(name), item)
        for name, item in raw.items()
        if not isinstance(getattr(kind, name, None), property)
    }
