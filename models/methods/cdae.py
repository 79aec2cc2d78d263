"""CDAE: a denoising autoencoder of the embeddings.

Wu et al., "Collaborative Denoising Auto-Encoders for Top-N Recommender Systems", WSDM 2016: a
user's vector of interactions y is corrupted, y~_i = 0 with probability q and y_i / (1 - q)
otherwise, coded, z = h(W y~ + V_u + b), and decoded, y^ = f(W' z + b'), to be near y.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dropdrift.kernels.feature_dropout import mask_features
from dropdrift.models.dropout import KeyedDropout
from dropdrift.models.losses import relative_error, task_loss
from dropdrift.models.methods.config import CDAEConfig
from dropdrift.models.methods.method import BaseModel, Method, weighted_sum


class CDAE(Method):
    """L = L_main(f(h(x))) + w E(d(h(x~)), x), served by f(h(x)).

    x, the embeddings of all fields side by side, takes the place of y, and h, the base's extractor,
    that of the encoder; the user's node V_u is in it where the user is a field. d is one linear
    map, as the published decoder. E is the squared error of the fields that are there, over x's
    squared norm (``losses.relative_error``): the published losses are for numbers of size 1,
    embeddings begin a hundred times smaller.

    The paper is silent on how it made CDAE a part of a ranking model. Here:

    - The task reads the clean row, and the corrupted one goes through h beside it: what is measured
      is the decoder's loss, and not a dropout of the embeddings.
    - Single numbers are corrupted, not fields: that is AsymDiffRec's idea.
    - x is a fixed target: tables that could move it would shrink it.
    - d begins at zero, so that the loss begins at 1 and h is left alone until d knows something.

    Args:
        widths: embedding width of each field.
        z_width: Z.
        config: see ``CDAEConfig``.
        seed: seed of the corruption.
    """

    def __init__(
        self, widths: tuple[int, ...], z_width: int, config: CDAEConfig, seed: int
    ) -> None:
        super().__init__()
        self.widths, self.config = widths, config
        self.corrupt = KeyedDropout(config.corruption, seed, "cdae")
        self.decoder = nn.Linear(z_width, sum(widths))
        nn.init.zeros_(self.decoder.weight)
        nn.init.zeros_(self.decoder.bias)

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
        corrupted = self.corrupt(embedded, step, first_row)
        clean, noisy = base.extract(torch.cat([embedded, corrupted])).chunk(2)
        decoded = mask_features(self.decoder(noisy), missing, self.widths)
        losses = {
            "main": task_loss(base.head(clean), labels),
            "reconstruction": relative_error(decoded, embedded.detach()),
        }
        return weighted_sum(losses, {"reconstruction": self.config.weight}, clean)
