import dataclasses
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from dropdrift.data.preparing.prepare import prepare
from dropdrift.data.quarantine import BadRows
from dropdrift.data.source import TimeSplit
from dropdrift.data.synthetic import SyntheticSource
from dropdrift.data.synthetic.world import scrambled

SOURCE = SyntheticSource(rows=40_000, seed=3, users=1_000, songs=800)


@cache
def table() -> pa.Table:
    return pa.Table.from_batches(list(SOURCE.batches(BadRows())))


def numbers(name: str) -> pd.Series:
    return table()[name].to_pandas().astype(float)


def missing(name: str) -> pd.Series:
    return table()[name].to_pandas().isna()


def is_test() -> np.ndarray:
    split = SOURCE.spec.split
    assert isinstance(split, TimeSplit)
    return (numbers("time") >= split.test_from).to_numpy()


def test_over_200_fields_of_every_kind_and_group() -> None:
    fields = SOURCE.spec.fields
    names = [field.name for field in fields]
    assert len(names) == len(set(names)) == 215
    assert {field.kind for field in fields} == {"categorical", "numeric", "multi", "sequence"}
    for group in ("user", "item", "context"):
        assert sum(field.group == group for field in fields) > 20
    assert [f.name for f in fields if f.identifier] == [
        "user_id", "device_id", "song_id", "artist_id", "album_id",
    ]  # fmt: skip


def test_columns_are_the_fields_and_what_the_source_names() -> None:
    columns = {field.name for field in SOURCE.spec.fields} | {*SOURCE.spec.labels}
    assert set(table().column_names) == columns | {"listener", "time", "oracle_probability"}


@settings(max_examples=10, deadline=None)
@given(start=st.integers(0, 39_000), rows=st.integers(1, 1_000))
def test_any_range_of_rows_is_made_by_itself(start: int, rows: int) -> None:
    batch = SOURCE.batch(start, start + rows)
    assert table().slice(start, rows).equals(pa.Table.from_batches([batch]))


def test_another_seed_is_another_set() -> None:
    other = SyntheticSource(rows=40_000, seed=4, users=1_000, songs=800).batch(0, 500)
    same = [name for name in other.schema.names if other[name].equals(table()[name].chunk(0)[:500])]
    # The clock alone is the same.
    assert set(same) == {"time", "hour", "day_part", "weekday", "is_weekend"}


def test_days_are_equal_and_times_ascend() -> None:
    time = numbers("time").to_numpy()
    assert (np.diff(time) > 0).all()
    days = ((time - time[0]) // 86_400).astype(int)
    assert np.bincount(days).tolist() == [4_000] * 10
    assert is_test().sum() == 4_000


def test_labels_follow_the_known_probability() -> None:
    chance, label = numbers("oracle_probability"), numbers("collect")
    for tenth in np.array_split(np.argsort(chance.to_numpy()), 10):
        expected, spread = chance[tenth].mean(), np.sqrt((chance * (1 - chance))[tenth].sum())
        assert abs(label[tenth].sum() - expected * len(tenth)) < 4 * spread
    assert 0.1 < label.mean() < 0.3


def test_bayes_auc_is_that_of_the_true_probability() -> None:
    test = is_test()
    chance, label = numbers("oracle_probability")[test], numbers("collect")[test]
    # 4,000 rows: the standard error is about 0.007.
    assert SOURCE.bayes_auc() == pytest.approx(roc_auc_score(label, chance), abs=0.03)
    assert 0.8 < SOURCE.bayes_auc() < 0.9
    assert 0.75 < SOURCE.bayes_auc("like") < 0.9


def test_no_single_field_gives_the_label_away() -> None:
    label = numbers("collect")
    for field in SOURCE.spec.fields:
        if field.kind == "numeric":
            values = numbers(field.name)
            known = values.notna()
            auc = roc_auc_score(label[known], values[known])
            assert 0.3 < auc < 0.7, field.name


def test_fields_are_redundant() -> None:
    month, quarter = numbers("user_collect_rate_30d"), numbers("user_collect_rate_90d")
    assert month.corr(quarter, method="spearman") > 0.5
    assert numbers("age").corr(numbers("age_band"), method="spearman") > 0.7
    city, province = numbers("city"), numbers("province")
    known = city.notna() & province.notna()
    assert (city[known] // 8 == province[known]).all()


def test_some_fields_tell_nothing() -> None:
    chance = numbers("oracle_probability")
    for name in ("weather", "battery", "musical_key"):
        assert abs(numbers(name).corr(chance)) < 0.03


def test_random_rates_are_spread() -> None:
    rates = [missing(field.name).mean() for field in SOURCE.spec.fields]
    assert min(rates) == 0
    assert 0.5 < max(rates) < 0.75
    assert 0.2 < np.mean(rates) < 0.35


def test_logged_out_rows_lack_all_that_is_known_of_the_user() -> None:
    logged_out = missing("user_id")
    assert 0.05 < logged_out.mean() < 0.11
    for field in SOURCE.spec.fields:
        if field.name.startswith(("user_", "favourite_")) or field.name in ("age", "vip_level"):
            assert missing(field.name)[logged_out].all(), field.name
    assert not missing("device_id").any()
    assert not table()["listener"].null_count


def test_new_users_have_no_profile_and_fresh_songs_no_metadata() -> None:
    user_age, song_age = numbers("register_days"), numbers("days_since_upload")
    profile = missing("user_plays_30d") & missing("user_skip_rate_7d") & missing("jazz_share")
    assert profile[user_age < 3].all()
    assert not profile[user_age >= 3].all()
    metadata = missing("genre") & missing("mood") & missing("subgenre") & missing("energy")
    assert metadata[song_age < 1].all()
    assert not metadata[song_age >= 1].all()


def test_services_fail_for_whole_hours() -> None:
    rows = pd.DataFrame({"hour": numbers("time") // 3600, "gone": missing("artist_plays")})
    share = rows.groupby("hour")["gone"].mean()
    assert 0.005 < (share == 1).mean() < 0.08


def test_training_and_test_have_the_same_holes() -> None:
    test = is_test()
    for field in SOURCE.spec.fields:
        gone = missing(field.name).to_numpy()
        assert abs(gone[test].mean() - gone[~test].mean()) < 0.12, field.name


@cache
def at_rate(rate: float) -> pa.Table:
    source = dataclasses.replace(SOURCE, missing=rate)
    # Some rows of each day.
    spans = [source.batch(start, start + 400) for start in range(0, SOURCE.rows, 4_000)]
    return pa.Table.from_batches(spans)


def mean_missing(rows: pa.Table) -> float:
    fields = [field.name for field in SOURCE.spec.fields]
    return float(np.mean([rows[name].null_count / rows.num_rows for name in fields]))


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.8])
def test_any_share_of_the_values_can_be_missing(rate: float) -> None:
    assert mean_missing(at_rate(rate)) == pytest.approx(rate, abs=0.02)
    assert rate or not any(at_rate(rate)[name].null_count for name in at_rate(rate).column_names)


def test_rates_differ_in_nothing_but_what_is_missing() -> None:
    complete, half, most = at_rate(0.0), at_rate(0.5), at_rate(0.8)
    fields = {field.name for field in SOURCE.spec.fields}
    for name in complete.column_names:
        for fewer, more in ((complete, half), (half, most)):
            left, right = fewer[name].combine_chunks(), more[name].combine_chunks()
            if name not in fields:
                assert left.equals(right), name
            assert left.filter(right.is_valid()).equals(right.drop_null()), name


def test_systematic_causes_scale_too() -> None:
    rows = at_rate(0.8)
    logged_out = np.asarray(rows["user_id"].is_null())
    assert 0.4 < logged_out.mean() < 0.8
    assert np.asarray(rows["age"].is_null())[logged_out].all()
    gone = pd.DataFrame({"hour": rows["time"].to_numpy() // 3600})
    for name in ("artist_fans", "artist_plays", "artist_tier"):
        gone[name] = np.asarray(rows[name].is_null())
    down = gone.groupby("hour").mean() == 1
    assert 0.1 < down.all(axis=1).mean() < 0.6


def test_some_users_and_songs_are_new_in_the_test_part() -> None:
    test = is_test()
    for name in ("listener", "song_id"):
        ids = numbers(name).to_numpy()
        unseen = ~np.isin(ids[test], ids[~test])
        assert 0.005 < unseen.mean() < 0.1


def test_shared_tables_hold_shared_values() -> None:
    songs = {song for row in table()["recent_songs"].to_pylist() if row for song in row}
    assert songs <= set(scrambled(np.arange(SOURCE.songs)).tolist())
    tables = {field.name: field.table_name for field in SOURCE.spec.fields}
    assert tables["recent_songs"] == "song_id"
    assert tables["favourite_artists"] == tables["artist_id"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rows": 5}, "rows is 5"),
        ({"days": 2}, "days is 2, must be at least 3"),
        ({"users": 0}, "users is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"missing": 0.9}, "missing is 0.9, must be a share from 0 to 0.8"),
        ({"missing": float("nan")}, "missing is nan"),
    ],
)
def test_options_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SyntheticSource(**options)


def test_an_unknown_label_is_named() -> None:
    with pytest.raises(ValueError, match="unknown label 'share'; the data set has collect, like"):
        SOURCE.bayes_auc("share")


@pytest.mark.parametrize("missing", [None, 0.8])
def test_it_can_be_prepared(missing: float | None, tmp_path: Path) -> None:
    source = SyntheticSource(rows=2_000, users=100, songs=100, missing=missing)
    schema = prepare(source, tmp_path / "out", progress=False)
    statistics = json.loads((tmp_path / "out" / "statistics.json").read_text())
    assert statistics["bayes_optimal_auc"]["test"] == pytest.approx(source.bayes_auc(), abs=1e-9)
    example = pq.read_schema(tmp_path / "out" / "example.parquet")
    assert "oracle_probability" not in example.names
    assert schema.field_names == tuple(field.name for field in source.spec.fields)
    assert schema.labels == ("collect", "like")
