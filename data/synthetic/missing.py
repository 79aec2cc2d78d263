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
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dropdrift.data import counter
from dropdrift.data.counter import Keys
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


def random_rate(world: World, view: View) -> float:
    """Share of rows in which the field is missing at random."""
    if isinstance(view, Identifier) or view.name in ALWAYS_KNOWN:
        return 0.0
    return HIGHEST_RATE * float(counter.uniform(world.keys(f"rate {view.name}"))[0]) ** 2


def missing_at_random(world: World, view: View, key: Keys) -> Mask:
    """Rows in which the field itself is missing; ``key`` is that of each row [B]."""
    return counter.happens(key, random_rate(world, view))


def missing_blocks(world: World, rows: Impressions) -> dict[str, Mask]:
    """Rows in which a whole block is missing, for each block that can be [B]."""
    logged_out = counter.happens(world.keys("logged out", rows.user, rows.day), LOGGED_OUT)
    no_profile = logged_out | (rows.user_age < PROFILE_DAYS)
    untagged = rows.song_age < METADATA_DAYS
    blocks = {
        "identity": logged_out,
        "demographics": logged_out,
        "account": logged_out,
        "profile": no_profile,
        "taste": no_profile,
        "match": no_profile,
        "metadata": untagged,
        "audio": untagged,
        "song statistics": rows.song_age < STATISTICS_DAYS,
    }
    hour = (rows.time // 3600).astype(np.int64)
    for service in SERVICES:
        down = counter.happens(world.keys(f"{service} is down", hour), OUTAGE)
        blocks[service] = blocks.get(service, False) | down
    return blocks
