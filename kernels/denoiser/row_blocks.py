"""The denoiser in plain torch: what a CPU runs, and a GPU where Triton's kernels cannot.

On a CPU, most of the time of the plain way goes into [B, N + Z] and [B, H] matrices that are
made, touched once and thrown away. Here [s, z] and the hidden layer exist for one block of rows at
a time, in buffers that are made once and stay in the cache; products and roundings are those of
the reference. A GPU, which would wait for many small calls, takes all rows in one block.

To split W1 and so do without [s, z] in the blocks too is as quick, but rounds W1z z by itself:
pre-activations next to zero change their sign, and relu's gradients were eight times as far from
float64 as the reference's (bf16, N = 200, Z = 128, H = 256).

Legend: B rows, N fields, W mask words, Z width of z, H hidden units; a block has R rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache

import torch
from torch import Tensor

from dropdrift.kernels.feature_dropout.words import WORD_BITS

# Rows of a block for each thread of a CPU. On one thread 2,048 and 4,096 were the quickest of 256
# to 8,192, in fp32 and bf16. With the larger, threads wait for each other half as often, which
# counts where other processes hold a core.
ROWS_OF_THREAD = 4096
_BYTE_BITS = 8

Gradients = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
_Operation = Callable[[Tensor, Tensor], Tensor]

_aten = torch.ops.aten
# act(x), written to ``out``, which may be x.
_ACTIVATE: Mapping[str, _Operation] = {
    "relu": lambda x, out: torch.clamp_min(x, 0, out=out),
    "silu": lambda x, out: _aten.silu.out(x, out=out),
    "gelu": lambda x, out: _aten.gelu.out(x, out=out),
}
# act'(x) grad, written over ``grad``.
_DIFFERENTIATE: Mapping[str, _Operation] = {
    "relu": lambda x, grad: _aten.threshold_backward.grad_input(grad, x, 0, grad_input=grad),
    "silu": lambda x, grad: _aten.silu_backward.grad_input(grad, x, grad_input=grad),
    "gelu": lambda x, grad: _aten.gelu_backward.grad_input(grad, x, grad_input=grad),
}


def denoise_forward(
    words: Tensor,
    noisy: Tensor,
    weight1: Tensor,
    bias1: Tensor,
    weight2: Tensor,
    bias2: Tensor,
    activation: str,
    save_hidden: bool,
) -> tuple[Tensor, Tensor]:
    """g([s, z_T]), and its hidden layer before the activation if the backward shall have it.

    Args:
        words: int32 [B, W], contiguous.
        noisy: z_T, [B, Z]; it and the rest are of one floating-point type, on one device.
        weight1: [H, N + Z].
        bias1: [H].
        weight2: [Z, H].
        bias2: [Z].
        activation: "relu", "silu" or "gelu".
        save_hidden: whether to return the pre-activations.

    Returns:
        [B, Z], and the pre-activations [B, H], or [0, H] without them.
    """
    rows, hidden_width = noisy.shape[0], bias1.shape[0]
    inputs = _Inputs(words, noisy, weight1.shape[1])
    out = noisy.new_empty(rows, bias2.shape[0])
    saved = noisy.new_empty(rows if save_hidden else 0, hidden_width)
    hidden = noisy.new_empty(inputs.block_rows, hidden_width)
    for block in inputs.blocks():
        active = hidden[: block.stop - block.start]
        pre = saved[block] if save_hidden else active
        torch.addmm(bias1, inputs.of(block), weight1.t(), out=pre)
        _ACTIVATE[activation](pre, active)
        torch.addmm(bias2, active, weight2.t(), out=out[block])
    return out, saved


def denoise_backward(
    grad: Tensor,
    words: Tensor,
    noisy: Tensor,
    weight1: Tensor,
    bias1: Tensor,
    weight2: Tensor,
    saved: Tensor | None,
    activation: str,
) -> Gradients:
    """Gradients of :func:`denoise_forward`: of z_T, W1, b1, W2 and b2.

    dpre = (dy W2) * act'(pre); dz = dpre W1z; dW1 = dpre^T [s, z]; dW2 = dy^T act(pre); db1 and db2
    are the sums of dpre and dy over the rows. Sums of several blocks are added up in float32, one
    block after the other.

    Args:
        grad: dy, [B, Z].
        words: as in the forward, like the next four.
        noisy: [B, Z].
        weight1: [H, N + Z].
        bias1: [H].
        weight2: [Z, H].
        saved: the pre-activations [B, H]; None: they are computed again.
        activation: "relu", "silu" or "gelu".
    """
    inputs = _Inputs(words, noisy, weight1.shape[1])
    hidden_width, summed = bias1.shape[0], noisy.dtype
    if inputs.block_rows < inputs.rows:
        summed = torch.promote_types(summed, torch.float32)
    pre_buffer = noisy.new_empty(inputs.block_rows if saved is None else 0, hidden_width)
    buffer = noisy.new_empty(inputs.block_rows, hidden_width)
    d_noisy = torch.empty_like(noisy)
    totals: list[Tensor] = []
    for block in inputs.blocks():
        x, d_out, rows = inputs.of(block), grad[block], block.stop - block.start
        if saved is None:
            pre = torch.addmm(bias1, x, weight1.t(), out=pre_buffer[:rows])
        else:
            pre = saved[block]
        d_weight2 = _product(d_out.t(), _ACTIVATE[activation](pre, buffer[:rows]))
        d_pre = torch.mm(d_out, weight2, out=buffer[:rows])
        _DIFFERENTIATE[activation](pre, d_pre)
        torch.mm(d_pre, weight1[:, inputs.fields :], out=d_noisy[block])
        parts = (_product(d_pre.t(), x), d_pre.sum(dim=0), d_weight2, d_out.sum(dim=0))
        if totals:
            for total, part in zip(totals, parts, strict=True):
                total += part
        else:
            totals = [part.to(summed) for part in parts]
    d_weight1, d_bias1, d_weight2, d_bias2 = (total.to(noisy.dtype) for total in totals)
    return d_noisy, d_weight1, d_bias1, d_weight2, d_bias2


class _Inputs:
    """[s, z_T] of any block of rows, in one buffer."""

    def __init__(self, words: Tensor, noisy: Tensor, columns: int) -> None:
        rows, width = noisy.shape
        self.rows, self.fields = rows, columns - width
        self.block_rows = rows
        if noisy.is_cpu:
            self.block_rows = min(rows, ROWS_OF_THREAD * torch.get_num_threads())
        # A table that is first made while a CUDA graph is captured lives no longer than the graph.
        make_table = _cached_bits_of_bytes if noisy.is_cpu else _bits_of_bytes
        self._table = make_table(noisy.dtype, noisy.device)
        self._bytes, self._noisy = words.view(torch.uint8).to(torch.int32), noisy
        self._bits = noisy.new_empty(self.block_rows, words.shape[1] * WORD_BITS)
        self._columns = noisy.new_empty(self.block_rows, columns)

    def blocks(self) -> Iterator[slice]:
        """The rows of each block; one that is empty if there are none."""
        for start in range(0, max(self.rows, 1), max(self.block_rows, 1)):
            yield slice(start, min(start + self.block_rows, self.rows))

    def of(self, block: slice) -> Tensor:
        """[s, z_T] of a block, [R, N + Z], until the next one is asked for."""
        rows = block.stop - block.start
        bits, columns = self._bits[:rows], self._columns[:rows]
        byte = self._bytes[block].flatten()
        torch.index_select(self._table, 0, byte, out=bits.view(-1, _BYTE_BITS))
        return torch.cat([bits[:, : self.fields], self._noisy[block]], dim=1, out=columns)


def _bits_of_bytes(dtype: torch.dtype, device: torch.device) -> Tensor:
    """[256, 8]: row b holds the bits of b, lowest first, as 0 and 1."""
    byte = torch.arange(1 << _BYTE_BITS, device=device).unsqueeze(1)
    return ((byte >> torch.arange(_BYTE_BITS, device=device)) & 1).to(dtype)


_cached_bits_of_bytes = cache(_bits_of_bytes)


def _product(left: Tensor, right: Tensor) -> Tensor:
    """``left`` ``right`` in their type, whatever autocast would have."""
    return torch.mm(left, right, out=left.new_empty(left.shape[0], right.shape[1]))
