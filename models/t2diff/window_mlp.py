"""An estimator of the newest drift alone, cheap enough to be trained at every position.

Legend: R rows, n items of a window, d width, h hidden units.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dropdrift.models.t2diff.diffusion import ServingStep
from dropdrift.models.t2diff.step_embedding import step_waves, wave_frequencies

WAVES = 16


class WindowMLP(nn.Module):
    """z_0_hat [R, 1, d] of the newest position, from its z_t, the window's items and the step t.

    The window's items, each position with a matrix of its own, and z_t are added in h hidden
    units. A residual block follows, whose layer norm the step scales and shifts (AdaLN: Peebles
    and Xie, ICCV 2023). The linear map at the end begins at zero.

    Args:
        width: d.
        window: n.
        hidden_width: h.
    """

    entries = 1
    serving_rows = 512
    frequencies: Tensor

    def __init__(self, width: int, window: int, hidden_width: int) -> None:
        super().__init__()
        self.noisy = nn.Linear(width, hidden_width, bias=False)
        self.items = nn.Linear(window * width, hidden_width)
        self.block = Block(hidden_width)
        self.register_buffer("frequencies", wave_frequencies(WAVES), persistent=False)
        self.norm = nn.LayerNorm(hidden_width)
        self.output = nn.Linear(hidden_width, width)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, noisy: Tensor, step: Tensor, items: Tensor, present: Tensor) -> Tensor:
        """z_0_hat [R, 1, d]; see ``Estimator``. Items that are zero tell all of ``present``."""
        del present
        return self._estimate(noisy, step, self.items(items.flatten(1)))

    def serving(self, items: Tensor, present: Tensor) -> tuple[ServingStep, tuple[Tensor, ...]]:
        """A step of the reverse process, and the items' part of its hidden units [R, h].

        That part is nearly all of the work and the same at every step.
        """
        del present
        return self.step_of_encoded, (self.items(items.flatten(1)),)

    def step_of_encoded(self, noisy: Tensor, step: Tensor, encoded: Tensor) -> Tensor:
        """``forward`` from what the items come to [R, h], for rows that are all at one step."""
        return self._estimate(noisy, step[:1], encoded)

    def _estimate(self, noisy: Tensor, step: Tensor, encoded: Tensor) -> Tensor:
        hidden = self.noisy(noisy[:, -1]) + encoded
        hidden = self.block(hidden, step_waves(step, self.frequencies).to(hidden.dtype))
        return self.output(F.silu(self.norm(hidden))).unsqueeze(1)


class Block(nn.Module):
    """hidden + W swish(LN(hidden) * (1 + scale(t)) + shift(t))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = nn.Linear(WAVES, 2 * width)
        self.linear = nn.Linear(width, width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, hidden: Tensor, waves: Tensor) -> Tensor:
        """[R, h] to [R, h]."""
        scale, shift = self.modulation(waves).chunk(2, dim=1)
        return hidden + self.linear(F.silu(torch.addcmul(shift, self.norm(hidden), 1 + scale)))
