"""h_l: what of the history is like the session (T2Diff, section 4.3, eqs. 20 and 21).

    a_j = softmax over j of v . act(W [x_j, x_j - h_s, x_j * h_s, h_s] + b)

With W = [W1 W2 W3 W4] cut into four, the hidden layer is A x_j + c with
A = W1 + W2 + W3 diag(h_s) and c = (W4 - W2) h_s + b: nothing four times as wide is ever made, and
all positions share one matrix product with the sequence. Eq. 20 divides by the plain sum, which
may be zero or negative; the authors' published code has the softmax, and so has this one.

Legend: B rows, L positions, Q of them that ask, H hidden units, d width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dropdrift.models.matching.windows import lags
from dropdrift.models.t2diff.band_scores import band_scores
from dropdrift.models.t2diff.config import SessionConfig
from dropdrift.models.t2diff.session import masked_softmax

# Powers of two of a time between two interactions, any 64-bit number.
LAG_BUCKETS = 64


class TargetAttention(nn.Module):
    """Attention to the items before the session, guided by h_s.

    Args:
        config: see ``SessionConfig``.
        width: d.
        window: newest positions that the history and the session share.
    """

    def __init__(self, config: SessionConfig, width: int, window: int) -> None:
        super().__init__()
        hidden = config.attention_hidden
        self.width, self.window = width, window
        self.weight = nn.Parameter(torch.empty(hidden, 4 * width))
        self.bias = nn.Parameter(torch.zeros(hidden))
        self.out = nn.Parameter(torch.empty(hidden))
        nn.init.uniform_(self.weight, -((4 * width) ** -0.5), (4 * width) ** -0.5)
        nn.init.uniform_(self.out, -(hidden**-0.5), hidden**-0.5)
        self.recency = nn.Parameter(torch.zeros(window)) if config.recency_bias else None
        self.time_lag = nn.Parameter(torch.zeros(LAG_BUCKETS)) if config.time_lag else None

    def forward(
        self,
        x: Tensor,
        present: Tensor,
        times: Tensor,
        session: Tensor,
        lengths: Tensor,
        last_only: bool,
    ) -> Tensor:
        """h_l [B, Q, d]; zeros where there is no history.

        Args:
            x: [B, L, d].
            present: bool [B, L].
            times: int64 [B, L].
            session: h_s [B, Q, d].
            lengths: int64 [B, Q], positions of each session.
            last_only: only for the last position.
        """
        if last_only:
            x, present, times = (t[:, -self.window :] for t in (x, present, times))
        lag = lags(x.shape[1], last_only, x.device)
        scores = self.scores(x, session)
        if self.recency is not None:
            scores = scores + self.recency[lag.clamp(0, self.window - 1)]
        if self.time_lag is not None:
            asking = times[:, -1:] if last_only else times
            scores = scores + self.time_lag[lag_buckets(asking.unsqueeze(2) - times.unsqueeze(1))]
        history = (lag >= lengths.unsqueeze(2)) & (lag < self.window) & present.unsqueeze(1)
        return masked_softmax(scores, history) @ x

    def scores(self, x: Tensor, session: Tensor) -> Tensor:
        """What is normalised, [B, Q, L]: each asking position's score of the items it may see."""
        plain, difference, product, guide = self.weight.chunk(4, dim=1)
        offset = F.linear(session, guide - difference, self.bias)
        return band_scores(x, session, plain + difference, product, offset, self.out, self.window)


def lag_buckets(lags_in_time: Tensor) -> Tensor:
    """0 for a lag of 0, else 1 + floor(log2 |lag|), at most 63; int64."""
    exponent = torch.frexp(lags_in_time.abs().double()).exponent
    return exponent.long().clamp(0, LAG_BUCKETS - 1)
