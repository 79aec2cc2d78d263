"""SSL: a row must be found again from another view of it.

Yao et al., "Self-supervised Learning for Large-scale Item Recommendations", CIKM 2021: two views of
an example hide different features, a shared network makes vectors u and v of them, and the loss is

    L_self = -1/B sum_i log(exp(s(u_i, v_i) / tau) / sum_j exp(s(u_i, v_j) / tau)),   s the cosine,

beside the task's: L = L_main + alpha L_self. Correlated feature masking hides half of the features:
a seed, drawn at random, and those that tell most about it, so that they cannot give it away.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dropdrift.kernels.feature_dropout import mask_features, pack_words
from dropdrift.models.losses import task_loss
from dropdrift.models.methods.config import SSLConfig
from dropdrift.models.methods.method import BaseModel, Method, weighted_sum
from dropdrift.models.noise import RowNoise


class SelfSupervised(Method):
    """L = L_main(f(h(x))) + alpha L_self(p(h(x_a)), p(h(x_b))), served by f(h(x)).

    p, the projection, has two layers, as wide as z and ``projection_width``. Views are of whole
    rows, user, item and context, since h takes no less.

    What the papers leave silent, or is done in another way. Here:

    - The masked half is drawn for each row by seed, step and row. View a hides it, view b the rest.
    - Fields of the seed's group (user, item, context) count as those that tell most about it, in
      random order, before all others: the mutual information that Yao et al. measure beforehand is
      not among what a model knows of its data. With one group, the half is one at random.
    - No dropout of a bag's values: the lookup has pooled them.
    - A row's negatives are the other rows of its block: ``block_rows`` rows of the global batch,
      from a multiple of that number on. A rank has its own rows alone, so with all of them for
      negatives each number of ranks would be another loss. In blocks it is the same one where a
      rank's rows are a multiple of ``block_rows``; else blocks that a rank's border cuts are two.
    - All of it is trained, tables included: Yao et al. share them with the task.

    Args:
        groups: the group of each field.
        widths: embedding width of each field.
        z_width: Z.
        config: see ``SSLConfig``.
        seed: seed of the views.
    """

    group: Tensor

    def __init__(
        self,
        groups: tuple[str, ...],
        widths: tuple[int, ...],
        z_width: int,
        config: SSLConfig,
        seed: int,
    ) -> None:
        super().__init__()
        self.widths, self.config, self.seed = widths, config, seed
        self.projection = nn.Sequential(
            nn.Linear(z_width, z_width), nn.ReLU(), nn.Linear(z_width, config.projection_width)
        )
        names = sorted(set(groups))
        numbers = torch.tensor([names.index(group) for group in groups])
        self.register_buffer("group", numbers, persistent=False)

    def losses(
        self,
        base: BaseModel,
        embedded: Tensor,
        missing: Tensor,
        labels: Tensor,
        step: int,
        first_row: int,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """See :meth:`Method.losses`."""
        hidden = self.hidden_half(len(embedded), step, first_row)
        views = [
            mask_features(embedded, missing | pack_words(flags), self.widths)
            for flags in (hidden, ~hidden)
        ]
        clean, z_a, z_b = base.extract(torch.cat([embedded, *views])).chunk(3)
        losses = {
            "main": task_loss(base.head(clean), labels),
            "contrastive": block_contrast(
                self.projection(z_a),
                self.projection(z_b),
                self.config.temperature,
                first_row,
                self.config.block_rows,
            ),
        }
        return weighted_sum(losses, {"contrastive": self.config.weight}, clean)

    def hidden_half(self, rows: int, step: int, first_row: int) -> Tensor:
        """What view a hides of each row, bool [rows, N]: floor(N / 2) fields, group by group."""
        fields = len(self.widths)
        noise = RowNoise(self.seed, step, first_row, self.group.device)
        order = noise.normal(rows, fields, purpose="ssl")
        seed = order.argmin(dim=1)
        outside = self.group[seed].unsqueeze(1) != self.group
        # Beyond any normal number, so that the others come after the seed's group.
        order = order + 100.0 * outside
        hidden = torch.zeros(rows, fields, dtype=torch.bool, device=order.device)
        return hidden.scatter_(1, order.argsort(dim=1)[:, : fields // 2], True)


def block_contrast(
    one: Tensor, other: Tensor, temperature: float, first_row: int, block_rows: int
) -> Tensor:
    """InfoNCE within blocks of the global batch, averaged over rows.

    Args:
        one: u, [B, P].
        other: v, [B, P], of the same rows.
        temperature: tau.
        first_row: position of row 0 in the global batch.
        block_rows: rows of a block; the first one begins at row 0 of the global batch.
    """
    rows = len(one)
    lead = first_row % block_rows
    tail = -(lead + rows) % block_rows
    u, v = (
        F.pad(F.normalize(x.float(), dim=1), (0, 0, lead, tail)).view(-1, block_rows, x.shape[1])
        for x in (one, other)
    )
    real = torch.ones(rows, dtype=torch.bool, device=one.device)
    real = F.pad(real, (lead, tail)).view(-1, block_rows)
    scores = (u @ v.mT).float() / temperature
    scores = scores.masked_fill(~real.unsqueeze(1), -torch.inf)
    losses = scores.logsumexp(dim=2) - scores.diagonal(dim1=1, dim2=2)
    return losses[real].mean()
