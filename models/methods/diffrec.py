"""DiffRec: a Gaussian diffusion beside the task, in training alone.

Wang et al., "Diffusion Recommender Model", SIGIR 2023: x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t)
epsilon, where 1 - abar_t grows linearly from the first step to the last, and a network estimates
x_0 from x_t and t.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dropdrift.models.losses import task_loss
from dropdrift.models.methods.config import DiffRecConfig
from dropdrift.models.methods.method import BaseModel, Method, weighted_sum
from dropdrift.models.noise import RowNoise

# Below it z is divided by this: a row of zeros stays one.
_LEAST_SIZE = 1e-4


class DiffRec(Method):
    """L = L_main(f(z)) + w ||d([z_t, e_t]) - z_0||^2, z = h(x), z_0 = z / size; served by f(z).

    As AsymDiffRec describes its baseline: Gaussian noise, forward and reverse process in one space,
    that of z, for the training only. t is uniform on 1..T, e_t are sines and cosines of t, d has
    two layers, as AsymDiffRec's g, and the error is averaged over the dimensions of z, as there.

    What the papers leave silent. Here:

    - size is the root mean square of each row's z, without gradient: the noise must have the size
      of what it hides, and z is small at first, a variance of .003 on KuaiRand-Pure. So neither
      growing nor shrinking pays.
    - z_0 is a fixed target, as the data that it stands for: h learns through z_t alone, to make
      representations that the noise does not hide.
    - t is drawn uniformly and all steps weigh the same: DiffRec's weights make a likelihood of what
      here is a regulariser.
    - 1 - abar_t goes from .01 to .5. DiffRec's stays below .01, so as to keep what is personal in
      zeros and ones; of a z_0 of size 1 it would hide nothing.
    - t and epsilon are drawn by seed, step and row.

    Args:
        z_width: Z.
        config: see ``DiffRecConfig``.
        seed: seed of steps and noise.
    """

    signal: Tensor
    noise: Tensor
    step_vectors: Tensor

    def __init__(self, z_width: int, config: DiffRecConfig, seed: int) -> None:
        super().__init__()
        self.config, self.seed = config, seed
        self.denoiser = nn.Sequential(
            nn.Linear(z_width + config.step_width, config.hidden_width),
            nn.ReLU(),
            nn.Linear(config.hidden_width, z_width),
        )
        variance = noise_variances(config)
        for name, value in (
            ("signal", (1 - variance).sqrt()),
            ("noise", variance.sqrt()),
            ("step_vectors", step_vectors(config.steps, config.step_width)),
        ):
            self.register_buffer(name, value.float(), persistent=False)

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
        del missing
        z = base.extract(embedded)
        keyed = RowNoise(self.seed, step, first_row, z.device)
        t = keyed.uniform_steps(len(z), (), self.config.steps, purpose="diffrec step") - 1
        epsilon = keyed.normal(*z.shape, purpose="diffrec noise")
        clean = z / z.detach().square().mean(dim=1, keepdim=True).sqrt().clamp(min=_LEAST_SIZE)
        noisy = self.signal[t].unsqueeze(1) * clean + self.noise[t].unsqueeze(1) * epsilon
        estimate = self.denoiser(torch.cat([noisy, self.step_vectors[t]], dim=1))
        losses = {
            "main": task_loss(base.head(z), labels),
            "diffusion": F.mse_loss(estimate.float(), clean.detach().float()),
        }
        return weighted_sum(losses, {"diffusion": self.config.weight}, z)


def noise_variances(config: DiffRecConfig) -> Tensor:
    """1 - abar_1..1 - abar_T, float64 [T]; a single step has the last one's."""
    if config.steps == 1:
        return torch.tensor([config.noise_last], dtype=torch.float64)
    return torch.linspace(config.noise_first, config.noise_last, config.steps, dtype=torch.float64)


def step_vectors(steps: int, width: int) -> Tensor:
    """e_1..e_T, [T, width]: sines and cosines of t at frequencies from 1 down to 1 / 10,000."""
    count = width // 2
    frequencies = torch.exp(-math.log(10_000) * torch.arange(count) / max(count - 1, 1))
    angles = torch.arange(1, steps + 1).unsqueeze(1) * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)
