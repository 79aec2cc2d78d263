"""KuaiRand-Pure: impressions of short videos, in the official layout.

Gao et al., "KuaiRand: An Unbiased Sequential Recommendation Dataset with Randomly Exposed Videos",
CIKM 2022. The standard logs are joined with the users' and the videos' features. What is known
only after the impression is never a field: the play and stay times, ``is_profile_enter``, and the
video statistics, which cover the whole period. ``is_lowactive_period`` and ``visible_status`` have
one value in all of KuaiRand-Pure and are left out. The random-exposure log is not read.

What the log's columns turn out to mean:

* Rows are repeated, all columns alike; the first of them is kept.
* ``date`` and ``hourmin`` are the hour in which the row was reported: the hour of ``time_ms``, or
  a later one in 18% of the rows, so that 0.9% carry the next day's date. The parts follow ``date``.
  The time column is ``time_ms`` moved into that day, so that the split is ``date``'s to the row.
* ``music_id`` is 0 where there is no music.

``recent_clicked`` and ``recent_skipped`` are the last videos that the user was shown before the
row's ``time_ms``, by whether they were clicked: what a server knows that hears of a click at once.

A log row without a date or a time has no part to belong to: its time is null.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dropdrift.data.adaptors.delimited import read_delimited
from dropdrift.data.adaptors.duplicates import DuplicateFilter
from dropdrift.data.adaptors.files import require_file, require_header
from dropdrift.data.adaptors.recent import RecentHistory
from dropdrift.data.adaptors.side_table import SideTable
from dropdrift.data.encoding.encoder import encode_users
from dropdrift.data.quarantine import BadRows
from dropdrift.data.schema import FieldGroup
from dropdrift.data.source import DatasetSpec, FieldSpec, TimeSplit

LAYOUT = (
    "the folder of KuaiRand-Pure, with data/log_standard_*.csv, data/user_features_pure.csv and "
    "data/video_features_basic_pure.csv"
)
USER_FILE = "user_features_pure.csv"
VIDEO_FILE = "video_features_basic_pure.csv"

LABELS = (
    "is_click", "long_view", "is_like", "is_follow", "is_comment", "is_forward", "is_hate",
)  # fmt: skip
LOG_COLUMNS = (
    "user_id", "video_id", "date", "hourmin", "time_ms", *LABELS,
    "play_time_ms", "duration_ms", "profile_stay_time", "comment_stay_time", "is_profile_enter",
    "is_rand", "tab",
)  # fmt: skip
USER_COUNTS = ("follow_user_num", "fans_user_num", "friend_user_num", "register_days")
USER_CATEGORIES = (
    "user_active_degree", "is_live_streamer", "is_video_author",
    "follow_user_num_range", "fans_user_num_range", "friend_user_num_range", "register_days_range",
    *(f"onehot_feat{i}" for i in range(18)),
)  # fmt: skip
VIDEO_NUMBERS = ("video_duration", "server_width", "server_height")
VIDEO_CATEGORIES = ("video_type", "upload_type", "upload_dt", "music_type")
MISSING_CODES = {
    "user_active_degree": ("UNKNOWN",),
    "is_live_streamer": ("-124",),
    "video_type": ("UNKNOWN",),
    "upload_type": ("UNKNOWN",),
    "music_id": ("0",),
}

RECENT = 10

_CHINA_MS = 8 * 3_600_000
_DAY_MS = 86_400_000


@dataclass(frozen=True)
class KuaiRandSource:
    """The standard logs of KuaiRand-Pure, one row an impression.

    The log files are read in the order of their names, which is their order in time; rows stay in
    the order of the files.

    Attributes:
        folder: The folder of the data set, or the folder 'data' in it.
        validation_from: First day of the validation part (YYYY-MM-DD, China time).
        test_from: First day of the test part (YYYY-MM-DD, China time).
    """

    folder: Path
    validation_from: str = "2022-05-03"
    test_from: str = "2022-05-04"

    def __post_init__(self) -> None:
        validation_from = _midnight_ms("validation_from", self.validation_from)
        if validation_from >= _midnight_ms("test_from", self.test_from):
            raise ValueError(
                f"validation_from is {self.validation_from}, "
                f"must be before test_from, {self.test_from}"
            )

    @property
    def spec(self) -> DatasetSpec:
        """47 fields, seven labels, first of them ``is_click``, and the split by ``date``."""
        split = TimeSplit(
            validation_from=_midnight_ms("validation_from", self.validation_from),
            test_from=_midnight_ms("test_from", self.test_from),
        )
        return DatasetSpec(
            name="kuairand",
            fields=(*_user_fields(), *_video_fields(), *_context_fields()),
            labels=LABELS,
            split=split,
            user="user_id",
            time="impression_time",
        )

    @property
    def total_rows(self) -> int | None:
        """Unknown until the repeated rows are found."""
        return None

    def batches(self, bad_rows: BadRows) -> Iterator[pa.RecordBatch]:
        """All impressions, each once, with the features of their users and videos.

        Raises:
            ValueError: a file is missing or is not in the layout, or a row is bad in strict mode.
        """
        folder, logs = self._files()
        users = _side_table(
            folder / USER_FILE, ("user_id", *USER_CATEGORIES, *USER_COUNTS), USER_COUNTS, bad_rows
        )
        video_columns = ("video_id", "author_id", "music_id", "tag")
        videos = _side_table(
            folder / VIDEO_FILE,
            (*video_columns, *VIDEO_CATEGORIES, *VIDEO_NUMBERS),
            VIDEO_NUMBERS,
            bad_rows,
        )
        duplicates, history = DuplicateFilter(), _History()
        for log in logs:
            for batch in _read(log, LOG_COLUMNS, ("hourmin", "time_ms", *LABELS), bad_rows):
                rows = batch.take(pa.array(duplicates.new_rows(batch)))
                if rows.num_rows:
                    yield _joined(rows, users, videos, history)

    def _files(self) -> tuple[Path, list[Path]]:
        inner = self.folder / "data"
        folder = inner if inner.is_dir() else self.folder
        logs = sorted(folder.glob("log_standard_*.csv"))
        if not logs:
            raise ValueError(f"{folder} holds no log_standard_*.csv; expected {LAYOUT}")
        for name in (USER_FILE, VIDEO_FILE):
            require_file(folder / name, LAYOUT)
        return folder, logs


class _History:
    """The videos that each user was shown before, clicked and skipped."""

    def __init__(self) -> None:
        self._recent = {1: RecentHistory(RECENT), 0: RecentHistory(RECENT)}

    def add(self, rows: pa.RecordBatch) -> dict[str, pa.Array]:
        """The two fields of the next rows of the log."""
        users = encode_users(rows.column("user_id")).to_numpy()
        times = rows.column("time_ms").cast(pa.float64()).to_numpy(zero_copy_only=False)
        click = rows.column("is_click").to_numpy(zero_copy_only=False)
        videos = rows.column("video_id")
        lists = [
            self._recent[shown].add(users, times, videos, (click == shown) & np.isfinite(times))
            for shown in (1, 0)
        ]
        return dict(zip(("recent_clicked", "recent_skipped"), lists, strict=True))


def _user_fields() -> Iterator[FieldSpec]:
    yield _identifier("user_id", "user")
    for name in USER_CATEGORIES:
        yield _category(name, "user")
    for name in USER_COUNTS:
        yield FieldSpec(name, "numeric", "buckets", size=32, group="user")
    for name in ("recent_clicked", "recent_skipped"):
        yield FieldSpec(
            name,
            "sequence",
            "vocabulary",
            min_count=2,
            group="user",
            table="video_id",
            max_length=RECENT,
        )


def _video_fields() -> Iterator[FieldSpec]:
    for name in ("video_id", "author_id", "music_id"):
        yield _identifier(name, "item")
    for name in VIDEO_CATEGORIES:
        yield _category(name, "item")
    for name in (*VIDEO_NUMBERS, "video_age_days"):
        yield FieldSpec(name, "numeric", "buckets", size=32, group="item")
    yield FieldSpec("tag", "multi", "vocabulary", group="item", separator=",", max_length=4)


def _context_fields() -> Iterator[FieldSpec]:
    for name in ("tab", "hour", "weekday"):
        yield _category(name, "context")


def _identifier(name: str, group: FieldGroup) -> FieldSpec:
    # An id seen once stands for the unseen ones: so their row is trained.
    return FieldSpec(
        name,
        "categorical",
        "vocabulary",
        min_count=2,
        group=group,
        identifier=True,
        missing_codes=MISSING_CODES.get(name, ()),
    )


def _category(name: str, group: FieldGroup) -> FieldSpec:
    codes = MISSING_CODES.get(name, ())
    return FieldSpec(name, "categorical", "vocabulary", group=group, missing_codes=codes)


def _read(
    path: Path, columns: tuple[str, ...], numeric: tuple[str, ...], bad_rows: BadRows
) -> Iterator[pa.RecordBatch]:
    require_header(path, columns)
    return read_delimited(path, select=columns, numeric=numeric, bad_rows=bad_rows)


def _side_table(
    path: Path, columns: tuple[str, ...], numeric: tuple[str, ...], bad_rows: BadRows
) -> SideTable:
    return SideTable(list(_read(path, columns, numeric, bad_rows)), columns[0], path)


def _joined(
    rows: pa.RecordBatch, users: SideTable, videos: SideTable, history: _History
) -> pa.RecordBatch:
    """The columns of the fields, the labels and the time."""
    columns = {name: rows.column(name) for name in ("user_id", "video_id", "tab", *LABELS)}
    columns |= history.add(rows)
    columns |= users.lookup(columns["user_id"])
    columns |= videos.lookup(columns["video_id"])
    day = pc.strptime(rows.column("date"), format="%Y%m%d", unit="s", error_is_null=True)
    columns["hour"] = pc.floor(pc.divide(rows.column("hourmin"), 100)).cast(pa.int64())
    columns["weekday"] = pc.day_of_week(day)
    columns["video_age_days"] = pc.days_between(_upload_day(columns["upload_dt"]), day)
    columns["impression_time"] = _within_day(rows.column("time_ms"), day)
    return pa.RecordBatch.from_pydict(columns)


def _upload_day(dates: pa.DictionaryArray) -> pa.Array:
    days = pc.strptime(dates.dictionary, format="%Y-%m-%d", unit="s", error_is_null=True)
    return days.take(dates.indices)


def _within_day(time_ms: pa.Array, day: pa.Array) -> pa.Array:
    """``time_ms`` moved to the nearest time of ``day`` in China; null where either is missing."""
    midnight = pc.subtract(pc.multiply(day.cast(pa.int64()), 1000), _CHINA_MS)
    midnight = midnight.cast(pa.float64())
    not_before = pc.max_element_wise(time_ms, midnight, skip_nulls=False)
    return pc.min_element_wise(not_before, pc.add(midnight, _DAY_MS - 1), skip_nulls=False)


def _midnight_ms(option: str, day: str) -> float:
    """The time in milliseconds since 1970 at which ``day`` begins in China."""
    try:
        date = datetime.date.fromisoformat(day)
    except ValueError:
        raise ValueError(f"{option} is {day!r}, must be a day as 2022-05-03") from None
    midnight = datetime.datetime.combine(date, datetime.time(), datetime.UTC)
    return midnight.timestamp() * 1000 - _CHINA_MS
