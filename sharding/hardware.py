"""What machines can hold and how fast they are, each figure with its source.

The presets are in ``hardware.yaml``; a user's own machine is a YAML file of the same keys, such as
``dropdrift plan calibrate`` saves.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import yaml

from dropdrift.data.typed_mapping import build, suggestion
from dropdrift.data.yaml_file import read_yaml

_PRESETS = Path(str(files("dropdrift.sharding"))) / "hardware.yaml"

# A CPU has none of these.
_OF_A_GPU = ("hbm_gib", "hbm_gb_per_s", "host_link_gb_per_s")
FIGURES = (
    "gpus_per_node",
    "hbm_gib",
    "host_memory_gib",
    "hbm_gb_per_s",
    "host_gb_per_s",
    "host_link_gb_per_s",
    "intra_node_gb_per_s",
    "inter_node_gb_per_s",
)


@dataclass(frozen=True)
class Hardware:
    """A kind of node; bandwidths in GB/s (1e9 bytes), memory in GiB.

    Attributes:
        name: Of the preset, or the user's own.
        device: Type of the device that holds the tables.
        gpus_per_node: GPUs of a node; on a CPU the ranks of one.
        hbm_gib: Memory of one GPU; 0 on a CPU, as the other figures of GPUs.
        host_memory_gib: Memory of one node's host.
        hbm_gb_per_s: Bandwidth of one GPU's memory.
        host_gb_per_s: Bandwidth of one node's host memory.
        host_link_gb_per_s: From one GPU to host memory, one direction.
        intra_node_gb_per_s: From one GPU to the others of its node, one direction.
        inter_node_gb_per_s: From one GPU to other nodes, one direction.
        sources: Where each of the FIGURES is from.
        device_names: Parts of the name that CUDA gives a GPU, by which this hardware is known.
    """

    name: str
    device: Literal["cuda", "cpu"]
    gpus_per_node: int
    hbm_gib: float
    host_memory_gib: float
    hbm_gb_per_s: float
    host_gb_per_s: float
    host_link_gb_per_s: float
    intra_node_gb_per_s: float
    inter_node_gb_per_s: float
    sources: dict[str, str]
    device_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        # An empty part would be found in the name of every GPU.
        for name in (self.name, *self.device_names):
            if not name.strip():
                raise ValueError("name and device_names must not be blank")
        for figure in FIGURES:
            _check_figure(figure, getattr(self, figure), self.device)
        _check_sources(self.sources)


def hardware_names() -> list[str]:
    """The presets."""
    return list(read_yaml(_PRESETS))


def load_hardware(name_or_file: str) -> Hardware:
    """The preset of that name, in capitals or not, or the hardware that a YAML file describes.

    A figure of a user's file that has no source is from that file.

    Raises:
        ValueError: there is no such preset or file, it is no YAML, a key is unknown or missing, or
            a value is wrong; the line names the file, the key and the value.
    """
    presets: dict[str, Any] = read_yaml(_PRESETS)
    name = name_or_file.upper()
    if name in presets:
        return build(Hardware, {"name": name, **presets[name]}, f"preset {name}")
    path = Path(name_or_file)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        return _load_file(path)
    raise ValueError(
        f"unknown hardware {name_or_file!r}{_suggestion(name, presets)}; "
        f"there are: {', '.join(presets)}; or give a YAML file"
    )


def save_hardware(hardware: Hardware, path: Path) -> None:
    """Write a YAML file that :func:`load_hardware` reads."""
    # Escaped, since PyYAML does not read back all of Unicode that it can write.
    path.write_text(yaml.safe_dump(asdict(hardware), sort_keys=False), encoding="utf-8")


def _load_file(path: Path) -> Hardware:
    raw = read_yaml(path)
    if isinstance(raw, dict):
        given = raw.get("sources", {})
        if isinstance(given, dict):
            raw = raw | {"sources": dict.fromkeys(FIGURES, f"given in {path.name}") | given}
    try:
        return build(Hardware, raw, "hardware")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _suggestion(name: str, presets: Iterable[str]) -> str:
    """For A100 those of either memory, and not H100, which has more letters in common with it."""
    longer = [preset for preset in presets if name and preset.startswith(name)]
    shorter = [preset for preset in presets if name.startswith(preset)]
    meant = " or ".join(longer or shorter)
    return f"; did you mean {meant}?" if meant else suggestion(name, presets, str)


def _check_figure(name: str, value: float, device: str) -> None:
    if device == "cpu" and name in _OF_A_GPU:
        if value != 0:
            raise ValueError(f"{name} is {value:g}, must be 0 on cpu")
    elif not 0 < value < math.inf:
        raise ValueError(f"{name} is {value:g}, must be positive and finite")


def _check_sources(sources: dict[str, str]) -> None:
    for figure, source in sources.items():
        if figure not in FIGURES:
            hint = suggestion(str(figure), FIGURES)
            raise ValueError(f"sources has the unknown figure {figure!r}{hint}")
        if not isinstance(source, str) or not source.strip():
            raise ValueError(f"the source of {figure} is {source!r}, must be text")
    for figure in FIGURES:
        if figure not in sources:
            raise ValueError(f"sources has no entry for {figure!r}")
