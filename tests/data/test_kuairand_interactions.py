import json
import os
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from dropdrift.data.adaptors.kuairand import LOG_COLUMNS
from dropdrift.data.adaptors.kuairand_interactions import KuaiRandInteractions
from dropdrift.data.interactions.prepare import prepare_interactions
from dropdrift.data.quarantine import BadRows

VIDEO_HEADER = (
    "video_id,author_id,video_type,upload_dt,upload_type,visible_status,video_duration,"
    "server_width,server_height,music_id,music_type,tag"
)
VIDEOS = (
    '3,7349781,NORMAL,2022-04-10,LongImport,0.0,87433.0,720.0,1280.0,9155697141,9.0,"39,12"',
    "4,2103883,AD,2022-04-09,PictureSet,0.0,,720.0,1280.0,0,,",
)
NOON = 1_651_550_400_000


def log_row(user: int, video: int, time_ms: int | str, tab: int = 1, **labels: int) -> str:
    values = {"user_id": user, "video_id": video, "date": 20220503, "hourmin": 1200}
    values |= {"time_ms": time_ms, "tab": tab, "is_click": 1, **labels}
    return ",".join(str(values.get(name, 0)) for name in LOG_COLUMNS)


LOG = (
    log_row(7, 3, NOON + 9),
    log_row(7, 4, NOON, tab=2, long_view=1),
    log_row(7, 3, NOON + 9),
    log_row(0, 4, NOON, is_click=0, is_like=1),
    log_row(0, 98, NOON),
)


def write(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    data = tmp_path / "KuaiRand-Pure" / "data"
    write(data / "log_standard_4_22_to_5_08_pure.csv", ",".join(LOG_COLUMNS), *LOG)
    write(data / "log_random_4_22_to_5_08_pure.csv", ",".join(LOG_COLUMNS), log_row(7, 5, NOON))
    write(data / "video_features_basic_pure.csv", VIDEO_HEADER, *VIDEOS)
    return data.parent


def pairs(source: KuaiRandInteractions) -> list[tuple[str, str]]:
    rows = pa.Table.from_batches(source.batches(BadRows())).to_pydict()
    return list(zip(rows["user_id"], rows["video_id"], strict=True))


def test_clicks_are_interactions_each_once_and_the_random_log_is_not_read(folder: Path) -> None:
    assert pairs(KuaiRandInteractions(folder)) == [("7", "3"), ("7", "4"), ("0", "98")]


def test_another_label_and_a_page_can_be_chosen(folder: Path) -> None:
    assert pairs(KuaiRandInteractions(folder, "long_view")) == [("7", "4")]
    assert pairs(KuaiRandInteractions(folder, "is_like")) == [("0", "4")]
    assert pairs(KuaiRandInteractions(folder / "data", tab=("1",))) == [("7", "3"), ("0", "98")]
    assert len(pairs(KuaiRandInteractions(folder, tab=("1", "2")))) == 3


def test_an_unknown_label_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="interaction is 'click', must be one of is_click, "):
        KuaiRandInteractions(folder, "click")


def test_what_was_asked_for_is_told_where_there_is_none(folder: Path, tmp_path: Path) -> None:
    source = KuaiRandInteractions(folder, tab=("8", "9"))
    with pytest.raises(ValueError, match=r"no interaction where is_click is 1 and tab is 8 or 9$"):
        prepare_interactions(source, tmp_path / "out", progress=False)


def test_videos_are_described_by_what_is_known_before(folder: Path, tmp_path: Path) -> None:
    schema = prepare_interactions(KuaiRandInteractions(folder), tmp_path / "out", progress=False)
    assert schema.field_names == (
        "item_id", "tag", "author_id", "music_id", "video_type", "upload_type", "upload_dt",
        "music_type", "video_duration", "server_width", "server_height",
    )  # fmt: skip
    items = pd.read_parquet(tmp_path / "out" / "items.parquet").set_index(":item")
    assert items[":title"].isna().all()
    assert [len(tags) for tags in items.loc[["3", "4", "98"], "tag"]] == [2, 0, 0]
    assert items["music_id"].notna().tolist() == [True, False, False], "0 is no music"
    assert items.loc["98", "author_id":].isna().all()
    counted = json.loads((tmp_path / "out" / "statistics.json").read_text())
    assert counted["condition"] == "is_click is 1"
    assert counted["side_table"]["catalogue_items_not_in_it"] == 1


@pytest.mark.parametrize("pattern", ["log_standard", "video_features_basic"])
def test_a_missing_file_is_named_with_the_layout(
    pattern: str, folder: Path, tmp_path: Path
) -> None:
    next((folder / "data").glob(f"{pattern}*")).unlink()
    with pytest.raises(ValueError, match=rf"{pattern}.*expected the folder of KuaiRand"):
        prepare_interactions(KuaiRandInteractions(folder), tmp_path / "out", progress=False)


def test_a_bad_row_is_named_or_set_aside(folder: Path) -> None:
    write(folder / "data" / "log_standard_5_08_pure.csv", ",".join(LOG_COLUMNS),
          log_row(7, 3, "noon"))  # fmt: skip
    with pytest.raises(ValueError, match=r"log_standard_5_08_pure.csv, row 1: .*time_ms"):
        pairs(KuaiRandInteractions(folder))
    bad_rows = BadRows("quarantine")
    assert sum(batch.num_rows for batch in KuaiRandInteractions(folder).batches(bad_rows)) == 3
    assert bad_rows.count == 1


@pytest.mark.skipif("DROPDRIFT_DATASETS" not in os.environ, reason="DROPDRIFT_DATASETS is not set")
def test_real_clicks(tmp_path: Path) -> None:
    source = KuaiRandInteractions(Path(os.environ["DROPDRIFT_DATASETS"]) / "KuaiRand-Pure")
    log = source.folder / "data" / "log_standard_4_22_to_5_08_pure.csv"
    official = pd.read_csv(log).drop_duplicates().query("is_click == 1")
    prepare_interactions(source, tmp_path / "out", progress=False)
    counted = json.loads((tmp_path / "out" / "statistics.json").read_text())
    assert counted["interactions"] == len(official)
    assert counted["users"] == official["user_id"].nunique()
    assert counted["items"] == official["video_id"].nunique()
    assert counted["side_table"]["catalogue_items_not_in_it"] == 0
    users = pd.read_parquet(tmp_path / "out" / "users.parquet").set_index(":user")
    items = pd.read_parquet(tmp_path / "out" / "items.parquet")[":item"].to_numpy()
    longest = users["items"].map(len).idxmax()
    own = official[official["user_id"] == int(longest)].sort_values("time_ms", kind="stable")
    assert items[users.loc[longest, "items"]].tolist() == own["video_id"].astype(str).tolist()
    assert users.loc[longest, "times"].tolist() == own["time_ms"].tolist()
