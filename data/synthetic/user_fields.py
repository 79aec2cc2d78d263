"""Fields of the synthetic set that describe the user.

Redundant by design: every statistic comes in four windows, the taste as shares of 16 genres, as
clusters and as favourites, the purse as phone, tier and income.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from dropdrift.data import counter
from dropdrift.data.counter import Ints
from dropdrift.data.synthetic.lists import LikedSongs
from dropdrift.data.synthetic.views import (
    Cluster,
    Identifier,
    Known,
    Level,
    Number,
    Quantity,
    View,
    statistics,
)
from dropdrift.data.synthetic.world import GENRES, SEGMENTS, TASTE, USER_TRAITS, Impressions, World

STATISTICS: dict[str, dict[str, float]] = {
    "plays": {"activity": 1},
    "sessions": {"activity": 0.9, "night": 0.3},
    "minutes": {"activity": 0.9, "age": -0.3},
    "finish_rate": {"propensity": 0.6, "exploration": -0.5},
    "skip_rate": {"propensity": -0.5, "exploration": 0.6},
    "collect_rate": {"propensity": 1},
    "like_rate": {"propensity": 0.8, "age": -0.4},
    "share_rate": {"propensity": 0.5, "spending": 0.5},
    "comment_rate": {"propensity": 0.3, "age": -0.6},
    "search_rate": {"exploration": 0.8, "activity": 0.3},
    "new_song_rate": {"exploration": 1},
    "hit_rate": {"exploration": -0.8, "age": 0.3},
    "night_rate": {"night": 1},
}
NOISE_OF_WINDOW = {"1d": 0.85, "7d": 0.65, "30d": 0.45, "90d": 0.55}
CITIES = 200
CITIES_PER_PROVINCE = 8


def user_views(world: World) -> Iterator[View]:
    """All of them."""
    yield Identifier("user_id", "identity", "user", lambda _, rows: rows.user)
    yield from _demographics()
    yield from _device()
    yield from _account()
    yield from statistics("profile", "user day", STATISTICS, NOISE_OF_WINDOW)
    yield from _taste(world)


def _demographics() -> Iterator[View]:
    block = "demographics"
    yield Level("gender", block, "user", {"taste_0": 1, "taste_1": -1}, 0.8, 2)
    yield Number("age", block, "user", {"age": 1}, 0.3)
    yield Level("age_band", block, "user", {"age": 1}, 0.3, 7)
    yield Level("student", block, "user", {"age": -1}, 0.5, 2)
    yield Level("education", block, "user", {"spending": 1, "age": 0.5}, 0.8, 5)
    yield Level("income_band", block, "user", {"spending": 1}, 0.5, 6)
    yield Level("city_tier", block, "user", {"spending": 1}, 0.7, 5)
    yield Known("city", block, "user", _city, CITIES)
    yield Known("province", block, "user", _province, CITIES // CITIES_PER_PROVINCE)
    yield Known("occupation", block, "user", lambda _, rows: rows.segment, SEGMENTS, 0.6)
    yield Cluster("language", block, "user", TASTE, 2.0, 6)
    yield Level("has_children", block, "user", {"age": 1, "spending": 0.3}, 0.7, 2)


def _device() -> Iterator[View]:
    block = "device"
    yield Identifier("device_id", block, "user day", _device_index)
    yield Cluster("phone_model", block, "user", USER_TRAITS, 1.0, 100)
    yield Cluster("phone_brand", block, "user", USER_TRAITS, 1.0, 8)
    yield Level("phone_price_band", block, "user", {"spending": 1}, 0.4, 8)
    yield Level("operating_system", block, "user", {"spending": 1}, 0.8, 2)
    yield Level("memory_size", block, "user", {"spending": 1, "age": -0.5}, 0.6, 6)
    yield Level("screen_size", block, "user", {}, 1.0, 10)
    yield Level("app_version", block, "user", {"activity": 1}, 0.9, 12)


def _account() -> Iterator[View]:
    block = "account"
    yield Quantity("register_days", block, "user", lambda _, rows: rows.user_age)
    yield Known("is_new_user", block, "user", lambda _, rows: (rows.user_age < 7).astype(int), 2)
    yield Level("signup_channel", block, "user", {"age": 1}, 0.9, 10)
    yield Level("vip_level", block, "user", {"spending": 0.8, "propensity": 0.4}, 0.5, 5)
    yield Number("vip_days", block, "user", {"spending": 0.8, "activity": 0.4}, 0.6, "count")
    yield Level("account_level", block, "user", {"activity": 1}, 0.4, 12)
    yield Number("playlists", block, "user", {"propensity": 0.7, "activity": 0.5}, 0.5, "count")
    yield Number("followers", block, "user", {"activity": 0.5}, 0.9, "count")
    yield Number("followed", block, "user", {"exploration": 0.6}, 0.8, "count")


def _taste(world: World) -> Iterator[View]:
    block = "taste"
    for genre, centre in zip(GENRES, world.genre_centres, strict=True):
        weights = {name: float(value) for name, value in zip(TASTE, centre, strict=True)}
        name = f"{genre.replace(' ', '_')}_share"
        yield Number(name, block, "user day", weights, 0.6, "share")
    yield Known("taste_segment", block, "user", lambda _, rows: rows.segment, SEGMENTS, 0.3)
    yield Cluster("taste_cluster_small", block, "user", TASTE, 0.6, 16)
    yield Cluster("taste_cluster_large", block, "user", TASTE, 0.6, 128)
    yield Cluster("lookalike_group", block, "user", TASTE, 1.0, 40)
    yield Level("mainstream_level", block, "user", {"exploration": -1}, 0.5, 8)
    yield Level("mood_preference", block, "user", {"taste_2": 1, "night": 0.4}, 0.6, 6)
    favourites = partial(LikedSongs, block=block, entity="user", stream="favourites", places=6)
    yield favourites("favourite_artists", about=World.artist_id, table="artist_id", min_count=2)
    yield favourites("favourite_genres", about=World.genre, table="genre", names=GENRES)


def _city(world: World, rows: Impressions) -> Ints:
    return counter.integers(world.keys("city", rows.user), CITIES)


def _province(world: World, rows: Impressions) -> Ints:
    return _city(world, rows) // CITIES_PER_PROVINCE


def _device_index(world: World, rows: Impressions) -> Ints:
    """A user's phone, or on some days the tablet."""
    tablet = counter.happens(world.keys("tablet", rows.user, rows.day), 0.15)
    return 2 * rows.user + tablet
