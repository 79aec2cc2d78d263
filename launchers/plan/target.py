"""What CONFIG stands for in ``dropdrift plan SUBCOMMAND CONFIG``.

A ready configuration, a recipe, a YAML file of either kind, the folder of a run, or a prepared data
set, whose model is then that of the default recipe for its kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from dropdrift.data.interactions.layout import ITEMS_FILE
from dropdrift.data.schema import SCHEMA_FILE, DataKind, Schema
from dropdrift.data.typed_mapping import suggestion
from dropdrift.data.yaml_file import read_yaml
from dropdrift.launchers.config_file import convert, options_in, options_of, read_options
from dropdrift.launchers.options import find_recipe, parse_config, recipe_names
from dropdrift.training.config import CONFIG_FILE, RecipeConfig, TrainConfig
from dropdrift.training.plans.config import PlanConfig
from dropdrift.training.plans.described_tables import described_schema, read_tables

if TYPE_CHECKING:
    from dropdrift.sharding.planning import PlanRequest

# Covariant, as a Target is never changed: one of ShowConfig is one of PlanConfig.
C_co = TypeVar("C_co", bound=RecipeConfig, covariant=True)

_CONFIGURATIONS = Path(str(files("dropdrift.launchers.plan"))) / "configurations"
_DEFAULT_RECIPES = {"impressions": "asymdiffrec", "interactions": "t2diff"}


@dataclass(frozen=True)
class Target(Generic[C_co]):
    """What is planned.

    Attributes:
        name: as the command line called it.
        about: of a ready configuration.
        config: its options, overrides included.
        schema: its fields and tables.
        items: of the whole catalogue (matching models).
    """

    name: str
    about: str
    config: C_co
    schema: Schema
    items: int

    def request(self: Target[PlanConfig]) -> PlanRequest:
        """What the planner is asked.

        Raises:
            ValueError: the options contradict each other, the schema or the hardware, or the ranks
                do not divide the batch, which training refuses.
        """
        from dropdrift.training.plans.request import planned_run

        request = planned_run(self.config, self.schema, self.items)
        batch, ranks = self.config.data.batch_size, request.cluster.world_size
        if batch % ranks:
            raise ValueError(f"data.batch_size is {batch}, which {ranks} ranks do not divide")
        return request


@dataclass(frozen=True)
class _Found:
    values: dict[str, Any]
    about: str = ""
    schema: Schema | None = None


def read_target(
    config_type: type[C_co], arguments: Sequence[str], *, prog: str, description: str
) -> Target[C_co]:
    """Read ``CONFIG [OPTIONS]``; print the help and leave if asked for.

    Args:
        config_type: the command's options. What else CONFIG sets, such as its cluster where none is
            planned for, does not count.
        arguments: the command line after the command's name.
        prog: how the command is called, such as ``dropdrift plan show``.
        description: what the help says first.

    Raises:
        ValueError: CONFIG is missing or unknown, an option is wrong, or there is no prepared data.
        SystemExit: the help was printed.
    """
    arguments = list(arguments)
    named = bool(arguments) and not arguments[0].startswith("-")
    chosen = arguments.pop(0) if named else ""
    found = _find(chosen) if named else _Found({})
    options = options_of(config_type)
    values = {name: value for name, value in found.values.items() if name in options}
    config = parse_config(
        config_type, arguments, prog=f"{prog} CONFIG", description=description, base=values
    )
    if not named:
        raise ValueError(f"{prog} needs a CONFIG: {_known()}")
    schema = found.schema or Schema.load(config.data.path)
    return Target(chosen, found.about, config, schema, _items(config, schema))


def configuration_names() -> list[str]:
    """The configurations that come with Dropdrift."""
    return sorted(path.stem for path in _CONFIGURATIONS.glob("*.yaml"))


def _find(chosen: str) -> _Found:
    path = Path(chosen)
    if chosen in configuration_names():
        return _from_yaml(_CONFIGURATIONS / f"{chosen}.yaml")
    if path.is_dir():
        return _from_folder(path)
    if chosen in recipe_names():
        return _Found(_options(find_recipe(chosen)))
    if path.suffix in (".yaml", ".yml") or path.is_file():
        return _from_yaml(path)
    close = suggestion(chosen, [*configuration_names(), *recipe_names()], str)
    raise ValueError(f"unknown CONFIG {chosen!r}{close}: {_known()}")


def _from_folder(folder: Path) -> _Found:
    if (folder / CONFIG_FILE).is_file():
        return _Found(_options(folder / CONFIG_FILE), schema=Schema.load(folder))
    if not (folder / SCHEMA_FILE).is_file():
        raise ValueError(f"{folder} holds neither a run nor prepared data")
    schema = Schema.load(folder)
    recipe = find_recipe(_DEFAULT_RECIPES[schema.kind])
    # All fields of the items, rather than those of the data set that the recipe was made for.
    values = {"data.path": folder, "model.item.fields": ()}
    return _Found(_options(recipe) | values, schema=schema)


def _options(path: Path) -> dict[str, Any]:
    """Of a recipe or run: what may be planned, without where a run goes and what it resumes."""
    values, plannable = read_options(TrainConfig, path), options_of(RecipeConfig)
    return {name: value for name, value in values.items() if name in plannable}


def _from_yaml(path: Path) -> _Found:
    raw = read_yaml(path)
    if not isinstance(raw, dict) or "tables" not in raw:
        return _Found(_options(path))
    try:
        about = convert(str, raw.pop("about", ""), "about")
        kind = convert(DataKind, raw.pop("kind", "impressions"), "kind")
        labels = raw.pop("labels", ["label"] if kind == "impressions" else [])
        schema = described_schema(
            path.stem,
            read_tables(raw.pop("tables")),
            convert(tuple[str, ...], labels, "labels"),
            kind,
        )
        return _Found(options_in(PlanConfig, raw), about, schema)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _items(config: RecipeConfig, schema: Schema) -> int:
    """Rows of the prepared catalogue, or where there is none as many as its first table has ids."""
    catalogue = config.data.path / ITEMS_FILE
    if catalogue.is_file():
        import pyarrow.parquet as pq

        return int(pq.read_metadata(catalogue).num_rows)
    return schema.table(schema.fields[0].table).rows - 1


def _known() -> str:
    return (
        f"name a ready configuration ({', '.join(configuration_names())}), a recipe "
        f"({', '.join(recipe_names())}), a YAML file, the folder of a run, or prepared data"
    )
