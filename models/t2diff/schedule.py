"""Noise schedules, and what follows from them: forward and reverse coefficients.

Notation of T2Diff, section 3.1: beta_s is the variance of the noise of step s = 1..T,
alpha_s = 1 - beta_s and abar_s the product of alpha_1..alpha_s, with abar_0 = 1. Products are
taken as sums of logarithms in float64, so that a long schedule neither rounds 1 - abar to 0 nor
divides by an abar that has underflowed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dropdrift.models.t2diff.config import ScheduleKind


def betas(kind: ScheduleKind, steps: int, first: float, last: float) -> Tensor:
    """beta_1..beta_T, float64 [T].

    exponential: a e^{b s} (eq. 13). linear: equal differences. logarithmic: linear in log s, so
    it rises fast, then slowly. All begin with ``first`` and end with ``last``; a single step has
    ``last``, since all the noise must come with it.

    Raises:
        ValueError: ``steps`` is less than 1, or ``first`` and ``last`` (NaN included) are not
            ordered between 0 and 1.
    """
    if steps < 1:
        raise ValueError(f"steps of the noise schedule is {steps}, must be at least 1")
    if not 0 < first <= last < 1:
        raise ValueError(
            f"the noise schedule goes from {first} to {last}: give 0 < first <= last < 1"
        )
    if steps == 1:
        return torch.tensor([last], dtype=torch.float64)
    step = torch.arange(1, steps + 1, dtype=torch.float64)
    share = (step - 1) / (steps - 1)
    if kind == "exponential":
        rate = math.log(last / first) / (steps - 1)
        return first * torch.exp(rate * (step - 1))
    if kind == "logarithmic":
        share = torch.log(step) / math.log(steps)
    return first + (last - first) * share


def log_alpha_bars(beta: Tensor) -> Tensor:
    """Logarithms of abar_0..abar_T, from beta_1..beta_T, float64 [T + 1]."""
    zero = torch.zeros(1, dtype=torch.float64)
    return torch.cat([zero, torch.log1p(-beta.double()).cumsum(0)])


def visited_steps(steps: int, count: int) -> list[int]:
    """The steps of a reverse process of ``count`` steps, from T down, evenly spaced, 1 included.

    A process of one step visits T alone.
    """
    assert 1 <= count <= steps
    if count == 1:
        return [steps]
    return [steps - round(i * (steps - 1) / (count - 1)) for i in range(count)]


@dataclass(frozen=True)
class ReverseCoefficients:
    """z_s = of_estimate * z_0_hat + of_noisy * z_t + of_noise * epsilon, for each visited step t.

    s is the step visited next, 0 after the last. All are float64 [K].
    """

    of_estimate: Tensor
    of_noisy: Tensor
    of_noise: Tensor


def reverse_coefficients(
    log_alpha_bar: Tensor, visited: list[int], stochastic: bool
) -> ReverseCoefficients:
    """Coefficients of the reverse process over the ``visited`` steps.

    Stochastic: q(z_s | z_t, z_0), the posterior of DDPM (eq. 4-6, with alpha_t = abar_t / abar_s
    where steps are skipped); the noise has its standard deviation. Deterministic: DDIM with eta 0
    (Song et al., ICLR 2021, eq. 12).
    """
    t = torch.tensor(visited)
    s = torch.tensor([*visited[1:], 0])
    log_t, log_s = log_alpha_bar[t], log_alpha_bar[s]
    noise_t, noise_s = -torch.expm1(log_t), -torch.expm1(log_s)  # 1 - abar
    if not stochastic:
        of_noisy = torch.sqrt(noise_s / noise_t)
        of_estimate = torch.exp(log_s / 2) - of_noisy * torch.exp(log_t / 2)
        return ReverseCoefficients(of_estimate, of_noisy, torch.zeros_like(of_noisy))
    alpha = torch.exp(log_t - log_s)
    beta = -torch.expm1(log_t - log_s)
    return ReverseCoefficients(
        of_estimate=torch.exp(log_s / 2) * beta / noise_t,
        of_noisy=torch.sqrt(alpha) * noise_s / noise_t,
        of_noise=torch.sqrt(beta * noise_s / noise_t),
    )
