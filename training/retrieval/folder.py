"""The folder of an index: all that answers need besides the run.

```
index.faiss      the item vectors, searchable
items.parquet    the catalogue: raw ids, titles, encoded fields, interactions in training
transitions.npz  which item followed which in training, where asked for
index.json       what it is, of which checkpoint, what was measured; written last
```
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dropdrift.data.interactions.catalogue import Catalogue
from dropdrift.data.interactions.layout import ITEMS_FILE
from dropdrift.data.interactions.sequences import read_columns
from dropdrift.data.json_file import read_json
from dropdrift.data.schema import Schema
from dropdrift.training.checkpoint import MARKER, checkpoint_path
from dropdrift.training.provenance import write_result
from dropdrift.training.retrieval.prior import PRIOR_FILE, TransitionPrior
from dropdrift.training.retrieval.search import ItemSearch
from dropdrift.training.run_folder import RunFolder

INDEX_FILE = "index.faiss"
ABOUT_FILE = "index.json"
COUNT_COLUMN = ":interactions"

RESULT_KIND = "matching-index"
_AGAIN = "run 'dropdrift index' again"


class IndexFolder:
    """A whole index, its files verified.

    Attributes:
        about: what ``index.json`` holds.

    Raises:
        ValueError: the folder holds no index, or a file of it is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not (path / ABOUT_FILE).is_file():
            raise ValueError(f"--index {path} holds no index: give the --out of 'dropdrift index'")
        self.about: dict[str, Any] = read_json(path / ABOUT_FILE)
        whole = isinstance(self.about, dict) and {"index", "run", "files"} <= self.about.keys()
        if not whole or self.about.get("kind") != RESULT_KIND:
            raise ValueError(f"{path / ABOUT_FILE} does not describe an index: {_AGAIN}")
        for name, written in self.about["files"].items():
            if not (path / name).is_file() or about_file(path / name) != written:
                raise ValueError(f"{path / name} is missing or not what was written: {_AGAIN}")

    def check_of(self, run: RunFolder, schema: Schema, step: int) -> None:
        """ValueError unless the index is of the checkpoint ``step`` of ``run``."""
        of = self.about["run"]
        if of["schema"] != schema.fingerprint():
            raise ValueError(
                f"{self.path} was built from the run {of['folder']}, whose items are others than "
                f"those of {run.path}: {_AGAIN}"
            )
        if of["checkpoint"] != checkpoint_digest(run, step):
            raise ValueError(
                f"{self.path} was built from step {of['step']} of the run {of['folder']}, not from "
                f"step {step} of {run.path}: {_AGAIN}"
            )

    def search(self) -> ItemSearch:
        """The index."""
        return ItemSearch.load(self.path / INDEX_FILE, self.about["index"]["kind"])

    def catalogue(self, schema: Schema) -> Catalogue:
        """The items."""
        return Catalogue.load(self.path, schema)

    def interactions(self) -> NDArray[np.int64]:
        """How often each item occurs in the training data, int64 [I]."""
        table = read_columns(self.path / ITEMS_FILE, {COUNT_COLUMN: "int64"})
        counts: NDArray[np.int64] = table.column(COUNT_COLUMN).to_numpy()
        return counts

    def prior(self) -> TransitionPrior | None:
        """The transition counts, where the index was built with them."""
        path = self.path / PRIOR_FILE
        return TransitionPrior.load(path) if PRIOR_FILE in self.about["files"] else None


def write_index(
    folder: Path,
    search: ItemSearch,
    data: Path,
    interactions: NDArray[np.int64],
    prior: TransitionPrior | None = None,
) -> None:
    """Write the index, and the catalogue of ``data`` with its ``interactions`` [I]."""
    if prior is not None:
        prior.save(folder / PRIOR_FILE)
    search.save(folder / INDEX_FILE)
    items = pq.read_table(data / ITEMS_FILE)
    items = items.append_column(COUNT_COLUMN, pa.array(interactions, pa.int64()))
    pq.write_table(items, folder / ITEMS_FILE, compression="zstd")


def write_about(folder: Path, about: dict[str, Any]) -> None:
    """Write ``index.json`` with what ``about`` says and the digests of the other files."""
    files = {path.name: about_file(path) for path in sorted(folder.iterdir())}
    write_result(folder / ABOUT_FILE, {"kind": RESULT_KIND, **about, "files": files})


def about_file(path: Path) -> dict[str, Any]:
    """Size in bytes and digest of a file."""
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": digest}


def checkpoint_digest(run: RunFolder, step: int) -> str:
    """A digest of all files of the checkpoint ``step``, whose marker lists theirs."""
    digest: str = about_file(checkpoint_path(run.checkpoints, step) / MARKER)["sha256"]
    return digest


def check_free(out: Path) -> None:
    """ValueError unless a new folder may be written to ``out``."""
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ValueError(f"{out} exists already: choose another --out")
