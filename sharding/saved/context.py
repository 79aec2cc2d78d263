"""What a plan is for: a run that is to use it must have all of it in common with the plan.

Needs no torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any

import dropdrift
from dropdrift.sharding.hardware import FIGURES

if TYPE_CHECKING:
    from dropdrift.sharding.planning import PlanRequest

# fbgemm has one distribution for the CPU and one for CUDA.
_DISTRIBUTIONS = {
    "torch": ("torch",),
    "torchrec": ("torchrec",),
    "fbgemm": ("fbgemm-gpu", "fbgemm-gpu-cpu"),
}


@dataclass(frozen=True)
class PlannedField:
    """A field that looks a table up, with the mean number of ids that a row has."""

    name: str
    pooling_factor: float


@dataclass(frozen=True)
class PlannedTable:
    """A table of the model.

    Attributes:
        name: of the table.
        module: path of its embedding collection in the model.
        rows: of the whole table.
        width: of the whole table.
        bytes_per_number: of its weights.
        fields: that look it up.
    """

    name: str
    module: str
    rows: int
    width: int
    bytes_per_number: int
    fields: tuple[PlannedField, ...]


@dataclass(frozen=True)
class PlannedCluster:
    """The machines.

    Attributes:
        hardware: its name.
        figures: of :class:`~dropdrift.sharding.hardware.Hardware`, in its units.
        device: type of the device that holds the tables, ``cpu`` or ``cuda``.
        nodes: machines.
        ranks_per_node: of each.
    """

    hardware: str
    figures: dict[str, Any]
    device: str
    nodes: int
    ranks_per_node: int

    @property
    def world_size(self) -> int:
        """Ranks of all nodes."""
        return self.nodes * self.ranks_per_node


@dataclass(frozen=True)
class Context:
    """What a plan is for.

    Attributes:
        tables: in schema order.
        cluster: where.
        rows_per_rank: rows of one lookup on one rank.
        optimizer: of the tables, as ``OptimizerConfig.sparse`` calls it.
        versions: of torch, torchrec, fbgemm and dropdrift, without what a build for CUDA adds: a
            plan that was made on a machine without a GPU holds on one with.
    """

    tables: tuple[PlannedTable, ...]
    cluster: PlannedCluster
    rows_per_rank: int
    optimizer: str
    versions: dict[str, Any]

    @property
    def digest(self) -> str:
        """SHA-256 of the context as JSON with sorted keys and without spaces."""
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def context_of(request: PlanRequest) -> Context:
    """What a plan for ``request`` is for."""
    cluster = request.cluster
    return Context(
        tables=tuple(_tables(request)),
        cluster=PlannedCluster(
            hardware=cluster.hardware.name,
            figures={name: getattr(cluster.hardware, name) for name in FIGURES},
            device=cluster.device,
            nodes=cluster.nodes,
            ranks_per_node=cluster.ranks_per_node,
        ),
        rows_per_rank=request.rows_per_rank,
        optimizer=request.optimizer,
        versions=_versions(),
    )


def differences(was: Context, now: Context) -> list[str]:
    """One line for each thing in which two contexts differ; none where their digests are equal."""
    return [
        *_of_clusters(was.cluster, now.cluster),
        *_changed("rows of a lookup on a rank were", was.rows_per_rank, now.rows_per_rank, "are"),
        *_changed("optimizer was", was.optimizer, now.optimizer),
        *(
            line
            for name in sorted(was.versions.keys() | now.versions.keys())
            for line in _changed(f"{name} was", was.versions.get(name), now.versions.get(name))
        ),
        *_of_tables(was.tables, now.tables),
    ]


def _of_clusters(was: PlannedCluster, now: PlannedCluster) -> Iterator[str]:
    yield from _changed("hardware was", was.hardware, now.hardware)
    if was.hardware == now.hardware:
        for name in FIGURES:
            yield from _changed(
                f"{name} of hardware {was.hardware} was", was.figures[name], now.figures[name]
            )
    shapes = [f"{c.world_size} ({c.nodes} x {c.ranks_per_node})" for c in (was, now)]
    yield from _changed("world size was", *shapes)


def _of_tables(was: tuple[PlannedTable, ...], now: tuple[PlannedTable, ...]) -> Iterator[str]:
    before, after = ({table.name: table for table in tables} for tables in (was, now))
    yield from (f"table {name!r} is gone" for name in before if name not in after)
    yield from (f"table {name!r} is new" for name in after if name not in before)
    for name, old in before.items():
        if name in after:
            yield from _of_table(old, after[name])


def _of_table(was: PlannedTable, now: PlannedTable) -> Iterator[str]:
    for attribute, what in (
        ("rows", "rows"),
        ("width", "columns"),
        ("bytes_per_number", "bytes a number"),
    ):
        old, new = getattr(was, attribute), getattr(now, attribute)
        if old != new:
            yield f"table {was.name!r} had {old:,} {what}, has {new:,}"
    yield from _changed(f"module of table {was.name!r} was", was.module, now.module)
    before, after = ({f.name: f.pooling_factor for f in table.fields} for table in (was, now))
    if list(before) != list(after):
        fields = [", ".join(names) or "no field" for names in (before, after)]
        yield f"table {was.name!r} was looked up by {fields[0]}, is by {fields[1]}"
    for name, old in before.items():
        if after.get(name, old) != old:
            yield f"field {name!r} had {old:g} ids a row, has {after[name]:g}"


def _changed(what: str, was: object, now: object, verb: str = "is") -> Iterator[str]:
    if was != now:
        yield f"{what} {was}, {verb} {now}"


def _tables(request: PlanRequest) -> Iterator[PlannedTable]:
    from torchrec.modules.embedding_modules import EmbeddingBagCollection

    modules = {
        name: (path, module)
        for path, module in request.model.named_modules()
        if isinstance(module, EmbeddingBagCollection)
        for name in module.embedding_bags
    }
    for table in request.schema.tables:
        path, module = modules[table.name]
        weight = module.embedding_bags[table.name].weight
        yield PlannedTable(
            name=table.name,
            module=path,
            rows=weight.shape[0],
            width=weight.shape[1],
            bytes_per_number=weight.element_size(),
            fields=tuple(
                PlannedField(field.name, field.pooling_factor)
                for field in request.schema.fields
                if field.table == table.name
            ),
        )


def _versions() -> dict[str, str]:
    versions = {"dropdrift": dropdrift.__version__}
    for name, distributions in _DISTRIBUTIONS.items():
        for distribution in distributions:
            try:
                versions[name] = metadata.version(distribution).partition("+")[0]
            except metadata.PackageNotFoundError:
                continue
    return versions
