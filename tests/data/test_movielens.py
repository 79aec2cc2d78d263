import os
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropdrift.data.adaptors.movielens import MovieLensSource
from dropdrift.data.adaptors.recent import RecentHistory, earlier_counts, recent_values
from dropdrift.data.quarantine import BadRows

RATINGS = (
    "1::10::5::300",
    "1::20::3::100",
    "2::30::4::200",
    "1::30::4::200",
    "1::20::5::400",
    "2::10::1::200",
)
USERS = ("1::F::1::10::48067", "2::M::56::16::98107-2117")
MOVIES = (
    "10::Star Wars: Episode IV (1977)::Action|Sci-Fi",
    "20::Misérables, Les (1995)::Drama",
    "30::Untitled::",
)
FILES = {"ratings.dat": RATINGS, "users.dat": USERS, "movies.dat": MOVIES}


def write(folder: Path, name: str, lines: tuple[str, ...]) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes("".join(f"{line}\n" for line in lines).encode("latin-1"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, lines in FILES.items():
        write(tmp_path / "ml-1m", name, lines)
    return tmp_path / "ml-1m"


def read(path: Path, bad_rows: BadRows | None = None) -> pd.DataFrame:
    batches = list(MovieLensSource(path).batches(bad_rows or BadRows()))
    return pa.Table.from_batches(batches).to_pandas()


def test_every_column_of_the_spec_is_in_the_batches(folder: Path) -> None:
    spec = MovieLensSource(folder).spec
    names = {field.name for field in spec.fields}
    assert len(spec.fields) == 11
    assert names | {*spec.labels, spec.user, spec.time} == set(read(folder))


def test_rows_are_sorted_by_time_and_keep_the_file_s_order_within_it(folder: Path) -> None:
    rows = read(folder)
    assert rows["timestamp"].tolist() == [100, 200, 200, 200, 300, 400]
    assert rows["user_id"].tolist() == ["1", "2", "1", "2", "1", "1"]
    assert rows["liked"].tolist() == [0, 1, 1, 0, 1, 1]


def test_users_and_movies_are_joined(folder: Path) -> None:
    rows = read(folder)
    first = rows.iloc[1]
    assert (first["gender"], first["age"], first["occupation"]) == ("M", "56", "16")
    assert first["zip_area"] == "981"
    star_wars = rows[rows["movie_id"] == "10"].iloc[0]
    assert (star_wars["release_year"], star_wars["genres"]) == (1977, "Action|Sci-Fi")
    untitled = rows[rows["movie_id"] == "30"].iloc[0]
    assert untitled[["release_year", "genres"]].isna().all()


def test_recent_liked_looks_strictly_back(folder: Path) -> None:
    rows = read(folder)
    assert [list(movies) for movies in rows["recent_liked"]] == [
        [], [], [], [], ["30"], ["30", "10"],
    ]  # fmt: skip


def test_what_a_user_has_rated_looks_strictly_back(folder: Path) -> None:
    rows = read(folder)
    assert [list(movies) for movies in rows["recent_disliked"]] == [
        [], [], ["20"], [], ["20"], ["20"],
    ]  # fmt: skip
    shares = rows["liked_share"].to_numpy()
    np.testing.assert_allclose(shares, [np.nan, np.nan, 0, np.nan, 1 / 2, 2 / 3])


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 6), st.booleans()), min_size=1, max_size=40
    ),
    st.integers(1, 4),
)
def test_recent_values_are_what_a_loop_finds(
    rows: list[tuple[int, int, bool]], length: int
) -> None:
    users, times, kept = (np.array(column) for column in zip(*rows, strict=True))
    found = recent_values(users, times.astype(float), pa.array(range(len(rows))), kept, length)
    counts = earlier_counts(users, times.astype(float), kept)
    in_time = sorted(range(len(rows)), key=lambda row: rows[row][1])
    for row, (user, time, _) in enumerate(rows):
        past = [r for r in in_time if rows[r][0] == user and rows[r][1] < time and rows[r][2]]
        assert found[row].as_py() == past[-length:]
        assert counts[row] == len(past)


@given(
    st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=40),
    st.integers(1, 4),
    st.integers(1, 15),
)
def test_a_stream_has_the_history_of_the_whole(
    rows: list[tuple[int, bool]], length: int, batch: int
) -> None:
    users, kept = (np.array(column) for column in zip(*rows, strict=True))
    times, values = np.arange(len(rows), dtype=float), pa.array(range(len(rows)))
    history, lists = RecentHistory(length), []
    for start in range(0, len(rows), batch):
        part = slice(start, start + batch)
        lists += history.add(users[part], times[part], values[part], kept[part]).to_pylist()
    assert lists == recent_values(users, times, values, kept, length).to_pylist()


@pytest.mark.parametrize("given_path", ["ml-1m.zip", "."])
def test_the_zip_file_gives_the_same(folder: Path, given_path: str) -> None:
    expected = read(folder)
    with zipfile.ZipFile(folder.parent / "ml-1m.zip", "w") as archive:
        for name in FILES:
            archive.write(folder / name, f"ml-1m/{name}")
            (folder / name).unlink()
    pd.testing.assert_frame_equal(read(folder.parent / given_path), expected)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named_with_the_layout(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ValueError, match=rf"{name}.*expected ml-1m.zip or its folder ml-1m"):
        read(folder)


def test_a_damaged_zip_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ml-1m.zip"
    path.write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(ValueError, match=r"ml-1m.zip cannot be read"):
        read(path)


@pytest.mark.parametrize("line", ["1::10::5", "1::10::five::500", "1::10::5::500::1"])
def test_a_bad_row_is_named_or_set_aside(folder: Path, line: str) -> None:
    write(folder, "ratings.dat", (*RATINGS[:2], line, *RATINGS[2:]))
    with pytest.raises(ValueError, match=r"ratings.dat, row 3: "):
        read(folder)
    bad_rows = BadRows("quarantine")
    assert len(read(folder, bad_rows)) == len(RATINGS)
    assert bad_rows.count == 1


@pytest.mark.skipif("DROPDRIFT_DATASETS" not in os.environ, reason="DROPDRIFT_DATASETS is not set")
def test_real_ratings() -> None:
    rows = read(Path(os.environ["DROPDRIFT_DATASETS"]) / "ml-1m.zip")
    assert len(rows) == 1_000_209
    assert rows["user_id"].nunique() == 6_040
    assert rows["movie_id"].nunique() == 3_706
    assert rows["liked"].mean() == pytest.approx(0.5752, abs=1e-4)
    assert rows["timestamp"].is_monotonic_increasing
    described = rows[["gender", "age", "occupation", "zip_area", "release_year", "genres"]]
    assert not described.isna().any(axis=None)
