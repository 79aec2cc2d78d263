import itertools
import math

import pytest
import torch

from dropdrift.models.t2diff.schedule import (
    betas,
    log_alpha_bars,
    reverse_coefficients,
    visited_steps,
)

KINDS = ("exponential", "linear", "logarithmic")


def test_default_schedule_is_the_published_one():
    published = 0.01 * torch.exp(4.5 * torch.arange(1, 51) / 50)
    assert published[0] == pytest.approx(0.011, abs=1e-3)
    assert published[-1] == pytest.approx(0.900, abs=1e-3)
    ours = betas("exponential", 50, 0.011, 0.9)
    torch.testing.assert_close(ours, published.double(), rtol=0.01, atol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steps", [1, 2, 3, 50, 1000])
def test_schedules_rise_from_the_first_to_the_last_value(kind, steps):
    beta = betas(kind, steps, 0.001, 0.5)
    assert beta.shape == (steps,)
    assert beta.dtype == torch.float64
    assert beta[-1] == pytest.approx(0.5)
    assert (beta.diff() > 0).all()
    if steps > 1:
        assert beta[0] == pytest.approx(0.001)


def test_schedules_bend_as_their_names_say():
    middle = {kind: betas(kind, 11, 0.1, 0.8)[5].item() for kind in KINDS}
    assert middle["exponential"] < middle["linear"] < middle["logarithmic"]
    assert middle["linear"] == pytest.approx(0.45)
    assert middle["exponential"] == pytest.approx(math.sqrt(0.1 * 0.8))
    assert middle["logarithmic"] == pytest.approx(0.1 + 0.7 * math.log(6) / math.log(11))


@pytest.mark.parametrize(
    ("steps", "first", "last"),
    [
        (0, 0.1, 0.2),
        (5, math.nan, 0.2),
        (5, 0.1, math.nan),
        (5, 0.3, 0.2),
        (5, 0, 0.2),
        (5, 0.1, 1),
    ],
)
def test_impossible_schedules_are_refused(steps, first, last):
    with pytest.raises(ValueError, match="schedule"):
        betas("exponential", steps, first, last)


@pytest.mark.parametrize(("first", "last"), [(1e-12, 1e-9), (1e-4, 0.02), (0.9, 0.999)])
@pytest.mark.parametrize("stochastic", [True, False])
def test_coefficients_are_finite_at_any_length_and_noise(first, last, stochastic):
    log_alpha_bar = log_alpha_bars(betas("exponential", 2000, first, last))
    for count in (1, 7, 2000):
        found = reverse_coefficients(log_alpha_bar, visited_steps(2000, count), stochastic)
        for values in (found.of_estimate, found.of_noisy, found.of_noise):
            assert values.shape == (count,)
            assert values.isfinite().all()
            assert (values >= 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_posterior_is_the_product_of_the_two_gaussians(kind):
    # q(z_{t-1} | z_t, z_0) ~ q(z_t | z_{t-1}) q(z_{t-1} | z_0), summed up numerically on a grid.
    beta = betas(kind, 6, 0.05, 0.6)
    log_alpha_bar = log_alpha_bars(beta)
    found = reverse_coefficients(log_alpha_bar, visited_steps(6, 6), stochastic=True)
    grid = torch.linspace(-12, 12, 200_001, dtype=torch.float64)
    z_0, z_t = 1.3, -0.4
    for index, t in enumerate(range(6, 1, -1)):
        alpha_bar = log_alpha_bar[t - 1].exp()
        log_density = -((z_t - (1 - beta[t - 1]).sqrt() * grid) ** 2) / (2 * beta[t - 1])
        log_density -= (grid - alpha_bar.sqrt() * z_0) ** 2 / (2 * (1 - alpha_bar))
        weight = torch.softmax(log_density, 0)
        mean = (weight * grid).sum()
        deviation = (weight * (grid - mean) ** 2).sum().sqrt()
        ours = found.of_estimate[index] * z_0 + found.of_noisy[index] * z_t
        torch.testing.assert_close(ours, mean, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(found.of_noise[index], deviation, rtol=1e-6, atol=1e-6)


def test_posterior_is_equations_5_and_6():
    beta = betas("exponential", 50, 0.011, 0.9)
    alpha = 1 - beta
    alpha_bar = torch.cat([torch.ones(1, dtype=torch.float64), alpha.cumprod(0)])
    found = reverse_coefficients(log_alpha_bars(beta), visited_steps(50, 50), stochastic=True)
    before, after = alpha_bar[:-1], alpha_bar[1:]
    expected = (
        before.sqrt() * beta / (1 - after),
        alpha.sqrt() * (1 - before) / (1 - after),
        ((1 - before) / (1 - after) * beta).sqrt(),
    )
    ours = (found.of_estimate, found.of_noisy, found.of_noise)
    for values, others in zip(ours, expected, strict=True):
        torch.testing.assert_close(values.flip(0), others)


@pytest.mark.parametrize("stochastic", [True, False])
@pytest.mark.parametrize("count", [1, 4, 13])
def test_the_true_z_0_leads_through_the_forward_marginals(stochastic, count):
    # With z_0_hat = z_0 and z_t ~ q(z_t | z_0), z_s is distributed as q(z_s | z_0).
    log_alpha_bar = log_alpha_bars(betas("linear", 13, 0.02, 0.7))
    visited = visited_steps(13, count)
    found = reverse_coefficients(log_alpha_bar, visited, stochastic)
    for index, (t, s) in enumerate(zip(visited, [*visited[1:], 0], strict=True)):
        alpha_t, alpha_s = log_alpha_bar[t].exp(), log_alpha_bar[s].exp()
        mean = found.of_estimate[index] + found.of_noisy[index] * alpha_t.sqrt()
        variance = found.of_noisy[index] ** 2 * (1 - alpha_t) + found.of_noise[index] ** 2
        torch.testing.assert_close(mean, alpha_s.sqrt())
        torch.testing.assert_close(variance, 1 - alpha_s)


@pytest.mark.parametrize("stochastic", [True, False])
def test_the_last_step_and_a_single_step_give_the_estimate_itself(stochastic):
    for steps in (1, 5):
        log_alpha_bar = log_alpha_bars(betas("exponential", steps, 0.1, 0.9))
        found = reverse_coefficients(log_alpha_bar, visited_steps(steps, steps), stochastic)
        last = (found.of_estimate[-1], found.of_noisy[-1], found.of_noise[-1])
        assert [value.item() for value in last] == [1, 0, 0]


def test_visited_steps_are_even_and_include_both_ends():
    assert visited_steps(5, 5) == [5, 4, 3, 2, 1]
    assert visited_steps(50, 1) == [50]
    assert visited_steps(50, 2) == [50, 1]
    for count in range(2, 51):
        visited = visited_steps(50, count)
        assert (visited[0], visited[-1], len(set(visited))) == (50, 1, count)
        gaps = {a - b for a, b in itertools.pairwise(visited)}
        assert max(gaps) - min(gaps) <= 1
