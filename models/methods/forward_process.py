"""AsymDiffRec's forward process, which its controls share (section 3.2), and whole blocks in it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from dropdrift.data.schema import Schema
from dropdrift.kernels.backend import AUTOMATIC
from dropdrift.kernels.feature_dropout import drop_words, mask_features, pack_words
from dropdrift.kernels.philox import signed_seed
from dropdrift.models.methods.config import BlockDropConfig

# Blocks are drawn by the same operator as fields, and must not be drawn alike.
_KEYS = {"user": 0x1D8E4E27C47D124F, "item": 0x2F3A1B7745D9F3B5, "identifiers": 0x3C6EF372FE94F82B}


@dataclass(frozen=True)
class Block:
    """Fields that are dropped together.

    Attributes:
        members: which of the N fields they are.
        rate: probability with which a row loses them.
        key: changes the seed, so that each block is drawn on its own.
    """

    members: tuple[bool, ...]
    rate: float
    key: int


@dataclass(frozen=True)
class ForwardProcess:
    """Sets T fields of a row to zero, T uniform on {0..N} by default; in some rows whole blocks.

    Each block is dropped with its own probability, whatever happens to the others. A row that
    loses a block loses nothing else; all others lose T fields. Independent drops almost never take
    a whole side of a row, which is what a new user or a new item lacks.

    Methods of one seed drop the same fields of the same rows: what a table shows between them is
    not the dropping.

    Attributes:
        widths: embedding width of each of the N fields.
        seed: of the masks.
        max_drop_rate: largest share of the fields dropped, in expectation.
        drop_rate: a fixed share instead, in expectation.
        blocks: what can be dropped as a whole, see :func:`blocks_of`.
        backend: of the operators, see ``kernels.feature_dropout``.
    """

    widths: tuple[int, ...]
    seed: int
    max_drop_rate: float
    drop_rate: float | None = None
    blocks: tuple[Block, ...] = ()
    backend: str = AUTOMATIC

    def drop(
        self, embedded: Tensor, missing: Tensor, step: int, first_row: int
    ) -> tuple[Tensor, Tensor]:
        """x_T, [B, D], and the fields that it lacks, int32 [B, W].

        Args:
            embedded: x, [B, D].
            missing: int32 [B, W], naturally missing fields.
            step: optimizer steps taken before this batch.
            first_row: position of row 0 in the global batch.
        """
        words = self._draw(self.seed, missing, len(self.widths), step, first_row, self.drop_rate)
        if self.blocks:
            words = self._with_blocks(words, missing, step, first_row)
        return mask_features(embedded, words, self.widths, backend=self.backend), words

    def _with_blocks(self, words: Tensor, missing: Tensor, step: int, first_row: int) -> Tensor:
        """``words``, but those of the lost blocks alone in the rows that lose any."""
        nothing = missing.new_zeros(len(missing), 1)
        without_blocks, lost_any = missing, nothing
        for block in self.blocks:
            seed = signed_seed(self.seed) ^ block.key
            lost = self._draw(seed, nothing, 1, step, first_row, block.rate)
            members = _packed(block.members, missing.device)
            without_blocks = without_blocks | members * lost
            lost_any = lost_any | lost
        return torch.where(lost_any == 1, without_blocks, words)

    def _draw(
        self, seed: int, missing: Tensor, fields: int, step: int, first_row: int, rate: float | None
    ) -> Tensor:
        return drop_words(
            missing,
            fields,
            seed=seed,
            step=step,
            first_row=first_row,
            max_rate=self.max_drop_rate,
            rate=rate,
            backend=self.backend,
        )


@lru_cache(maxsize=64)  # else each batch would copy it to the GPU
def _packed(members: tuple[bool, ...], device: torch.device) -> Tensor:
    """int32 [1, W]."""
    return pack_words(torch.tensor([members], device=device))


def blocks_of(schema: Schema, rates: BlockDropConfig) -> tuple[Block, ...]:
    """All user fields, all item fields and all identifiers, those that have a rate.

    A block that would be no field, or all of them, is left out. Context is no block: every request
    has it.
    """
    fields = schema.fields
    members = {
        "user": tuple(field.group == "user" for field in fields),
        "item": tuple(field.group == "item" for field in fields),
        "identifiers": tuple(field.identifier for field in fields),
    }
    return tuple(
        Block(flags, getattr(rates, name), _KEYS[name])
        for name, flags in members.items()
        if getattr(rates, name) and any(flags) and not all(flags)
    )
