"""What is missing in the synthetic set, alike in all its parts.

At random: each field has a rate of its own, 0.6 u^2 for uniform u, 20% in the mean; identifiers and
the clock are never missing at random.

Systematically, a whole block of fields at once:

* In 8% of the users' days the user is not logged in: no identity, demographics, account, profile,
  taste and match. The device is known.
* In a user's first three days there is no profile, taste and match.
* On a song's first day there is no metadata and audio, in its first three no statistics.
* In 3% of the hours the service behind a block is down (each block of ``SERVICES`` by itself).

None of this depends on a label; being new or fresh is the only thing that it tells.

With a *scale* other than 1, each cause strikes as often as that: a chance p becomes
1 - (1 - p)^scale, and d days become scale d, rounded up or down by a chance of the user's or the
song's own. All of it is drawn from the same numbers, so that a value which is missing at one scale
is missing at every higher one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dropdrift.data import counter
from dropdrift.data.counter import Ints, Keys
from dropdrift.data.synthetic.views import Identifier, View
from dropdrift.data.synthetic.world import Impressions, World

Mask = NDArray[np.bool_]

HIGHEST_RATE = 0.6
LOGGED_OUT = 0.08
OUTAGE = 0.03
PROFILE_DAYS = 3
METADATA_DAYS = 1
STATISTICS_DAYS = 3
SERVICES = ("profile", "taste", "audio", "song statistics", "artist", "session", "match")
ALWAYS_KNOWN = ("hour", "day_part", "weekday", "is_weekend")

# At this scale some nine tenths of all values are missing, and every chance is still below 1.
HIGHEST_SCALE = 32.0
SAMPLE_ROWS = 16_384
PRECISION = 1e-4  # of the scale; of the share of missing values a third of that, and less


@dataclass(frozen=True)
class Holes:
    """What is missing in a world, at one scale.

    Attributes:
        world: whose users, songs and hours lack something.
        scale: how often each cause strikes, 1 as the module says.
    """

    world: World
    scale: float = 1.0

    def random_rate(self, view: View) -> float:
        """Share of rows in which the field is missing at random."""
        if isinstance(view, Identifier) or view.name in ALWAYS_KNOWN:
            return 0.0
        own = float(counter.uniform(self.world.keys(f"rate {view.name}"))[0])
        return self._scaled(HIGHEST_RATE * own**2)

    def at_random(self, view: View, key: Keys) -> Mask:
        """Rows in which the field itself is missing; ``key`` is that of each row [B]."""
        return counter.happens(key, self.random_rate(view))

    def blocks(self, rows: Impressions) -> dict[str, Mask]:
        """Rows in which a whole block is missing, for each block that can be [B]."""
        happens, keys = counter.happens, self.world.keys
        outage = self._scaled(OUTAGE)
        logged_out = happens(keys("logged out", rows.user, rows.day), self._scaled(LOGGED_OUT))
        user_chance = counter.uniform(keys("new user", rows.user))
        song_chance = counter.uniform(keys("fresh song", rows.song))
        no_profile = logged_out | (rows.user_age < self._days(PROFILE_DAYS, user_chance))
        untagged = rows.song_age < self._days(METADATA_DAYS, song_chance)
        blocks = {
            "identity": logged_out,
            "demographics": logged_out,
            "account": logged_out,
            "profile": no_profile,
            "taste": no_profile,
            "match": no_profile,
            "metadata": untagged,
            "audio": untagged,
            "song statistics": rows.song_age < self._days(STATISTICS_DAYS, song_chance),
        }
        hour = (rows.time // 3600).astype(np.int64)
        for service in SERVICES:
            down = happens(keys(f"{service} is down", hour), outage)
            blocks[service] = blocks.get(service, False) | down
        return blocks

    def mean_rate(self, views: Iterable[View], rows: Impressions) -> float:
        """Share of all values of ``rows`` that are missing, in expectation over the random ones."""
        gone = {block: float(mask.mean()) for block, mask in self.blocks(rows).items()}
        known = [(1 - self.random_rate(v)) * (1 - gone.get(v.block, 0.0)) for v in views]
        return 1 - float(np.mean(known))

    def _scaled(self, chance: float) -> float:
        return float(-np.expm1(self.scale * np.log1p(-chance)))

    def _days(self, days: int, chance: NDArray[np.float64]) -> Ints:
        return (self.scale * days + chance).astype(np.int64)


def holes_of_rate(world: World, views: tuple[View, ...], rate: float) -> Holes:
    """Holes of the scale at which the share ``rate`` of all values is missing.

    The share is measured on some thousand rows, evenly spaced over the log.
    """
    rows = world.impressions(np.linspace(0, world.rows - 1, SAMPLE_ROWS).astype(np.int64))
    low, high = 0.0, HIGHEST_SCALE
    while high - low > PRECISION:
        middle = (low + high) / 2
        if Holes(world, middle).mean_rate(views, rows) < rate:
            low = middle
        else:
            high = middle
    return Holes(world, low)
