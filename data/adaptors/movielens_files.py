"""Reading MovieLens-1M's files: values between "::", Latin-1, in a folder or a zip file."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dropdrift.data.encoding.values import as_numbers
from dropdrift.data.quarantine import BadRows

LAYOUT = "ml-1m.zip or its folder ml-1m, with ratings.dat, users.dat and movies.dat"
SEPARATOR = "::"


class MovieLensFiles:
    """The files of MovieLens-1M, wherever they are.

    Args:
        path: the zip file, the folder ``ml-1m``, or a folder that holds one of them.

    Raises:
        ValueError: it is none of these.
    """

    def __init__(self, path: Path) -> None:
        candidates = (path, path / "ml-1m", path / "ml-1m.zip")
        found = [c for c in candidates if c.is_file() or (c / "ratings.dat").is_file()]
        if not found:
            raise ValueError(f"{path} holds no ratings.dat; expected {LAYOUT}")
        self._origin = found[0]

    def path(self, name: str) -> Path:
        """Where the file ``name`` is."""
        return self._origin / name

    def read(
        self, name: str, columns: Sequence[str], numeric: Sequence[str], bad_rows: BadRows
    ) -> pa.RecordBatch:
        """All rows of the file ``name``: text, and float64 for ``numeric``; empty is missing.

        Raises:
            ValueError: the file is not there or cannot be read, or a row is bad in strict mode.
        """
        path = self.path(name)
        lines = self._lines(name)
        values = pc.split_pattern(lines, SEPARATOR)
        good = pc.equal(pc.list_value_length(values), len(columns)).to_numpy(zero_copy_only=False)
        reason = f"has a number of values other than {len(columns)}"
        _set_aside(path, np.flatnonzero(~good), lines, reason, bad_rows)
        values = values.filter(pa.array(good))
        row_numbers = np.flatnonzero(good)
        result: dict[str, pa.Array] = {}
        good = np.ones(len(values), dtype=bool)
        for position, column in enumerate(columns):
            texts = pc.list_element(values, position)
            result[column] = pc.if_else(pc.equal(texts, ""), None, texts)
            if column in numeric:
                numbers, wrong = as_numbers(texts)
                reason = f"column {column!r} holds no number"
                _set_aside(path, row_numbers[wrong & good], lines, reason, bad_rows)
                good &= ~wrong
                result[column] = pa.array(numbers, from_pandas=True)
        return pa.RecordBatch.from_pydict(result).filter(pa.array(good))

    def movies(self, bad_rows: BadRows) -> pa.RecordBatch:
        """``movies.dat``: movie_id, title, genres, and the release_year that the title ends in.

        Raises:
            ValueError: as ``read``.
        """
        movies = self.read("movies.dat", ("movie_id", "title", "genres"), (), bad_rows)
        found = pc.extract_regex(movies.column("title"), r"\((?P<year>\d{4})\)\s*$")
        year = pc.struct_field(found, "year").cast(pa.int64())
        return movies.append_column("release_year", year)

    def _lines(self, name: str) -> pa.StringArray:
        lines = (line.rstrip("\r") for line in self._text(name).split("\n"))
        return pa.array([line for line in lines if line], pa.string())

    def _text(self, name: str) -> str:
        path = self.path(name)
        try:
            if self._origin.is_dir():
                return path.read_text(encoding="latin-1")
            with zipfile.ZipFile(self._origin) as archive:
                return archive.read(f"ml-1m/{name}").decode("latin-1")
        except (FileNotFoundError, KeyError):
            raise ValueError(f"{path} does not exist; expected {LAYOUT}") from None
        except (OSError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(
                f"{self._origin} cannot be read ({error}); expected {LAYOUT}"
            ) from error


def _set_aside(
    path: Path, rows: NDArray[np.int64], lines: pa.StringArray, reason: str, bad_rows: BadRows
) -> None:
    for row in rows.tolist():
        bad_rows.add(path, row + 1, reason, lines[row].as_py())
