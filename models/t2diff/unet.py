"""1-D U-Net over the time axis, the estimator of T2Diff (eq. 15).

Legend: R rows, n items of a window, d width, c channels. Tensors are [R, n, c], channels last.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from dropdrift.models.t2diff import unet_by_position as by_position
from dropdrift.models.t2diff.diffusion import ServingStep
from dropdrift.models.t2diff.step_embedding import step_waves, wave_frequencies

# The step embedding's scale: small next to embeddings, as published.
STEP_SCALE = 0.01


class UNet(nn.Module):
    """z_0_hat [R, n, d] from concat(z_t, X) [R, n, 2d] and the step t.

    Each level has one convolution of 3 positions to d, 2d, 4d, ... channels, then swish and layer
    norm. Downwards max-pooling halves the time axis; upwards it is doubled by repetition, its
    channels are brought down to the level's by a 1x1 convolution and the level's own output is
    concatenated before another such convolution. A linear map at the end, which begins at zero (no
    drift), makes drifts of any scale possible. Edges are mirrored: in the convolutions, and at the
    beginning of the window where it is extended to a multiple of 2^(levels - 1).

    Args:
        width: d.
        window: n.
        levels: levels, the input's included.

    Attributes:
        serving_rows: rows that a CPU serves the quickest at a time, measured at widths 4 to 64.

    Raises:
        ValueError: the window cannot be halved levels - 1 times.
    """

    frequencies: Tensor

    def __init__(self, width: int, window: int, levels: int) -> None:
        super().__init__()
        if window < 2 ** (levels - 1):
            raise ValueError(
                f"a window of {window} cannot be halved {levels - 1} times: give at least "
                f"{2 ** (levels - 1)}, or fewer levels"
            )
        self.entries = window
        self.register_buffer("frequencies", wave_frequencies(2 * width), persistent=False)
        self.serving_rows = max(128, 1024 // width)
        self.extension = -window % 2 ** (levels - 1)
        channels = [width * 2**level for level in range(levels)]
        self.down = nn.ModuleList(
            Convolution(into, out)
            for into, out in zip([2 * width, *channels[:-1]], channels, strict=True)
        )
        self.shrink = nn.ModuleList(nn.Linear(2 * c, c) for c in channels[:-1])
        self.up = nn.ModuleList(Convolution(2 * c, c) for c in channels[:-1])
        self.output = nn.Linear(width, width)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, noisy: Tensor, step: Tensor, items: Tensor, present: Tensor) -> Tensor:
        """z_0_hat [R, n, d]; see ``Estimator``. Positions without an item enter as zeros."""
        hidden = torch.cat([noisy, items], dim=2)
        waves = step_waves(step, self.frequencies).to(hidden.dtype)
        hidden = hidden + STEP_SCALE * waves.unsqueeze(1)
        hidden = hidden * present.unsqueeze(2)
        if self.extension:
            hidden = torch.cat([hidden[:, 1 : self.extension + 1].flip(1), hidden], dim=1)
        skips = []
        for level, convolution in enumerate(self.down):
            if level:
                skips.append(hidden)
                hidden = _halve(hidden)
            hidden = convolution(hidden)
        for shrink, convolution in zip(reversed(self.shrink), reversed(self.up), strict=True):
            # The 1x1 convolution before the repetition: the same numbers for half the work.
            hidden = convolution(torch.cat([skips.pop(), _double(shrink(hidden))], dim=2))
        return self.output(hidden[:, self.extension :])

    def serving(self, items: Tensor, present: Tensor) -> tuple[ServingStep, tuple[Tensor, ...]]:
        """The quickest step without gradients for these rows, and what it is told beside z_t."""
        if by_position.is_quicker(items):
            return self.step_by_position, by_position.by_position(items, present)
        return self.forward, (items, present)

    def step_by_position(self, noisy: Tensor, step: Tensor, items: Tensor, there: Tensor) -> Tensor:
        """``forward`` with another layout inside, for rows that are all at one step.

        Args:
            noisy: [R, n, d].
            step: int64 [R], all the same.
            items: [n, d, R].
            there: [n, 1, R].
        """
        waves = STEP_SCALE * step_waves(step[:1], self.frequencies)[0]
        padded = by_position.enter(noisy, waves, items, there, self.extension)
        skips: list[Tensor] = []
        hidden = padded
        for level, convolution in enumerate(cast("Iterable[Convolution]", self.down)):
            if level:
                skips.append(hidden)
                padded = by_position.halved(hidden)
            hidden = by_position.convolve(padded, convolution.weight, convolution.norm)
        ups = zip(reversed(self.shrink), reversed(self.up), strict=True)
        for shrink, convolution in cast("Iterable[tuple[nn.Linear, Convolution]]", ups):
            padded = by_position.joined(skips.pop(), by_position.linear(hidden, shrink))
            hidden = by_position.convolve(padded, convolution.weight, convolution.norm)
        return by_position.linear(hidden[self.extension :], self.output).permute(2, 0, 1)


class Convolution(nn.Module):
    """A convolution of 3 positions, mirrored at the edges, swish and layer norm."""

    def __init__(self, into: int, out: int) -> None:
        super().__init__()
        self.weight = nn.Linear(3 * into, out)
        self.norm = nn.LayerNorm(out)

    def forward(self, hidden: Tensor) -> Tensor:
        """[R, n, into] to [R, n, out], as one product with the three shifted copies."""
        return self.norm(F.silu(self.weight(_neighbours(hidden))))


def _halve(hidden: Tensor) -> Tensor:
    """The larger of each two positions: [R, n, c] to [R, n/2, c]."""
    rows, n, c = hidden.shape
    return torch.maximum(*hidden.view(rows, n // 2, 2, c).unbind(2))


def _double(hidden: Tensor) -> Tensor:
    """Each position twice: [R, n, c] to [R, 2n, c]."""
    return hidden.unsqueeze(2).expand(-1, -1, 2, -1).flatten(1, 2)


def _neighbours(hidden: Tensor) -> Tensor:
    """Each position with the ones before and after it: [R, n, c] to [R, n, 3c]."""
    return _Neighbours.apply(hidden)  # type: ignore[no-untyped-call]  # torch


class _Neighbours(torch.autograd.Function):
    """One copy forward and one backward, where slices joined by cat take a dozen."""

    @staticmethod
    def forward(_ctx: FunctionCtx, hidden: Tensor) -> Tensor:
        """[R, n, c] to [R, n, 3c], mirrored at the edges."""
        rows, n, c = hidden.shape
        mirror = min(1, n - 1)
        out = hidden.new_empty(rows, n, 3 * c)
        out[:, 1:, :c] = hidden[:, :-1]
        out[:, 0, :c] = hidden[:, mirror]
        out[:, :, c : 2 * c] = hidden
        out[:, :-1, 2 * c :] = hidden[:, 1:]
        out[:, -1, 2 * c :] = hidden[:, n - 1 - mirror]
        return out

    @staticmethod
    def backward(_ctx: FunctionCtx, upstream: Tensor) -> Tensor:
        """[R, n, 3c] to [R, n, c]: the three copies added up where they came from."""
        n = upstream.shape[1]
        mirror = min(1, n - 1)
        before, here, after = upstream.chunk(3, dim=2)
        gradient = here.clone(memory_format=torch.contiguous_format)
        gradient[:, :-1] += before[:, 1:]
        gradient[:, mirror] += before[:, 0]
        gradient[:, 1:] += after[:, :-1]
        gradient[:, n - 1 - mirror] += after[:, -1]
        return gradient
