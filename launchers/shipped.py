"""YAML files that come with Dropdrift, by their names, and a user's own beside them."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from dropdrift.data.typed_mapping import suggestion


class ShippedFiles:
    """The YAML files of one folder of ``launchers``.

    Args:
        folder: its name.
        what: what such a file is, in messages.
    """

    def __init__(self, folder: str, what: str) -> None:
        self._folder = Path(str(files("dropdrift.launchers"))) / folder
        self._what = what

    def names(self) -> list[str]:
        """The names of all, sorted."""
        return sorted(path.stem for path in self._folder.glob("*.yaml"))

    def find(self, chosen: str) -> Path:
        """The file of that name, or a user's own; ValueError naming all."""
        names = self.names()
        if chosen in names:
            return self._folder / f"{chosen}.yaml"
        path = Path(chosen)
        if path.suffix in (".yaml", ".yml") or path.is_file():
            return path
        raise ValueError(
            f"unknown {self._what} {chosen!r}{suggestion(chosen, names, str)}; "
            f"there are: {', '.join(names) or 'none'}; or give a YAML file"
        )
