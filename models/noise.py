"""Noise that belongs to a row, whoever holds it.

Each block of rows has a random generator of its own, keyed by (seed, step, purpose, block), so a
row's numbers do not depend on the batch around it or on the number of ranks. A generator lives on
the device that it fills: a CPU and a GPU draw different numbers from the same key.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

BLOCK_ROWS = 16


class RowNoise:
    """Random numbers for the rows that begin at ``first_row``.

    Args:
        seed: the run's seed, or that of an evaluation.
        step: optimizer steps taken; 0 in serving.
        first_row: position of row 0 in the global batch or the part that is evaluated.
        device: where the numbers are made.

    Example:
        >>> one = RowNoise(seed=0, step=0, first_row=0).normal(40, 3, purpose="start")
        >>> other = RowNoise(seed=0, step=0, first_row=25).normal(5, 3, purpose="start")
        >>> bool((one[25:30] == other).all())
        True
    """

    def __init__(
        self, seed: int, step: int, first_row: int, device: torch.device | None = None
    ) -> None:
        self.key = f"{seed}/{step}"
        self.first_row = first_row
        self.device = device or torch.device("cpu")

    def after(self, rows: int) -> RowNoise:
        """That of the rows that begin ``rows`` later."""
        noise = copy.copy(self)
        noise.first_row += rows
        return noise

    def normal(self, rows: int, *shape: int, purpose: str) -> Tensor:
        """Standard normal numbers, float32 [rows, *shape]; other numbers for another purpose."""
        out = torch.empty(rows, *shape, device=self.device)
        return self._fill(out, purpose, lambda part, generator: part.normal_(generator=generator))

    def uniform_steps(
        self, rows: int, shape: tuple[int, ...], steps: int, *, purpose: str
    ) -> Tensor:
        """Diffusion steps r ~ Uniform({1, ..., steps}) (eq. 12), int64 [rows, *shape]."""
        out = torch.empty(rows, *shape, dtype=torch.int64, device=self.device)
        return self._fill(
            out, purpose, lambda part, generator: part.random_(1, steps + 1, generator=generator)
        )

    def _fill(
        self, out: Tensor, purpose: str, draw: Callable[[Tensor, torch.Generator], Tensor]
    ) -> Tensor:
        for block, low, high in self._blocks(out.shape[0]):
            part = out[low - self.first_row : high - self.first_row]
            generator = self._generator(purpose, block)
            if high - low == BLOCK_ROWS:
                draw(part, generator)
                continue
            # Always a whole block: how numbers are drawn depends on how many.
            whole = draw(out.new_empty(BLOCK_ROWS, *out.shape[1:]), generator)
            part.copy_(whole[low - block * BLOCK_ROWS : high - block * BLOCK_ROWS])
        return out

    def _blocks(self, rows: int) -> Iterator[tuple[int, int, int]]:
        """Each block with the first of its rows that is wanted, and the end of them."""
        end = self.first_row + rows
        for block in range(self.first_row // BLOCK_ROWS, -(-end // BLOCK_ROWS)):
            first = block * BLOCK_ROWS
            yield block, max(first, self.first_row), min(first + BLOCK_ROWS, end)

    def _generator(self, purpose: str, block: int) -> torch.Generator:
        digest = hashlib.sha256(f"{self.key}/{purpose}/{block}".encode()).digest()
        generator = torch.Generator(device=self.device)
        return generator.manual_seed(int.from_bytes(digest[:7], "big"))
