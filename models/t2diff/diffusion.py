"""The diffusion process and its reverse (T2Diff, section 4.2), whatever the estimator.

Legend: R rows (windows), n items of a window, m entries that are diffused (n, or 1: the newest),
d width, T steps, K visited steps of the reverse process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import torch
from torch import Tensor, nn

from dropdrift.models.t2diff.config import DiffusionConfig
from dropdrift.models.t2diff.schedule import (
    betas,
    log_alpha_bars,
    reverse_coefficients,
    visited_steps,
)

# z_0_hat [R, m, d] from z_t, the step t (int64 [R], the same for all rows) and whatever else an
# estimator has made of the condition, once for all steps.
ServingStep = Callable[..., Tensor]


class Estimator(Protocol):
    """f_theta of eq. 16: estimates z_0 from z_t, the step t and the condition X."""

    def __call__(self, noisy: Tensor, step: Tensor, items: Tensor, present: Tensor) -> Tensor:
        """z_0_hat [R, m, d].

        Args:
            noisy: z_t, [R, m, d].
            step: t, int64 [R].
            items: X, [R, n, d], zeros where there is none.
            present: bool [R, n], where there is an item.
        """


class Diffusion(nn.Module):
    """The forward process in closed form and the reverse process; without parameters.

    Args:
        config: steps, schedule and how to sample.
    """

    signal: Tensor
    noise: Tensor
    visited: Tensor
    coefficients: Tensor

    def __init__(self, config: DiffusionConfig) -> None:
        super().__init__()
        self.steps = config.steps
        beta = betas(config.schedule, config.steps, config.beta_first, config.beta_last)
        log_alpha_bar = log_alpha_bars(beta)
        visited = visited_steps(config.steps, config.sampling_steps or config.steps)
        reverse = reverse_coefficients(log_alpha_bar, visited, config.noise_in_sampling)
        rows = torch.stack([reverse.of_estimate, reverse.of_noisy, reverse.of_noise], dim=1)
        self.stochastic = config.noise_in_sampling
        self.count = len(visited)
        for name, value in (
            ("signal", torch.exp(log_alpha_bar / 2).float()),
            ("noise", torch.sqrt(-torch.expm1(log_alpha_bar)).float()),
            ("visited", torch.tensor(visited)),
            ("coefficients", rows.float()),
        ):
            self.register_buffer(name, value, persistent=False)

    def diffuse(self, clean: Tensor, step: Tensor, epsilon: Tensor) -> Tensor:
        """z_r = sqrt(abar_r) z_0 + sqrt(1 - abar_r) epsilon (eq. 14).

        Args:
            clean: z_0, [R, m, d].
            step: r, int64 [R].
            epsilon: standard normal, [R, m, d].
        """
        return self.signal[step].view(-1, 1, 1) * clean + self.noise[step].view(-1, 1, 1) * epsilon

    def reverse_trajectory(
        self,
        estimator: Estimator,
        start: Tensor,
        items: Tensor,
        present: Tensor,
        noise: Iterable[Tensor | None],
    ) -> Iterator[Tensor]:
        """The estimates z_0_hat [R, m, d] of each visited step; the last one is the sample.

        At the last step z_0 = z_0_hat (abar_0 = 1), so nothing is left to add.

        Args:
            estimator: f_theta.
            start: z_T, standard normal, [R, m, d].
            items: X, [R, n, d].
            present: bool [R, n].
            noise: K tensors [R, m, d]: the noise of each step. What comes with the last step is
                not used, nor is any of it without noise in sampling, where it may be None.
        """
        noisy = start
        for index, epsilon in zip(range(self.count), noise, strict=True):
            step = self.visited[index].expand(start.shape[0])
            estimate = estimator(noisy, step, items, present)
            yield estimate
            of_estimate, of_noisy, of_noise = self.coefficients[index].unbind()
            noisy = of_estimate * estimate + of_noisy * noisy
            if epsilon is not None:
                noisy = noisy + of_noise * epsilon


def last_estimate(course: Iterator[Tensor]) -> Tensor:
    """The last of them, none of the others being kept."""
    sample = next(course)
    for estimate in course:
        sample = estimate
    return sample
