"""CDAE and MultiVAE."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from dropdrift.kernels.feature_dropout import mask_features, unpack_words
from dropdrift.models.losses import task_loss
from dropdrift.models.methods.cdae import CDAE
from dropdrift.models.methods.config import CDAEConfig, MultiVAEConfig
from dropdrift.models.methods.multivae import MultiVAE, divergence

WIDTHS, Z, SEED, STEP = (4, 8, 4, 4, 8), 6, 5, 3


def shaken(made):
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return made


def cdae(**options) -> CDAE:
    torch.manual_seed(1)
    return shaken(CDAE(WIDTHS, Z, CDAEConfig(**options), SEED))


def multivae(**options) -> MultiVAE:
    torch.manual_seed(1)
    return shaken(MultiVAE(WIDTHS, Z, MultiVAEConfig(**options), SEED))


def relative_errors(decoded, embedded, missing):
    there = ~unpack_words(missing, len(WIDTHS)).repeat_interleave(torch.tensor(WIDTHS), dim=1)
    error = ((decoded - embedded).square() * there).sum(dim=1)
    return error / embedded.square().sum(dim=1)


def test_cdae_decodes_the_clean_embeddings_from_the_corrupted_ones(batch):
    base, embedded, missing, labels = batch
    model = cdae(weight=0.7, corruption=0.4)
    total, parts = model.losses(base, embedded, missing, labels, STEP, 0)
    corrupted = model.corrupt(embedded, STEP, 0)
    kept = corrupted != 0
    torch.testing.assert_close(corrupted[kept], embedded[kept] / 0.6)
    assert 0.5 < kept.sum() / (embedded != 0).sum() < 0.7
    decoded = model.decoder(base.extract(corrupted))
    error = relative_errors(decoded, embedded, missing).mean()
    main = task_loss(base.head(base.extract(embedded)), labels)
    torch.testing.assert_close(total, main + 0.7 * error)
    torch.testing.assert_close(parts["reconstruction"], error.detach())


def test_the_target_of_cdae_does_not_move(batch):
    """Of numbers that are corrupted away, only the target could have a gradient."""
    base, embedded, missing, labels = batch
    model = cdae(weight=0.3, corruption=0.5)
    total, _ = model.losses(base, embedded, missing, labels, STEP, 0)
    main = task_loss(base.head(base.extract(embedded)), labels)
    gradient = torch.autograd.grad(total - main, embedded)[0]
    gone = (model.corrupt(embedded, STEP, 0) == 0) & (embedded != 0)
    assert gone.sum() > 50
    assert gradient[gone].abs().max() < 1e-6
    assert gradient[~gone].abs().max() > 1e-4


def test_an_untrained_decoder_has_an_error_of_1_and_leaves_h_alone(batch):
    base, embedded, missing, labels = batch
    for model in (CDAE(WIDTHS, Z, CDAEConfig(), SEED), MultiVAE(WIDTHS, Z, MultiVAEConfig(), SEED)):
        total, parts = model.losses(base, embedded, missing, labels, 0, 0)
        torch.testing.assert_close(parts["reconstruction"], torch.tensor(1.0))
        gradient = torch.autograd.grad(total - parts["main"], embedded, retain_graph=True)[0]
        main = torch.autograd.grad(total, embedded)[0]
        torch.testing.assert_close(gradient, main)  # nothing but the task's
    only_task = torch.autograd.grad(
        CDAE(WIDTHS, Z, CDAEConfig(), SEED).losses(base, embedded, missing, labels, 0, 0)[0],
        embedded,
    )[0]
    main = task_loss(base.head(base.extract(embedded)), labels)
    torch.testing.assert_close(only_task, torch.autograd.grad(main, embedded)[0])


def test_multivae_is_the_elbo_beside_the_task_on_the_sample(batch):
    base, embedded, missing, labels = batch
    model = multivae(weight=0.5, kl_weight=0.4, anneal_steps=10)
    total, parts = model.losses(base, embedded, missing, labels, STEP, 0)
    z = base.extract(embedded)
    mean, deviation = model.mean(z), torch.exp(model.log_variance(z) / 2)
    latent = kl_divergence(Normal(mean, deviation), Normal(0.0, 1.0)).mean()
    torch.testing.assert_close(parts["divergence"], latent.detach())
    torch.testing.assert_close(
        total.detach(),
        parts["main"] + 0.5 * (parts["reconstruction"] + 0.4 * 3 / 10 * parts["divergence"]),
    )
    at_mean = task_loss(base.head(mean), labels).detach()
    assert parts["main"] != at_mean  # of a sample, that is
    with torch.no_grad():
        model.log_variance.weight.zero_()
        model.log_variance.bias.fill_(-60.0)
    _, parts = model.losses(base, embedded, missing, labels, STEP, 0)
    torch.testing.assert_close(parts["main"], at_mean)
    decoded = mask_features(model.decoder(mean), missing, WIDTHS)
    error = relative_errors(decoded, embedded, missing).mean().detach()
    torch.testing.assert_close(parts["reconstruction"], error)


def test_multivae_samples_with_the_deviation_that_it_says(batch):
    base, embedded, missing, labels = batch
    model = multivae()
    seen = []
    model.decoder.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    with torch.no_grad():
        for step in range(60):
            model.losses(base, embedded, missing, labels, step, 0)
        z = base.extract(embedded)
        deviation = torch.exp(model.log_variance(z) / 2)
        standard = (torch.stack(seen) - model.mean(z)) / deviation
    assert abs(standard.mean()) < 0.04
    assert abs(standard.std() - 1) < 0.04


@pytest.mark.parametrize(
    ("anneal_steps", "step", "beta"), [(10, 0, 0.0), (10, 5, 0.1), (10, 30, 0.2), (0, 0, 0.2)]
)
def test_the_divergences_weight_rises_to_its_value(anneal_steps, step, beta):
    assert multivae(anneal_steps=anneal_steps).beta(step) == pytest.approx(beta)


def test_multivae_is_served_by_the_mean(batch):
    base, embedded, missing, _ = batch
    model, z = multivae(), base.extract(embedded)
    assert torch.equal(model.serve(z, missing), model.mean(z))


def test_a_standard_normal_diverges_by_nothing():
    assert divergence(torch.zeros(3, 4), torch.zeros(3, 4)) == 0
