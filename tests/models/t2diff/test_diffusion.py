import pytest
import torch

from dropdrift.models.t2diff.config import DiffusionConfig
from dropdrift.models.t2diff.diffusion import Diffusion, last_estimate
from dropdrift.models.t2diff.next_item import make_estimator


def reverse(diffusion, estimator, start, noise):
    items, present = torch.zeros_like(start), torch.ones(start.shape[:2], dtype=torch.bool)
    course = diffusion.reverse_trajectory(estimator, start, items, present, noise)
    return last_estimate(course)


def gaussian_estimator(diffusion, mean, variance):
    """E[z_0 | z_t] where z_0 ~ N(mean, variance): the best that can be learnt."""

    def estimate(noisy, step, *_):
        signal, noise = diffusion.signal[step].view(-1, 1, 1), diffusion.noise[step].view(-1, 1, 1)
        gain = variance * signal / (signal**2 * variance + noise**2)
        return mean + gain * (noisy - signal * mean)

    return estimate


def test_forward_process_in_closed_form_is_the_chain_of_its_steps():
    config = DiffusionConfig(steps=4, beta_first=0.1, beta_last=0.5)
    diffusion = Diffusion(config)
    rows, step = 200_000, 3
    z = clean = torch.full((rows, 1, 1), 2.0)
    generator = torch.Generator().manual_seed(0)
    for beta in (0.1 * 5 ** (s / 3) for s in range(step)):
        z = (1 - beta) ** 0.5 * z + beta**0.5 * torch.randn(z.shape, generator=generator)
    epsilon = torch.randn(z.shape, generator=generator)
    closed = diffusion.diffuse(clean, torch.full((rows,), step), epsilon)
    assert closed.mean().item() == pytest.approx(z.mean().item(), abs=0.01)
    assert closed.std().item() == pytest.approx(z.std().item(), abs=0.01)


def test_each_row_has_the_noise_of_its_own_step():
    diffusion = Diffusion(DiffusionConfig(steps=3))
    clean, epsilon = torch.ones(3, 2, 1), torch.zeros(3, 2, 1)
    noisy = diffusion.diffuse(clean, torch.tensor([1, 2, 3]), epsilon)
    torch.testing.assert_close(noisy[:, 0, 0], diffusion.signal[1:])


@pytest.mark.parametrize("stochastic", [True, False])
@pytest.mark.parametrize("steps", [1, 2, 50])
def test_a_perfect_estimator_is_followed_to_z_0(stochastic, steps):
    diffusion = Diffusion(DiffusionConfig(steps=steps, noise_in_sampling=stochastic))
    truth = torch.tensor([[[0.5, -2.0]]])
    seen = []

    def estimator(_, step, *__):
        seen.append(step.item())
        return truth

    start = torch.randn(1, 1, 2, generator=torch.manual_seed(0))
    assert torch.equal(reverse(diffusion, estimator, start, torch.randn(steps, 1, 1, 2)), truth)
    assert seen == list(range(steps, 0, -1))


@pytest.mark.parametrize("count", [10, 50, 200])
@pytest.mark.parametrize("stochastic", [True, False])
def test_samples_have_the_distribution_that_was_learnt(count, stochastic):
    config = DiffusionConfig(
        steps=200, beta_first=0.001, beta_last=0.3, sampling_steps=count,
        noise_in_sampling=stochastic,
    )  # fmt: skip
    diffusion = Diffusion(config)
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(20_000, 1, 1, generator=generator)
    noise = (torch.randn(start.shape, generator=generator) for _ in range(count))
    z_0 = reverse(diffusion, gaussian_estimator(diffusion, 1.5, 0.25), start, noise)
    assert z_0.mean().item() == pytest.approx(1.5, abs=0.02)
    assert z_0.std().item() == pytest.approx(0.5, abs=0.02 if count == 200 else 0.15)


def test_ddpm_without_its_noise_and_ddim_differ_only_in_their_means_coefficients():
    # Of one step: eta = 1 draws around a mean nearer to the estimate than eta = 0 goes to.
    ddpm = Diffusion(DiffusionConfig(steps=2))
    ddim = Diffusion(DiffusionConfig(steps=2, noise_in_sampling=False))
    assert ddim.coefficients[0, 2] == 0
    assert ddpm.coefficients[0, 2] > 0
    # Both end in the same marginal of z_1 when z_2 has its own.
    for diffusion in (ddpm, ddim):
        estimate, noisy, noise = diffusion.coefficients[0]
        variance = noisy**2 * diffusion.noise[2] ** 2 + noise**2
        torch.testing.assert_close(variance, diffusion.noise[1] ** 2)
        torch.testing.assert_close(estimate + noisy * diffusion.signal[2], diffusion.signal[1])


def test_noise_must_be_given_for_every_step():
    diffusion = Diffusion(DiffusionConfig(steps=3))
    with pytest.raises(ValueError, match="shorter"):
        reverse(diffusion, lambda z, *_: z, torch.zeros(1, 1, 1), torch.zeros(2, 1, 1, 1))


def test_the_trajectory_ends_with_the_sample():
    diffusion = Diffusion(DiffusionConfig(steps=5))
    start, noise = torch.randn(6, 3, 2, 2, generator=torch.manual_seed(0)).split([1, 5])
    items, present = torch.zeros(3, 2, 2), torch.ones(3, 2, dtype=torch.bool)
    estimator = gaussian_estimator(diffusion, 0.5, 2.0)
    every = list(diffusion.reverse_trajectory(estimator, start[0], items, present, noise))
    assert len(every) == 5
    assert torch.equal(every[-1], reverse(diffusion, estimator, start[0], noise))


# Torch's compiler makes an instance of each autograd function, against which torch warns.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("estimator", ["unet", "mlp"])
def test_the_reverse_process_compiles_as_one_graph(estimator):
    config = DiffusionConfig(estimator=estimator, window=4, levels=2, steps=2, hidden_width=8)
    diffusion, network = Diffusion(config), make_estimator(config, 2)
    torch.nn.init.ones_(network.output.weight)
    generator = torch.Generator().manual_seed(0)
    start, noise = torch.randn(3, 3, network.entries, 2, generator=generator).split([1, 2])
    items, present = torch.randn(3, 4, 2, generator=generator), torch.ones(3, 4, dtype=torch.bool)

    def sample():
        course = diffusion.reverse_trajectory(network, start[0], items, present, noise)
        return last_estimate(course)

    with torch.no_grad():
        compiled = torch.compile(sample, fullgraph=True, backend="eager")
        torch.testing.assert_close(compiled(), sample())
