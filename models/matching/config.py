"""Options of matching models. Needs no torch, so that the command line's help is quick."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dropdrift.models.option_checks import at_least, positive, share

Combine = Literal["sum", "concat"]
ItemTowerKind = Literal["tied", "dense"]
NormPlace = Literal["pre", "post"]


@dataclass(frozen=True)
class ItemConfig:
    """How an item is embedded, and its tower.

    Attributes:
        width: Width of an item's embedding, the input of both towers.
        combine: sum: each field's embedding has that width and they are added. concat: the fields
            share the width equally, as published.
        fields: Fields of the item to use; empty: all.
        tower: tied: an item's vector is its embedding. dense: a linear map, ELU and layer norm, as
            published.
        vector_width: Width of the vectors that are multiplied (dense); 0: twice the width.
        dropout: Share of an embedding's numbers dropped in training.
    """

    width: int = 64
    combine: Combine = "sum"
    fields: tuple[str, ...] = ()
    tower: ItemTowerKind = "tied"
    vector_width: int = 0
    dropout: float = 0.0

    def __post_init__(self) -> None:
        at_least("item.width", self.width, 1)
        at_least("item.vector_width", self.vector_width, 0)
        share("item.dropout", self.dropout)

    @property
    def output_width(self) -> int:
        """Width of the vectors that are multiplied."""
        return self.width if self.tower == "tied" else self.vector_width or 2 * self.width


@dataclass(frozen=True)
class SoftmaxConfig:
    """The loss over the catalogue, L_TOWER (T2Diff, eq. 24).

    Attributes:
        memory_mb: Memory that the scores of one chunk of rows may take, in MiB. What a core's cache
            holds is quickest on a CPU; a GPU takes more.
        temperature: What scores are divided by.
        label_smoothing: Share of a target's probability that all items share.
    """

    memory_mb: int = 4
    temperature: float = 1.0
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        at_least("softmax.memory_mb", self.memory_mb, 1)
        positive("softmax.temperature", self.temperature)
        share("softmax.label_smoothing", self.label_smoothing)


@dataclass(frozen=True)
class SASRecConfig:
    """SASRec (Kang and McAuley, ICDM 2018), the baseline.

    Attributes:
        blocks: Transformer blocks.
        heads: Attention heads of a block; must divide the item's width.
        feed_forward: Units of a block's hidden layer; 0: the item's width.
        norm: Layer norm before attention and feed-forward, as published, or after them.
        dropout: Share of numbers dropped in training.
        max_positions: Positions that have an embedding; data.sequence's window and stretch may not
            exceed it.
    """

    blocks: int = 2
    heads: int = 2
    feed_forward: int = 0
    norm: NormPlace = "pre"
    dropout: float = 0.2
    max_positions: int = 200

    def __post_init__(self) -> None:
        for name in ("blocks", "heads", "max_positions"):
            at_least(f"sasrec.{name}", getattr(self, name), 1)
        at_least("sasrec.feed_forward", self.feed_forward, 0)
        share("sasrec.dropout", self.dropout)
