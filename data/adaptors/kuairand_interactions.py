"""KuaiRand as sequences: the videos that users clicked, or watched long, liked and so on.

The standard logs are read (see ``data.adaptors.kuairand`` for what their columns mean), of
KuaiRand-Pure or of the larger sets in the same layout. An interaction is a row in which one of the
labels is 1. Repeated rows are dropped. The order is that of ``time_ms``, when the video was shown;
``date`` and ``hourmin`` may be later. Videos have no titles. What describes a video is known before
it is shown; the video statistics cover the whole period and are not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from dropdrift.data.adaptors.delimited import read_delimited
from dropdrift.data.adaptors.duplicates import DuplicateFilter
from dropdrift.data.adaptors.files import require_header
from dropdrift.data.adaptors.kuairand import (
    LABELS,
    LOG_COLUMNS,
    MISSING_CODES,
    VIDEO_CATEGORIES,
    VIDEO_NUMBERS,
)
from dropdrift.data.adaptors.row_filter import Kept, condition, kept_rows
from dropdrift.data.interactions.source import InteractionSpec
from dropdrift.data.quarantine import BadRows
from dropdrift.data.source import FieldSpec

LAYOUT = "the folder of KuaiRand, with data/log_standard_*.csv and data/video_features_basic_*.csv"
VIDEO_IDENTIFIERS = ("author_id", "music_id")
TAGS = FieldSpec("tag", "multi", "vocabulary", group="item", separator=",", max_length=4)
VIDEO_COLUMNS = ("video_id", TAGS.name, *VIDEO_IDENTIFIERS, *VIDEO_CATEGORIES, *VIDEO_NUMBERS)


@dataclass(frozen=True)
class KuaiRandInteractions:
    """Rows of the standard logs in which ``interaction`` is 1.

    The log files are read in the order of their names, which is their order in time.

    Attributes:
        folder: The folder of the data set, or the folder 'data' in it.
        interaction: The label that makes a row an interaction.
        tab: Pages of the application whose rows are taken; empty: all.
    """

    folder: Path
    interaction: str = "is_click"
    tab: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.interaction not in LABELS:
            raise ValueError(
                f"interaction is {self.interaction!r}, must be one of {', '.join(LABELS)}"
            )

    @property
    def spec(self) -> InteractionSpec:
        """Ten side fields, the tags first."""
        return InteractionSpec(
            name="kuairand",
            user="user_id",
            item="video_id",
            time="time_ms",
            fields=(TAGS, *_fields()),
            condition=condition(self._kept),
        )

    @property
    def total_rows(self) -> int | None:
        """Unknown until the rows are read."""
        return None

    def batches(self, bad_rows: BadRows) -> Iterator[pa.RecordBatch]:
        """All interactions, each once.

        Raises:
            ValueError: a file is missing or is not in the layout, or a row is bad in strict mode.
        """
        duplicates = DuplicateFilter()
        numeric = ("hourmin", "time_ms", *LABELS)
        for log in self._files("log_standard_*.csv"):
            require_header(log, LOG_COLUMNS)
            for batch in read_delimited(
                log, select=LOG_COLUMNS, numeric=numeric, bad_rows=bad_rows
            ):
                rows = batch.filter(pa.array(kept_rows(batch, self._kept)))
                rows = rows.take(pa.array(duplicates.new_rows(rows)))
                yield rows.select(["user_id", "video_id", "time_ms"])

    def items(self, bad_rows: BadRows) -> Iterator[pa.RecordBatch]:
        """All videos that are listed.

        Raises:
            ValueError: a file is missing or is not in the layout, or a row is bad in strict mode.
        """
        for path in self._files("video_features_basic_*.csv"):
            require_header(path, VIDEO_COLUMNS)
            yield from read_delimited(
                path, select=VIDEO_COLUMNS, numeric=VIDEO_NUMBERS, bad_rows=bad_rows
            )

    @property
    def _kept(self) -> Kept:
        return {self.interaction: ("1",)} | ({"tab": self.tab} if self.tab else {})

    def _files(self, pattern: str) -> list[Path]:
        inner = self.folder / "data"
        folder = inner if inner.is_dir() else self.folder
        found = sorted(folder.glob(pattern))
        if not found:
            raise ValueError(f"{folder} holds no {pattern}; expected {LAYOUT}")
        return found


def _fields() -> Iterator[FieldSpec]:
    for name in VIDEO_IDENTIFIERS:
        # One that a single video has says no more than the video's own id.
        yield FieldSpec(
            name,
            "categorical",
            "vocabulary",
            min_count=2,
            group="item",
            identifier=True,
            missing_codes=MISSING_CODES.get(name, ()),
        )
    for name in VIDEO_CATEGORIES:
        codes = MISSING_CODES.get(name, ())
        yield FieldSpec(name, "categorical", "vocabulary", group="item", missing_codes=codes)
    for name in VIDEO_NUMBERS:
        yield FieldSpec(name, "numeric", "buckets", size=32, group="item")
