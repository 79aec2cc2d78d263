"""All fields of the synthetic set, and the sides that they describe."""

from __future__ import annotations

from dropdrift.data.schema import FieldGroup
from dropdrift.data.source import FieldSpec
from dropdrift.data.synthetic.context_fields import context_views
from dropdrift.data.synthetic.song_fields import song_views
from dropdrift.data.synthetic.user_fields import user_views
from dropdrift.data.synthetic.views import View
from dropdrift.data.synthetic.world import World

GROUP_OF_BLOCK: dict[str, FieldGroup] = {
    "identity": "user",
    "demographics": "user",
    "device": "user",
    "account": "user",
    "profile": "user",
    "taste": "user",
    "catalogue": "item",
    "metadata": "item",
    "audio": "item",
    "song statistics": "item",
    "artist": "item",
    "request": "context",
    "session": "context",
    "match": "context",
}


def all_views(world: World) -> tuple[View, ...]:
    """Every field: the user's, the song's, the context's."""
    return (*user_views(world), *song_views(), *context_views())


def field_specs(views: tuple[View, ...], width: int) -> tuple[FieldSpec, ...]:
    """What ``prepare`` is told about the fields."""
    return tuple(view.spec(GROUP_OF_BLOCK[view.block], width) for view in views)
