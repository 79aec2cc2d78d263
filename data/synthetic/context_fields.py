"""Fields of the synthetic set that describe the request, the session and the match.

The match is what a retrieval stage knows of how the user and the song go together.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from dropdrift.data.counter import Floats, Ints
from dropdrift.data.synthetic.lists import LikedSongs
from dropdrift.data.synthetic.views import Cluster, Known, Level, Number, Score, View
from dropdrift.data.synthetic.world import (
    DAY,
    FIRST_DAY,
    GENRES,
    MOOD,
    NEED,
    SCENES,
    STYLE,
    TASTE,
    Impressions,
    World,
)


def context_views() -> Iterator[View]:
    """All of them."""
    yield from _request()
    yield from _session()
    yield from _match()


def _request() -> Iterator[View]:
    block = "request"
    yield Known("hour", block, "row", lambda _, rows: _hour(rows), 24)
    yield Known("day_part", block, "row", lambda _, rows: _hour(rows) // 6, 4)
    yield Known("weekday", block, "row", lambda _, rows: rows.day % 7, 7)
    yield Known("is_weekend", block, "row", lambda _, rows: (rows.day % 7 > 4).astype(int), 2)
    yield Known("location", block, "row", lambda _, rows: rows.scene, len(SCENES), 0.5)
    yield Cluster("network", block, "row", NEED, 1.0, 4)
    yield Level("page", block, "row", {"attention": 1}, 0.8, 6)
    yield Level("position", block, "row", {"hurry": 1}, 0.9, 10)
    yield Level("headphones", block, "row", {"hurry": 1}, 0.7, 3)
    yield Number("volume", block, "row", {"need_0": 0.7, "hurry": 0.4}, 0.6, "share")
    yield Level("screen_on", block, "row", {"attention": 1}, 0.6, 2)
    yield Level("battery", block, "row", {}, 1.0, 10)
    yield Level("weather", block, "row", {}, 1.0, 8)


def _session() -> Iterator[View]:
    block = "session"
    yield Known("scene", block, "row", lambda _, rows: rows.scene, len(SCENES), 0.25, SCENES)
    yield Number("session_depth", block, "row", {"attention": 1}, 0.6, "count")
    yield Number("session_skip_rate", block, "row", {"attention": -0.8, "hurry": 0.5}, 0.5, "share")
    yield Number("session_finish_rate", block, "row", {"attention": 1}, 0.5, "share")
    weights = {"attention": 0.7, "propensity": 0.6}
    yield Number("session_collects", block, "row", weights, 0.6, "count")
    yield Number("seconds_since_action", block, "row", {"hurry": -1}, 0.6, "count")
    for need, of in zip(NEED, ("energy", "valence", "acousticness", "calmness"), strict=True):
        yield Number(f"session_{of}", block, "row", {need: 1}, 0.5)
    recent = partial(
        LikedSongs, block=block, entity="user day", stream="recent", places=8, ordered=True
    )
    yield recent("recent_songs", about=World.song_id, table="song_id", min_count=2)
    yield recent("recent_artists", about=World.artist_id, table="artist_id", min_count=2)
    yield recent("recent_genres", about=World.genre, table="genre", names=GENRES)


def _match() -> Iterator[View]:
    block = "match"
    yield Score("retrieval_score", block, "row", _taste_meets_style, 0.85)
    yield Score("genre_affinity", block, "row", _taste_meets_genre, 0.7)
    yield Score("plays_of_artist_by_user", block, "row", _taste_meets_style, 0.9, "count")
    yield Score("scene_fit", block, "row", _need_meets_mood, 0.8)


def _hour(rows: Impressions) -> Ints:
    return ((rows.time - FIRST_DAY) % DAY // 3600).astype(np.int64)


def _taste_meets_style(_: World, rows: Impressions) -> Floats:
    return np.sum(rows.block(TASTE) * rows.block(STYLE), axis=1) / np.sqrt(len(TASTE))


def _taste_meets_genre(world: World, rows: Impressions) -> Floats:
    centre = world.genre_centres[rows.genre]
    return np.sum(rows.block(TASTE) * centre, axis=1) / np.sqrt(len(TASTE))


def _need_meets_mood(_: World, rows: Impressions) -> Floats:
    return np.sum(rows.block(NEED) * rows.block(MOOD), axis=1) / np.sqrt(len(NEED))
