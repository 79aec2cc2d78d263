import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from dropdrift.data.adaptors.movielens_interactions import MovieLensInteractions
from dropdrift.data.encoding.vocabulary import load_vocabularies
from dropdrift.data.interactions.prepare import prepare_interactions
from dropdrift.data.quarantine import BadRows

FILES = {
    "ratings.dat": ("1::10::5::300", "1::20::1::100", "2::30::4::200", "1::99::4::200"),
    "movies.dat": (
        "10::Star Wars: Episode IV (1977)::Action|Sci-Fi",
        "20::Misérables, Les (1995)::Drama",
        "30::Untitled::",
        "40::Never Rated (1999)::Comedy",
    ),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "ml-1m"
    folder.mkdir()
    for name, lines in FILES.items():
        (folder / name).write_bytes("".join(f"{line}\n" for line in lines).encode("latin-1"))
    return folder


def test_every_rating_is_an_interaction(folder: Path) -> None:
    rows = pa.Table.from_batches(MovieLensInteractions(folder).batches(BadRows())).to_pandas()
    assert rows["user_id"].tolist() == ["1", "1", "2", "1"]
    assert rows["movie_id"].tolist() == ["10", "20", "30", "99"]
    assert rows["timestamp"].tolist() == [300, 100, 200, 200]


def test_movies_have_titles_genres_and_years(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    schema = prepare_interactions(MovieLensInteractions(folder), out, progress=False)
    assert schema.field_names == ("item_id", "genres", "release_year")
    items = pq.read_table(out / "items.parquet").to_pandas().fillna({":title": ""})
    assert items[":item"].tolist() == ["10", "20", "30", "99"]
    assert items[":title"].tolist() == [
        "Star Wars: Episode IV (1977)", "Misérables, Les (1995)", "Untitled", "",
    ]  # fmt: skip
    genres = load_vocabularies(out, schema)["genres"].values.to_pylist()
    assert [{genres[i - 1] for i in ids} for ids in items["genres"]] == [
        {"Action", "Sci-Fi"}, {"Drama"}, set(), set(),
    ]  # fmt: skip
    assert items["release_year"].notna().tolist() == [True, True, False, False]


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named_with_the_layout(name: str, folder: Path, tmp_path: Path) -> None:
    (folder / name).unlink()
    with pytest.raises(ValueError, match=r"expected ml-1m.zip or its folder ml-1m"):
        prepare_interactions(MovieLensInteractions(folder), tmp_path / "out", progress=False)


@pytest.mark.skipif("DROPDRIFT_DATASETS" not in os.environ, reason="DROPDRIFT_DATASETS is not set")
def test_real_ratings(tmp_path: Path) -> None:
    source = MovieLensInteractions(Path(os.environ["DROPDRIFT_DATASETS"]) / "ml-1m.zip")
    schema = prepare_interactions(source, tmp_path / "out", progress=False)
    counted = json.loads((tmp_path / "out" / "statistics.json").read_text())
    assert (counted["users"], counted["items"]) == (6_040, 3_706)
    assert counted["interactions"] == 1_000_209
    assert (counted["lengths"]["min"], counted["lengths"]["max"]) == (20, 2_314)
    assert counted["repeats"] == counted["users_below_5"] == 0
    assert counted["side_table"] == {
        "items": 3_883,
        "left_out_without_interaction": 177,
        "catalogue_items_not_in_it": 0,
    }
    assert schema.table("genres").rows == 19
    rows = pa.Table.from_batches(source.batches(BadRows()))
    users = pq.read_table(tmp_path / "out" / "users.parquet")
    items = pq.read_table(tmp_path / "out" / "items.parquet").to_pandas()
    assert items[":title"].notna().all()
    for row in users.take(list(range(0, 6_040, 1_000))).to_pylist():
        own = rows.filter(pc.equal(rows.column("user_id"), row[":user"])).to_pandas()
        names = items[":item"].to_numpy()[row["items"]]
        assert names[row["file_order"]].tolist() == own["movie_id"].tolist()
        assert names.tolist() == own.sort_values("timestamp", kind="stable")["movie_id"].tolist()
        assert row["times"] == sorted(own["timestamp"])
