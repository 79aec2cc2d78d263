"""Which features are dropped when a model is evaluated: a complete request and damaged ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dropdrift.data.schema import FIELD_GROUPS, Schema
from dropdrift.kernels.feature_dropout import drop_words, pack_words

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True)
class Scenario:
    """What is dropped on top of what is missing anyway.

    Attributes:
        drop: ``nothing``; ``share``: each field with probability ``value``; ``group``: all fields
            of the side ``value``; ``identifiers``: all ids, as for a new user and item at once.
        value: see ``drop``.
    """

    drop: Literal["nothing", "share", "group", "identifiers"]
    value: float | str = ""


COMPLETE = Scenario("nothing")


def robustness_scenarios(schema: Schema) -> list[Scenario]:
    """All damaged requests that make sense for the fields that there are."""
    scenarios = [Scenario("share", share) for share in SHARES]
    groups = [group for group in FIELD_GROUPS if any(f.group == group for f in schema.fields)]
    if len(groups) > 1:
        scenarios += [Scenario("group", group) for group in groups]
    if any(f.identifier for f in schema.fields):
        scenarios.append(Scenario("identifiers", "identifiers"))
    return scenarios


def dropped_words(
    scenario: Scenario, schema: Schema, missing: Tensor, *, seed: int, first_row: int
) -> Tensor | None:
    """The words of what is missing or dropped, int32 [B, W]; None where nothing is dropped.

    Random drops are keyed by (seed, row of the part), so that every model and any number of ranks
    sees the same ones.

    Args:
        scenario: what is dropped.
        schema: the fields.
        missing: int32 [B, W], what is missing anyway.
        seed: seed of the random drops.
        first_row: position of row 0 in the part.
    """
    if scenario.drop == "nothing":
        return None
    if scenario.drop == "share":
        return drop_words(
            missing,
            len(schema.fields),
            seed=seed,
            step=0,
            first_row=first_row,
            rate=float(scenario.value),
        )
    if scenario.drop == "group":
        flags = [f.group == scenario.value for f in schema.fields]
    else:
        flags = [f.identifier for f in schema.fields]
    return missing | pack_words(torch.tensor([flags], device=missing.device))
