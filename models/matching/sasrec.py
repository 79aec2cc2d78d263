"""SASRec (Kang and McAuley, "Self-attentive sequential recommendation", ICDM 2018).

Legend: B rows, L positions, Q of them that ask (all, or only the last), K items, d width of an
item's embedding, o width of the vectors that are multiplied.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dropdrift.data.batch import SequenceBatch
from dropdrift.models.dropout import KeyedDropout
from dropdrift.models.matching.config import SASRecConfig
from dropdrift.models.matching.gather import gather_items

# Initial values of the positions, of the order of an item's.
POSITION_STD = 0.02


class SASRec(nn.Module):
    """A causal transformer over the items.

    Positions are counted from the newest item, so that the window of a user to be served looks
    like the end of a stretch in training.

    Args:
        config: see ``SASRecConfig``.
        width: d.
        output_width: o; a linear map leads there where it is not d.
        item_dropout: share of the items' numbers dropped in training; the larger of it and
            ``config.dropout`` counts.
        seed: the run's, for dropout.

    Raises:
        ValueError: the heads do not divide the width.
    """

    def __init__(
        self, config: SASRecConfig, width: int, output_width: int, item_dropout: float, seed: int
    ) -> None:
        super().__init__()
        if width % config.heads:
            raise ValueError(
                f"model.sasrec.heads is {config.heads}, which does not divide model.item.width, "
                f"{width}"
            )
        self.positions = nn.Parameter(torch.randn(config.max_positions, width) * POSITION_STD)
        self.drop_items = KeyedDropout(max(item_dropout, config.dropout), seed, "items")
        self.blocks = nn.ModuleList(
            Block(config, width, seed, f"block {block}") for block in range(config.blocks)
        )
        # Blocks that norm their inputs leave their sum without one.
        self.norm = nn.LayerNorm(width) if config.norm == "pre" else nn.Identity()
        self.project: nn.Module = nn.Identity()
        if output_width != width:
            self.project = nn.Linear(width, output_width)

    def forward(
        self, x: Tensor, batch: SequenceBatch, last_only: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """User vectors [B, Q, o], and no loss to add.

        Args:
            x: [K, d], the embeddings of the batch's catalogue.
            batch: items.
            last_only: only for the last position.
        """
        sequence, present = gather_items(x, batch.items)
        length = sequence.shape[1]
        sequence = sequence + self.positions[:length].flip(0)
        sequence = self.drop_items(sequence, batch.step, batch.first_row)
        causal = torch.ones(length, length, dtype=torch.bool, device=x.device).tril()
        # An absent position sees itself, so that its softmax is defined; nobody sees it.
        itself = torch.eye(length, dtype=torch.bool, device=x.device)
        visible = (causal & present.unsqueeze(1) | itself).unsqueeze(1)
        for block in self.blocks:
            sequence = block(sequence, visible, batch.step, batch.first_row)
        if last_only:
            sequence = sequence[:, -1:]
        return self.project(self.norm(sequence)), {}

    def serve(self, x: Tensor, batch: SequenceBatch, noise_seed: int) -> Tensor:  # noqa: ARG002
        """[B, o] at the last position; there is no noise."""
        return self(x, batch, True)[0].squeeze(1)


class Block(nn.Module):
    """Self-attention, then a feed-forward network, each added to its input.

    Its layer norm comes before (x + f(norm(x))) or after (norm(x + f(x))).
    """

    def __init__(self, config: SASRecConfig, width: int, seed: int, name: str) -> None:
        super().__init__()
        hidden = config.feed_forward or width
        self.heads, self.pre_norm = config.heads, config.norm == "pre"
        self.norm_attention = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.merge = nn.Linear(width, width)
        self.norm_feed_forward = nn.LayerNorm(width)
        self.widen = nn.Linear(width, hidden)
        self.narrow = nn.Linear(hidden, width)
        self.drop_attention = KeyedDropout(config.dropout, seed, f"{name} attention")
        self.drop_feed_forward = KeyedDropout(config.dropout, seed, f"{name} feed-forward")

    def forward(self, x: Tensor, visible: Tensor, step: int, first_row: int) -> Tensor:
        """[B, L, d] to the same; ``visible`` is bool [B, 1, L, L]."""
        before = self.norm_attention(x) if self.pre_norm else x
        x = x + self.drop_attention(self._attend(before, visible), step, first_row)
        x = x if self.pre_norm else self.norm_attention(x)
        before = self.norm_feed_forward(x) if self.pre_norm else x
        inner = self.narrow(F.gelu(self.widen(before)))
        x = x + self.drop_feed_forward(inner, step, first_row)
        return x if self.pre_norm else self.norm_feed_forward(x)

    def _attend(self, x: Tensor, visible: Tensor) -> Tensor:
        rows, length, width = x.shape
        split = (rows, length, 3, self.heads, width // self.heads)
        queries, keys, values = self.qkv(x).view(split).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(queries, keys, values, attn_mask=visible)
        return self.merge(attended.transpose(1, 2).reshape(x.shape))
