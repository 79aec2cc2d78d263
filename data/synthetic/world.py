"""The world behind the synthetic set: who meets which song when, and how likely a collect is.

What a row's probability depends on are *factors*: numbers of roughly zero mean and unit variance
that belong to its user, its song or its session. A collect follows::

    score = 0.8 propensity + 0.8 quality + 1.2 <taste, style> / sqrt(8)
            + 0.6 <need, mood> / 2 - 0.4 exploration * popularity + 0.4 attention
    logit p(collect) = score - 2.2
    logit p(like) = 0.7 score + 0.5 quality - 0.4 hurry - 2.8

and the two labels are independent given the factors. A user's taste is the centre of one of 12
segments plus the user's own; a song's style is the centre of one of 16 genres, plus its artist's,
plus its own. The other factors (age, spending, night, fame, era) matter only as far as they go
with these.

Users and songs arrive in the order of their index: 60% are there on the first day, the others
arrive evenly over the days after it. The earlier ones are met more often: the index is n x^1.5 for
users and n x^2 for songs, with uniform x, where n of them have arrived. Factors never change and no
number depends on another row's label.

Shapes: B rows, F factors.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dropdrift.data import counter
from dropdrift.data.counter import Floats, Ints, Keys

FIRST_DAY = 1_725_206_400.0  # 2 September 2024, a Monday, 00:00 in China; seconds since 1970
DAY = 86_400.0
PRESENT_AT_FIRST = 0.6

GENRES = (
    "pop", "mandopop", "cantopop", "folk", "rock", "hip hop", "rnb", "electronic",
    "jazz", "classical", "country", "metal", "soundtrack", "anime", "guofeng", "children",
)  # fmt: skip
ARTISTS_PER_GENRE = (12, 10, 4, 5, 5, 5, 4, 4, 2, 2, 2, 1, 3, 2, 2, 1)  # of each 64 artists
SCENES = ("commute", "work", "exercise", "relax", "party", "sleep")
SCENE_SHARES = (  # at night from 0, in the morning from 6, from 12, in the evening from 18
    (1, 1, 1, 3, 2, 8),
    (6, 4, 3, 2, 0.5, 1),
    (2, 6, 1, 4, 1, 1),
    (4, 1, 3, 5, 3, 2),
)
HOUR_ACTIVITY = (3, 2, 1, 1, 1, 1, 2, 5, 6, 5, 4, 4, 6, 5, 4, 4, 4, 5, 6, 7, 8, 9, 8, 5)
SEGMENTS = 12
SONGS_PER_ARTIST = 8

_GENRE_OF_ARTIST = np.repeat(np.arange(len(GENRES)), ARTISTS_PER_GENRE)

TASTE = tuple(f"taste_{i}" for i in range(8))
STYLE = tuple(f"style_{i}" for i in range(8))
MOOD = tuple(f"mood_{i}" for i in range(4))
NEED = tuple(f"need_{i}" for i in range(4))
USER_TRAITS = ("propensity", "exploration", "activity", "age", "spending", "night")
SONG_TRAITS = ("quality", "popularity", "fame", "era")
SESSION_TRAITS = ("attention", "hurry")
FACTORS = (*TASTE, *USER_TRAITS, *STYLE, *MOOD, *SONG_TRAITS, *NEED, *SESSION_TRAITS)


@dataclass(frozen=True)
class Impressions:
    """Some rows of the world.

    Attributes:
        row: number of the row in the whole set [B].
        time: seconds since 1970 [B].
        day: days since the first one [B].
        user, song, artist: indices [B].
        user_age, song_age: days since the user or the song arrived [B].
        genre, segment, scene: indices [B].
        factors: all factors, in the order of ``FACTORS``, each contiguous in memory [B, F].
        shared: what several fields are made from, by name, once one of them has made it.
    """

    row: Ints
    time: NDArray[np.float64]
    day: Ints
    user: Ints
    song: Ints
    artist: Ints
    user_age: Ints
    song_age: Ints
    genre: Ints
    segment: Ints
    scene: Ints
    factors: Floats
    shared: dict[str, Ints] = field(default_factory=dict)

    def factor(self, name: str) -> Floats:
        """One factor [B]."""
        return self.factors[:, FACTORS.index(name)]

    def block(self, names: tuple[str, ...]) -> Floats:
        """Neighbouring factors [B, len(names)]."""
        start = FACTORS.index(names[0])
        return self.factors[:, start : start + len(names)]


@dataclass(frozen=True)
class World:
    """Users, songs and rows, each a function of the seed and its index.

    Attributes:
        seed: of everything random.
        rows, users, songs, days: how many there are.
    """

    seed: int
    rows: int
    users: int
    songs: int
    days: int

    def impressions(self, row: Ints) -> Impressions:
        """The rows of these numbers [B]."""
        day, time = self._clock(row)
        user_chance = counter.uniform(self.keys("user met", row))
        song_chance = counter.uniform(self.keys("song met", row))
        user = (self._arrived(self.users)[day] * user_chance**1.5).astype(np.int64)
        song = (self._arrived(self.songs)[day] * song_chance**2).astype(np.int64)
        segment = counter.integers(self.keys("segment", user), SEGMENTS)
        scene = self._scene(row, time)
        artist, genre = self.artist(song), self.genre(song)
        factors = (
            self._user_factors(user, segment),
            self._song_factors(song, artist, genre),
            self._session_factors(user, day, scene, row),
        )
        return Impressions(
            row=row,
            time=time,
            day=day,
            user=user,
            song=song,
            artist=artist,
            user_age=day - self._arrival_day("user", user, self.users),
            song_age=day - self._arrival_day("song", song, self.songs),
            genre=genre,
            segment=segment,
            scene=scene,
            factors=np.asfortranarray(np.concatenate(factors, axis=1)),
        )

    def first_row_of(self, day: int) -> int:
        """Number of the first row of ``day``."""
        return -(-day * self.rows // self.days)

    def keys(self, stream: str, *parts: NDArray[Any] | int) -> Keys:
        """Keys of the random numbers called ``stream``, one for each entity in ``parts``."""
        return counter.keys(counter.stream_key(self.seed, stream), *parts)

    def artist(self, song: Ints) -> Ints:
        """The artist of each song."""
        return song % max(1, self.songs // SONGS_PER_ARTIST)

    def genre(self, song: Ints) -> Ints:
        """The genre of each song: that of its artist."""
        return _GENRE_OF_ARTIST[self.artist(song) % len(_GENRE_OF_ARTIST)]

    def song_id(self, song: Ints) -> Ints:
        """The public number of each song."""
        return scrambled(song)

    def artist_id(self, song: Ints) -> Ints:
        """The public number of each song's artist."""
        return scrambled(self.artist(song))

    def draw_songs(self, key: Keys) -> Ints:
        """A song for each key, of those there on the first day, the popular ones more often."""
        return (self._arrived(self.songs)[0] * counter.uniform(key) ** 2).astype(np.int64)

    @cached_property
    def genre_centres(self) -> Floats:
        """The style at the heart of each genre [genres, 8]."""
        return self._constants("genre style", len(GENRES), len(STYLE))

    @cached_property
    def scene_needs(self) -> Floats:
        """What is wanted in each scene [scenes, 4]."""
        return self._constants("scene need", len(SCENES), len(NEED))

    def _constants(self, stream: str, rows: int, columns: int) -> Floats:
        return counter.normals(self.keys(stream, np.arange(rows)), columns)

    def _own(self, stream: str, entity: NDArray[Any], count: int) -> Floats:
        return counter.normals(self.keys(stream, entity), count)

    def _clock(self, row: Ints) -> tuple[Ints, NDArray[np.float64]]:
        """Day and time of each row: the same number each day, as busy as ``HOUR_ACTIVITY``."""
        day = row * self.days // self.rows
        elapsed = row * self.days / self.rows - day
        busy = np.cumsum((0, *HOUR_ACTIVITY)) / sum(HOUR_ACTIVITY)
        hour = np.interp(elapsed, busy, np.arange(25))
        return day, FIRST_DAY + DAY * day + 3600 * hour

    def _arrived(self, total: int) -> Ints:
        """How many of ``total`` have arrived by each day [days]."""
        share = np.linspace(PRESENT_AT_FIRST, 1, self.days) if self.days > 1 else np.ones(1)
        return np.ceil(total * share).astype(np.int64)

    def _arrival_day(self, kind: str, index: Ints, total: int) -> Ints:
        """The day of arrival; some day of the ten years before for those there at first."""
        day = np.searchsorted(self._arrived(total), index, side="right")
        before = 14 + counter.integers(self.keys(f"{kind} arrival", index), 3650)
        return np.where(day == 0, -before, day)

    def _scene(self, row: Ints, time: NDArray[np.float64]) -> Ints:
        quarter = ((time - FIRST_DAY) % DAY // (DAY / 4)).astype(np.int64)
        scores = np.log(np.array(SCENE_SHARES))[quarter]
        drawn = counter.gumbels(self.keys("scene", row), len(SCENES))
        return np.argmax(scores + drawn, axis=1)

    def _user_factors(self, user: Ints, segment: Ints) -> Floats:
        """[B, 14]: taste and traits, each half segment and half own."""
        width = len(TASTE) + len(USER_TRAITS)
        centres = self._constants("segment centre", SEGMENTS, width)
        own = self._own("user", user, width)
        factors = 0.7 * centres[segment] + 0.714 * own
        for trait in ("propensity", "exploration"):
            column = len(TASTE) + USER_TRAITS.index(trait)
            factors[:, column] = own[:, column]
        column = len(TASTE) + USER_TRAITS.index("activity")
        factors[:, column] = 0.8 * _rank(user, self.users) + 0.6 * own[:, column]
        return factors

    def _song_factors(self, song: Ints, artist: Ints, genre: Ints) -> Floats:
        """[B, 16]: style, mood and traits."""
        own = self._own("song", song, len(STYLE) + len(MOOD) + len(SONG_TRAITS))
        artists = self._own("artist", artist, len(STYLE) + 1)
        style, mood = own[:, : len(STYLE)], own[:, len(STYLE) : -len(SONG_TRAITS)]
        quality, popularity, fame, era = own[:, -len(SONG_TRAITS) :].T
        fame = artists[:, -1]
        return np.column_stack(
            [
                0.6 * self.genre_centres[genre] + 0.5 * artists[:, :-1] + 0.62 * style,
                0.7 * self._constants("genre mood", len(GENRES), len(MOOD))[genre] + 0.714 * mood,
                0.6 * fame + 0.8 * quality,
                0.8 * _rank(song, self.songs) + 0.6 * popularity,
                fame,
                era,
            ]
        )

    def _session_factors(self, user: Ints, day: Ints, scene: Ints, row: Ints) -> Floats:
        """[B, 6]: need, attention, hurry; a session is a user's day."""
        session = counter.normals(self.keys("session", user, day), len(NEED) + 1)
        moment = counter.normals(self.keys("moment", row), 2)
        return np.column_stack(
            [
                0.8 * self.scene_needs[scene] + 0.6 * session[:, :-1],
                0.7 * session[:, -1] + 0.714 * moment[:, 0],
                0.6 * self._constants("scene hurry", len(SCENES), 1)[scene, 0] + 0.8 * moment[:, 1],
            ]
        )


def scrambled(index: Ints) -> Ints:
    """A number below 2^32 for each index, different for different ones and telling nothing else."""
    return (index * 2_654_435_761 + 374_761_393) % 2**32


def _rank(index: Ints, total: int) -> Floats:
    """The index as a number of zero mean and unit variance, high for the first."""
    return (np.sqrt(3) * (1 - 2 * (index + 0.5) / total)).astype(np.float32)
