"""MultiVAE: the head reads a latent vector that is a distribution.

Liang et al., "Variational Autoencoders for Collaborative Filtering", WWW 2018: a user's
interactions x are coded as q(u | x) = N(mu, diag sigma^2) and decoded from u = mu + sigma epsilon;
maximised is E_q[log p(x | u)] - beta KL(q(u | x) || N(0, I)), beta rising from 0 in training.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dropdrift.kernels.feature_dropout import mask_features
from dropdrift.models.losses import relative_error, task_loss
from dropdrift.models.methods.config import MultiVAEConfig
from dropdrift.models.methods.method import BaseModel, Method, weighted_sum
from dropdrift.models.noise import RowNoise

# Of log sigma^2 at the beginning: sigma .14, so that the first steps learn about as the base does.
_FIRST_LOG_VARIANCE = -4.0


class MultiVAE(Method):
    """L = L_main(f(u)) + w (E(d(u), x) + beta KL), u = mu + sigma epsilon; served by f(mu).

    mu and log sigma^2 are linear maps of z = h(x); KL = mean over the dimensions of
    (mu^2 + sigma^2 - 1 - log sigma^2) / 2; d has two layers; E is the squared error of the fields
    that are there, over x's squared norm (``losses.relative_error``).

    The paper is silent on how it made MultiVAE a part of a ranking model. Here:

    - The head reads the sample, and mu at serving, as MultiVAE predicts: u is the representation,
      not something beside it.
    - The embeddings of all fields are decoded, with a squared error in place of the multinomial
      likelihood, which is one of counts. They are a fixed target, and d's last layer begins at
      zero, as in CDAE.
    - KL is averaged over dimensions, as every error of this package: summed, it holds u below what
      the head needs (``docs/numerics.md`` on the reconstruction norm).
    - beta rises linearly to .2, the published cap, in 200 steps and not 200,000: one epoch of
      KuaiRand-Pure has 257.
    - epsilon is drawn by seed, step and row.

    Args:
        widths: embedding width of each field.
        z_width: Z.
        config: see ``MultiVAEConfig``.
        seed: seed of epsilon.
    """

    def __init__(
        self, widths: tuple[int, ...], z_width: int, config: MultiVAEConfig, seed: int
    ) -> None:
        super().__init__()
        self.widths, self.config, self.seed = widths, config, seed
        self.mean = nn.Linear(z_width, z_width)
        self.log_variance = nn.Linear(z_width, z_width)
        nn.init.constant_(self.log_variance.bias, _FIRST_LOG_VARIANCE)
        last = nn.Linear(config.hidden_width, sum(widths))
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.decoder = nn.Sequential(nn.Linear(z_width, config.hidden_width), nn.ReLU(), last)

    def losses(
        self,
        base: BaseModel,
        embedded: Tensor,
        missing: Tensor,
        labels: Tensor,
        step: int,
        first_row: int,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """See :meth:`Method.losses`; a divergence of 0 is a collapse of the latent vector too."""
        z = base.extract(embedded)
        mean, log_variance = self.mean(z), self.log_variance(z).float()
        noise = RowNoise(self.seed, step, first_row, z.device).normal(*z.shape, purpose="multivae")
        sample = mean + torch.exp(log_variance / 2) * noise
        decoded = mask_features(self.decoder(sample), missing, self.widths)
        losses = {
            "main": task_loss(base.head(sample), labels),
            "reconstruction": relative_error(decoded, embedded.detach()),
            "divergence": divergence(mean, log_variance),
        }
        weight = self.config.weight
        weights = {"reconstruction": weight, "divergence": weight * self.beta(step)}
        return weighted_sum(losses, weights, z)

    def beta(self, step: int) -> float:
        """The weight of the divergence after ``step`` optimizer steps."""
        annealed = step / self.config.anneal_steps if self.config.anneal_steps else 1.0
        return self.config.kl_weight * min(annealed, 1.0)

    def serve(self, z: Tensor, missing: Tensor) -> Tensor:
        """mu, [B, Z]."""
        del missing
        return self.mean(z)


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mu, diag sigma^2) || N(0, I)) over Z, averaged over rows.

    Args:
        mean: mu, [B, Z].
        log_variance: log sigma^2, [B, Z].
    """
    mean, log_variance = mean.float(), log_variance.float()
    return (mean.square() + torch.expm1(log_variance) - log_variance).mean() / 2
