"""Where the session begins, and h_s, the interest that it shows (T2Diff, section 4.3, eq. 19).

Legend: B rows, L positions of a sequence, Q of them that ask (all, or only the last), S most
items of a session, E its entries: S, and one more where x_hat completes it; d width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dropdrift.models.matching.windows import lags, windows
from dropdrift.models.t2diff.config import SessionConfig

# What hides an entry from a softmax: finite, since a row may have nothing to show.
HIDDEN = -1e9


def session_lengths(
    present: Tensor, times: Tensor, config: SessionConfig, last_only: bool
) -> Tensor:
    """How many positions up to and with the asking one are its session, int64 [B, Q].

    Split by count it is S. Split by gap the session begins after the last pause of at least
    ``gap``, but has S positions at most.

    Args:
        present: bool [B, L].
        times: int64 [B, L].
        config: how sessions are split.
        last_only: only for the last position.
    """
    at = torch.arange(present.shape[1], device=present.device)
    if config.split == "count":
        lengths = torch.full_like(at, config.length).expand(present.shape)
    else:
        paused = times.diff(dim=1) >= config.gap
        begins = F.pad(paused & present[:, :-1], (1, 0), value=True)
        start = torch.where(begins, at, 0).cummax(1).values
        lengths = (at - start + 1).clamp(max=config.length)
    return lengths[:, -1:] if last_only else lengths


class SessionEncoder(nn.Module):
    """h_s [B, Q, d]: the session, completed with x_hat, through a transformer or averaged.

    Args:
        config: see ``SessionConfig``.
        width: d.
        completed: whether there is an x_hat.
    """

    def __init__(self, config: SessionConfig, width: int, completed: bool) -> None:
        super().__init__()
        self.length = config.length
        self.layer: SessionTransformer | None = None
        if config.encoder == "transformer":
            self.layer = SessionTransformer(width, config.heads, config.feed_forward)
        self.recency: nn.Parameter | None = None
        if config.recency_bias:
            self.recency = nn.Parameter(torch.zeros(config.length + completed))

    def forward(
        self, x: Tensor, present: Tensor, lengths: Tensor, x_hat: Tensor | None, last_only: bool
    ) -> Tensor:
        """h_s; zeros where there is no item.

        Args:
            x: [B, L, d].
            present: bool [B, L].
            lengths: int64 [B, Q], see :func:`session_lengths`.
            x_hat: [B, Q, d], or None.
            last_only: only for the last position.
        """
        if self.layer is None:
            return self._mean(x, present, lengths, x_hat, last_only)
        entries = windows(present, self.length, last_only, False)
        lag = torch.arange(self.length - 1, -1, -1, device=x.device)
        entries = entries & (lag < lengths.unsqueeze(2))
        if x_hat is not None:
            entries = torch.cat([entries, entries.any(2, keepdim=True)], dim=2)
        encoded = self.layer(x, x_hat, entries, self.length, last_only)
        shares = masked_softmax(self._logits(lag, x_hat is not None), entries)
        return (shares.unsqueeze(2) @ encoded).squeeze(2)

    def _mean(
        self, x: Tensor, present: Tensor, lengths: Tensor, x_hat: Tensor | None, last_only: bool
    ) -> Tensor:
        """All windows' means by one product with the sequence."""
        if last_only:
            x, present = x[:, -self.length :], present[:, -self.length :]
        positions = x.shape[1]
        lag = lags(positions, last_only, x.device)
        entries = (lag >= 0) & (lag < lengths.unsqueeze(2)) & present.unsqueeze(1)
        if x_hat is not None:
            entries = torch.cat([entries, entries.any(2, keepdim=True)], dim=2)
        shares = masked_softmax(self._logits(lag, x_hat is not None), entries)
        mean = shares[:, :, :positions] @ x
        return mean if x_hat is None else mean + shares[:, :, positions:] * x_hat

    def _logits(self, lag: Tensor, completed: bool) -> Tensor:
        """What shares of the mean come from, [..., L] for lags [..., L], x_hat's after them."""
        if self.recency is None:
            return torch.zeros(*lag.shape[:-1], lag.shape[-1] + completed, device=lag.device)
        logits = self.recency[lag.clamp(0, self.length - 1)]
        if completed:
            last = self.recency[self.length :].expand(*lag.shape[:-1], 1)
            logits = torch.cat([logits, last], dim=-1)
        return logits


class SessionTransformer(nn.Module):
    """One post-norm layer without positions, in which no entry attends to itself.

    Queries, keys and values of an item are the same in every window that holds it, and are made
    once.
    """

    def __init__(self, width: int, heads: int, feed_forward: int) -> None:
        super().__init__()
        self.heads = heads
        self.project = nn.Linear(width, 3 * width)
        self.merge = nn.Linear(width, width)
        self.norm_attention = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, feed_forward), nn.ReLU(), nn.Linear(feed_forward, width)
        )
        self.norm_output = nn.LayerNorm(width)

    def forward(
        self, x: Tensor, x_hat: Tensor | None, entries: Tensor, length: int, last_only: bool
    ) -> Tensor:
        """[B, Q, E, d]; what stands at absent entries means nothing.

        Args:
            x: [B, L, d].
            x_hat: [B, Q, d], or None.
            entries: bool [B, Q, E], what is there.
            length: S.
            last_only: only for the last position.
        """
        inputs = self._entries(x, x_hat, length, last_only)
        rows, asking, count, width = inputs.shape
        split = (rows * asking, count, 3, self.heads, width // self.heads)
        projected = self._entries(
            self.project(x), None if x_hat is None else self.project(x_hat), length, last_only
        )
        queries, keys, values = projected.reshape(split).permute(2, 0, 3, 1, 4)
        others = ~torch.eye(count, dtype=torch.bool, device=x.device)
        visible = (entries.unsqueeze(2) & others).view(rows * asking, 1, count, count)
        scores = queries @ keys.transpose(2, 3) * (width // self.heads) ** -0.5
        attended = masked_softmax(scores, visible) @ values
        attended = self.merge(attended.transpose(1, 2).reshape(inputs.shape))
        inner = self.norm_attention(inputs + attended)
        return self.norm_output(inner + self.feed_forward(inner))

    @staticmethod
    def _entries(x: Tensor, x_hat: Tensor | None, length: int, last_only: bool) -> Tensor:
        session = windows(x, length, last_only)
        return session if x_hat is None else torch.cat([session, x_hat.unsqueeze(2)], dim=2)


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the last axis of what ``mask`` shows; zeros where it shows nothing."""
    exact = scores.to(torch.promote_types(scores.dtype, torch.float32))
    return torch.where(mask, exact, HIDDEN).softmax(-1).to(scores.dtype) * mask
