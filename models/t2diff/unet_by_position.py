"""The U-Net of ``unet`` for serving on a CPU: the same numbers from another layout.

Tensors are [n, c, R], rows innermost: what is done to a number is done to R adjacent ones, and the
three positions of a convolution are one block of memory, so that its product needs no copy of them.
With few channels, where copies and norms take most of the time, it is more than twice as fast.

Legend: R rows, n items of a window, d width, c channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# With fewer rows than this the other layout is quicker.
LEAST_ROWS = 16


def is_quicker(items: Tensor) -> bool:
    """Whether this layout is for these rows, [R, n, d]."""
    plain = items.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
    return plain and items.shape[0] >= LEAST_ROWS


def by_position(items: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """Items [n, d, R] and where there is one [n, 1, R], from [R, n, d] and bool [R, n]."""
    there = present.T.unsqueeze(1).to(items.dtype).contiguous()
    return items.permute(1, 2, 0) * there, there


def enter(noisy: Tensor, waves: Tensor, items: Tensor, there: Tensor, extension: int) -> Tensor:
    """The first convolution's input, mirrored to the left by ``extension`` positions.

    Args:
        noisy: z_t, [R, n, d].
        waves: the step's embedding, scaled, [2d].
        items: [n, d, R], zeros where there is none.
        there: [n, 1, R].
        extension: positions.
    """
    n, width, rows = items.shape
    padded = items.new_empty(n + extension + 2, 2 * width, rows)
    inner = padded[1 + extension : -1]
    inner[:, :width] = noisy.permute(1, 2, 0)
    inner[:, width:] = items
    inner += waves[:, None]
    inner *= there
    for position in range(extension):
        padded[1 + position] = inner[extension - position]
    return padded


def convolve(padded: Tensor, weight: nn.Linear, norm: nn.LayerNorm) -> Tensor:
    """[n, out, R] from [n + 2, into, R], whose first and last position are written here."""
    n, into, rows = padded.shape[0] - 2, padded.shape[1], padded.shape[2]
    mirror = min(1, n - 1)
    padded[0], padded[n + 1] = padded[1 + mirror], padded[n - mirror]
    neighbours = padded.as_strided((n, 3 * into, rows), (into * rows, rows, 1))
    hidden = F.silu(linear(neighbours, weight), inplace=True)
    hidden -= hidden.mean(1, keepdim=True)
    hidden *= torch.rsqrt(hidden.square().mean(1, keepdim=True) + norm.eps)
    return torch.addcmul(norm.bias[:, None], hidden, norm.weight[:, None])


def linear(hidden: Tensor, weight: nn.Linear) -> Tensor:
    """[n, out, R] from [n, into, R]."""
    matrix = weight.weight.expand(hidden.shape[0], -1, -1)
    return torch.baddbmm(weight.bias[:, None], matrix, hidden)


def halved(hidden: Tensor) -> Tensor:
    """The larger of each two positions, with room at both ends: [n, c, R] to [n/2 + 2, c, R]."""
    n, channels, rows = hidden.shape
    padded = hidden.new_empty(n // 2 + 2, channels, rows)
    padded[1:-1] = torch.maximum(hidden[0::2], hidden[1::2])
    return padded


def joined(skipped: Tensor, low: Tensor) -> Tensor:
    """[2n + 2, 2c, R], with room at both ends: [2n, c, R], and each position of [n, c, R] twice."""
    positions, channels, rows = skipped.shape
    padded = low.new_empty(positions + 2, 2 * channels, rows)
    padded[1:-1, :channels] = skipped
    padded[1:-1:2, channels:] = low
    padded[2:-1:2, channels:] = low
    return padded
