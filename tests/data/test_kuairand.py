import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from dropdrift.data.adaptors.duplicates import DuplicateFilter
from dropdrift.data.adaptors.kuairand import LABELS, LOG_COLUMNS, KuaiRandSource
from dropdrift.data.preparing.prepare import prepare
from dropdrift.data.quarantine import BadRows
from dropdrift.data.source import TimeSplit

USER_HEADER = (
    "user_id,user_active_degree,is_lowactive_period,is_live_streamer,is_video_author,"
    "follow_user_num,follow_user_num_range,fans_user_num,fans_user_num_range,friend_user_num,"
    "friend_user_num_range,register_days,register_days_range,"
) + ",".join(f"onehot_feat{i}" for i in range(18))
USERS = (
    '0,full_active,0,1,1,514,500+,150,"[100,1k)",34,"[30,60)",799,730+,'
    "1,1,29,949,1.0,0,0,14,135,6,3,0,0.0,1.0,0.0,0.0,0.0,0.0",
    '7,UNKNOWN,0,-124,1,8,"(0,10]",26,"[10,100)",3,"[1,5)",231,181-365,'
    "1,0,2,1176,,0,0,31,275,5,2,2,,,,,,",
)
VIDEO_HEADER = (
    "video_id,author_id,video_type,upload_dt,upload_type,visible_status,video_duration,"
    "server_width,server_height,music_id,music_type,tag"
)
VIDEOS = (
    '3,7349781,NORMAL,2022-04-10,LongImport,0.0,87433.0,720.0,1280.0,9155697141,9.0,"39,12"',
    "4,2103883,AD,2022-04-09,PictureSet,0.0,,720.0,1280.0,0,,",
)
LOG_HEADER = (
    "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,"
    "is_hate,long_view,play_time_ms,duration_ms,profile_stay_time,comment_stay_time,"
    "is_profile_enter,is_rand,tab"
)
LATE_EVENING = 1_651_506_723_458  # 2 May 2022, 23:52 in China
NOON = 1_651_550_400_000  # 3 May 2022, 12:00 in China


def log_row(user: int, video: int, date: int, hourmin: int, time_ms: int, click: int = 1) -> str:
    labels = (click, 0, 0, 0, 0, 0, 1)
    return ",".join(map(str, (user, video, date, hourmin, time_ms, *labels, 9, 9, 0, 0, 0, 0, 1)))


LOG = (
    log_row(0, 3, 20220502, 2300, LATE_EVENING),
    log_row(0, 3, 20220502, 2300, LATE_EVENING),
    log_row(7, 4, 20220503, 0, LATE_EVENING, click=0),
    log_row(99, 98, 20220503, 1200, NOON),
    log_row(0, 3, 20220504, 1200, NOON + 86_400_000),
)


def write(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    data = tmp_path / "KuaiRand-Pure" / "data"
    write(data / "log_standard_4_22_to_5_08_pure.csv", LOG_HEADER, *LOG)
    write(data / "log_random_4_22_to_5_08_pure.csv", LOG_HEADER, log_row(7, 3, 20220503, 0, NOON))
    write(data / "user_features_pure.csv", USER_HEADER, *USERS)
    write(data / "video_features_basic_pure.csv", VIDEO_HEADER, *VIDEOS)
    return data.parent


def read(source: KuaiRandSource, bad_rows: BadRows | None = None) -> pd.DataFrame:
    batches = list(source.batches(bad_rows or BadRows()))
    return pa.Table.from_batches(batches).to_pandas()


def test_every_column_of_the_spec_is_in_the_batches(folder: Path) -> None:
    source = KuaiRandSource(folder)
    rows = read(source)
    names = [field.name for field in source.spec.fields]
    assert len(names) == len(set(names)) == 47
    assert set(names) | {*source.spec.labels, source.spec.user, source.spec.time} == set(rows)


def test_what_is_known_after_the_impression_is_no_field(folder: Path) -> None:
    names = {field.name for field in KuaiRandSource(folder).spec.fields}
    inputs = {"user_id", "video_id", "tab"}
    assert names.isdisjoint(set(LOG_COLUMNS) - inputs)


def test_repeated_rows_are_dropped_across_files_and_the_random_log_is_not_read(
    folder: Path,
) -> None:
    log = folder / "data" / "log_standard_4_22_to_5_08_pure.csv"
    (folder / "data" / "log_standard_4_08_to_4_21_pure.csv").write_text(log.read_text())
    assert len(read(KuaiRandSource(folder))) == 4


def test_logs_are_read_in_the_order_of_time(folder: Path) -> None:
    log = folder / "data" / "log_standard_4_22_to_5_08_pure.csv"
    early = log_row(7, 3, 20220409, 100, NOON - 24 * 86_400_000)
    write(log.with_name("log_standard_4_08_to_4_21_pure.csv"), LOG_HEADER, early)
    assert read(KuaiRandSource(folder))["impression_time"].is_monotonic_increasing


def test_features_are_joined_and_an_unknown_user_or_video_has_none(folder: Path) -> None:
    rows = read(KuaiRandSource(folder / "data"))
    assert rows["follow_user_num"].tolist()[:2] == [514, 8]
    assert rows["author_id"].tolist()[:2] == ["7349781", "2103883"]
    assert rows["tag"].tolist()[0] == "39,12"
    unknown = rows[rows["user_id"] == "99"].iloc[0]
    for field in KuaiRandSource(folder).spec.fields:
        if field.kind == "sequence":
            assert len(unknown[field.name]) == 0
            continue
        known_from_log = field.name in ("user_id", "video_id", "tab", "hour", "weekday")
        assert pd.isna(unknown[field.name]) != known_from_log, field.name


def test_history_is_what_was_shown_before_by_click(folder: Path) -> None:
    log = folder / "data" / "log_standard_4_22_to_5_08_pure.csv"
    shown = [(3, NOON, 1), (4, NOON, 0), (4, NOON + 5, 1), (3, NOON + 9, 0), (3, NOON + 7, 1)]
    rows = [log_row(7, video, 20220503, 1200, time, click=click) for video, time, click in shown]
    write(log, LOG_HEADER, *rows, log_row(0, 3, 20220503, 1200, NOON + 20))
    found = read(KuaiRandSource(folder))
    assert [list(videos) for videos in found["recent_clicked"]] == [
        [], [], ["3"], ["3", "4", "3"], ["3", "4"], [],
    ]  # fmt: skip
    assert [list(videos) for videos in found["recent_skipped"]] == [
        [], [], ["4"], ["4"], ["4"], [],
    ]  # fmt: skip


def test_derived_context(folder: Path) -> None:
    rows = read(KuaiRandSource(folder))
    assert rows["hour"].tolist() == [23, 0, 12, 12]
    assert rows["weekday"].tolist() == [0, 1, 1, 2]  # 2 May 2022 was a Monday
    assert rows["video_age_days"].tolist()[:2] == [22, 24]


def test_parts_follow_the_date_column(folder: Path) -> None:
    source = KuaiRandSource(folder)
    split = source.spec.split
    assert isinstance(split, TimeSplit)
    times = read(source)["impression_time"].to_numpy()
    # The second row happened on 2 May and was reported, and dated, on 3 May.
    assert np.searchsorted([split.validation_from, split.test_from], times, "right").tolist() == [
        0, 1, 1, 2,
    ]  # fmt: skip
    assert times[0] == LATE_EVENING
    assert times[2] == NOON


def test_missing_codes(folder: Path) -> None:
    codes = {field.name: field.missing_codes for field in KuaiRandSource(folder).spec.fields}
    assert codes["is_live_streamer"] == ("-124",)
    assert codes["user_active_degree"] == ("UNKNOWN",)


def test_a_log_row_without_a_date_has_no_time(folder: Path) -> None:
    log = folder / "data" / "log_standard_4_22_to_5_08_pure.csv"
    with log.open("a") as stream:
        stream.write(log_row(0, 3, 20220504, 0, NOON).replace("20220504", "") + "\n")
    assert read(KuaiRandSource(folder))["impression_time"].isna().tolist() == [False] * 4 + [True]


@pytest.mark.parametrize("name", ["log_standard_4_22_to_5_08_pure.csv", "user_features_pure.csv"])
def test_a_missing_file_is_named_with_the_layout(folder: Path, name: str) -> None:
    (folder / "data" / name).unlink()
    with pytest.raises(ValueError, match=rf"{name[:12]}.*expected the folder of KuaiRand-Pure"):
        read(KuaiRandSource(folder))


def test_a_wrong_header_is_named(folder: Path) -> None:
    videos = folder / "data" / "video_features_basic_pure.csv"
    videos.write_text(videos.read_text().replace("author_id", "author"))
    with pytest.raises(
        ValueError, match=r"video_features_basic_pure.csv has no column 'author_id'"
    ):
        read(KuaiRandSource(folder))


def test_a_user_listed_twice_is_named(folder: Path) -> None:
    write(folder / "data" / "user_features_pure.csv", USER_HEADER, *USERS, USERS[1])
    with pytest.raises(ValueError, match=r"user_features_pure.csv has user_id 7 more than once"):
        read(KuaiRandSource(folder))


def test_a_bad_row_is_named_or_set_aside(folder: Path) -> None:
    log = folder / "data" / "log_standard_4_22_to_5_08_pure.csv"
    log.write_text(log.read_text().replace(str(NOON), "noon"))
    with pytest.raises(ValueError, match=r"log_standard_4_22_to_5_08_pure.csv, row 4: .*time_ms"):
        read(KuaiRandSource(folder))
    bad_rows = BadRows("quarantine")
    assert len(read(KuaiRandSource(folder), bad_rows)) == 3
    assert bad_rows.count == 1


@pytest.mark.parametrize(("validation", "test"), [("3 May", "2022-05-04"), ("2022-05-04",) * 2])
def test_days_of_the_split_are_checked(folder: Path, validation: str, test: str) -> None:
    with pytest.raises(ValueError, match=f"validation_from is '?{validation}"):
        KuaiRandSource(folder, validation_from=validation, test_from=test)


def test_duplicates_are_found_whatever_the_cut_into_batches() -> None:
    values = np.random.default_rng(1).integers(0, 40, size=(500, 2))
    table = pd.DataFrame(values, columns=["a", "b"]).assign(c=lambda t: (t["a"] % 3).astype(str))
    expected = table.drop_duplicates()

    def kept(rows: int) -> Iterator[Any]:
        duplicates = DuplicateFilter()
        for start in range(0, len(table), rows):
            part = table.iloc[start : start + rows]
            batch = pa.RecordBatch.from_pandas(part, preserve_index=False)
            yield part.iloc[duplicates.new_rows(batch)]

    for rows in (1, 7, 500):
        pd.testing.assert_frame_equal(pd.concat(kept(rows)), expected)


@pytest.mark.skipif("DROPDRIFT_DATASETS" not in os.environ, reason="DROPDRIFT_DATASETS is not set")
def test_real_log() -> None:
    source = KuaiRandSource(Path(os.environ["DROPDRIFT_DATASETS"]) / "KuaiRand-Pure")
    log = source.folder / "data" / "log_standard_4_22_to_5_08_pure.csv"
    official = pd.read_csv(log).drop_duplicates()
    rows = read(source)
    assert len(rows) == len(official)
    assert rows[list(LABELS)].to_numpy().tolist() == official[list(LABELS)].to_numpy().tolist()
    split = source.spec.split
    assert isinstance(split, TimeSplit)
    parts = np.searchsorted(
        [split.validation_from, split.test_from], rows["impression_time"], "right"
    )
    dated = np.searchsorted([20220503, 20220504], official["date"], "right")
    assert parts.tolist() == dated.tolist()
    assert not rows["author_id"].isna().any()
    assert not rows["register_days"].isna().any()


@pytest.mark.skipif("DROPDRIFT_DATASETS" not in os.environ, reason="DROPDRIFT_DATASETS is not set")
def test_real_log_can_be_prepared(tmp_path: Path) -> None:
    source = KuaiRandSource(Path(os.environ["DROPDRIFT_DATASETS"]) / "KuaiRand-Pure")
    schema = prepare(source, tmp_path / "out", progress=False)
    assert len(schema.fields) == 47
    missing = {field.name: field.missing_rate for field in schema.fields}
    assert missing["is_live_streamer"] == pytest.approx(0.79, abs=0.02)
    assert 0.01 < missing["music_id"] < 0.04
    # No field is constant, or nearly always missing.
    assert min(table.rows for table in schema.tables if table.name != "is_live_streamer") > 2
    statistics = json.loads((tmp_path / "out" / "statistics.json").read_text())
    assert [part["rows"] for part in statistics["parts"].values()] == [131_474, 18_581, 17_226]
