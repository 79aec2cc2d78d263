"""Fields of the synthetic set that describe the song and its artist.

Redundant by design: every statistic comes in three windows, the style as the numbers of an audio
model and as three clusterings, the artist's standing in five ways.
"""

from __future__ import annotations

from collections.abc import Iterator

from dropdrift.data import counter
from dropdrift.data.counter import Ints
from dropdrift.data.synthetic.lists import Tags
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
from dropdrift.data.synthetic.world import (
    GENRES,
    MOOD,
    SONGS_PER_ARTIST,
    STYLE,
    Impressions,
    World,
)

STATISTICS: dict[str, dict[str, float]] = {
    "plays": {"popularity": 1},
    "listeners": {"popularity": 0.9, "fame": 0.3},
    "finish_rate": {"quality": 0.8, "popularity": 0.3},
    "skip_rate": {"quality": -0.8, "era": 0.3},
    "collect_rate": {"quality": 1},
    "like_rate": {"quality": 0.9, "fame": 0.3},
    "share_rate": {"quality": 0.6, "popularity": 0.5},
    "comment_rate": {"fame": 0.7, "popularity": 0.5},
    "search_rate": {"fame": 0.7, "popularity": 0.6},
}
NOISE_OF_WINDOW = {"1d": 0.8, "7d": 0.6, "30d": 0.45}
LABELS_OF_ARTISTS = 60


def song_views() -> Iterator[View]:
    """All of them."""
    yield from _catalogue()
    yield from _metadata()
    yield from _audio()
    yield from statistics("song statistics", "song day", STATISTICS, NOISE_OF_WINDOW)
    yield from _artist()


def _catalogue() -> Iterator[View]:
    block = "catalogue"
    yield Identifier("song_id", block, "song", lambda _, rows: rows.song)
    yield Identifier("artist_id", block, "song", lambda _, rows: rows.artist)
    yield Identifier("album_id", block, "song", _album)
    yield Quantity("days_since_upload", block, "song", lambda _, rows: rows.song_age)
    yield Known("is_fresh", block, "song", lambda _, rows: (rows.song_age < 7).astype(int), 2)


def _metadata() -> Iterator[View]:
    block = "metadata"
    yield Known("genre", block, "song", lambda _, rows: rows.genre, len(GENRES), 0.05, GENRES)
    yield Cluster("subgenre", block, "song", STYLE, 0.4, 64)
    yield Cluster("mood", block, "song", MOOD, 0.5, 10)
    yield Cluster("song_language", block, "song", STYLE, 1.5, 6)
    yield Cluster("lyrics_topic", block, "song", STYLE, 1.0, 20)
    yield Cluster("main_instrument", block, "song", STYLE, 0.8, 12)
    yield Cluster("vocal_type", block, "song", STYLE, 1.2, 5)
    yield Level("release_era", block, "song", {"era": 1}, 0.2, 7)
    yield Number("release_year", block, "song", {"era": 1}, 0.1)
    yield Level("version", block, "song", {"fame": 0.4}, 0.9, 5)
    yield Level("is_explicit", block, "song", {"mood_0": 1}, 0.8, 2)
    yield Level("licence", block, "song", {}, 1.0, 4)
    yield Tags("style_tags", block, "song", STYLE, 0.5, 60, 5)
    yield Tags("mood_tags", block, "song", MOOD, 0.6, 30, 4)


def _audio() -> Iterator[View]:
    block = "audio"
    for index, factor in enumerate(STYLE):
        yield Number(f"audio_embedding_{index}", block, "song", {factor: 1}, 0.5)
    yield Number("energy", block, "song", {"mood_0": 1}, 0.4, "share")
    yield Number("valence", block, "song", {"mood_1": 1}, 0.4, "share")
    yield Number("acousticness", block, "song", {"mood_2": 1}, 0.4, "share")
    yield Number("calmness", block, "song", {"mood_3": 1}, 0.4, "share")
    yield Number("danceability", block, "song", {"mood_0": 0.7, "mood_1": 0.5}, 0.5, "share")
    yield Number("tempo", block, "song", {"mood_0": 0.8, "style_0": 0.4}, 0.5)
    yield Number("loudness", block, "song", {"mood_0": 0.7, "mood_2": -0.6}, 0.5)
    yield Number("speechiness", block, "song", {"style_1": 0.7, "style_2": -0.5}, 0.6, "share")
    yield Number("instrumentalness", block, "song", {"style_3": 0.7, "mood_2": 0.4}, 0.6, "share")
    yield Number("brightness", block, "song", {"style_4": 0.6, "mood_1": 0.6}, 0.6)
    yield Number("roughness", block, "song", {"style_5": 0.6, "mood_3": -0.6}, 0.6)
    yield Number("duration_seconds", block, "song", {"era": 0.5, "style_6": 0.5}, 0.8)
    yield Level("musical_key", block, "song", {}, 1.0, 12)
    yield Level("time_signature", block, "song", {}, 1.0, 3)
    yield Cluster("audio_cluster_small", block, "song", STYLE, 0.5, 16)
    yield Cluster("audio_cluster_large", block, "song", STYLE, 0.5, 128)


def _artist() -> Iterator[View]:
    block = "artist"
    yield Number("artist_fans", block, "artist", {"fame": 1}, 0.3, "count")
    yield Number("artist_plays", block, "artist", {"fame": 1}, 0.4, "count")
    yield Number("artist_collect_rate", block, "artist", {"fame": 1}, 0.5, "share")
    yield Level("artist_tier", block, "artist", {"fame": 1}, 0.4, 6)
    yield Number("artist_searches", block, "artist", {"fame": 1}, 0.6, "count")
    yield Known(
        "artist_genre", block, "artist", lambda _, rows: rows.genre, len(GENRES), 0.1, GENRES
    )
    yield Level("artist_region", block, "artist", {}, 1.0, 8)
    yield Level("artist_type", block, "artist", {}, 1.0, 4)
    yield Known("record_label", block, "artist", _record_label, LABELS_OF_ARTISTS)


def _album(_: World, rows: Impressions) -> Ints:
    """Two albums an artist."""
    return 2 * rows.artist + rows.song % SONGS_PER_ARTIST % 2


def _record_label(world: World, rows: Impressions) -> Ints:
    return counter.integers(world.keys("record label", rows.artist), LABELS_OF_ARTISTS)
