from __future__ import annotations

import pytest
import torch

from dropdrift.models.losses import task_loss
from dropdrift.models.methods.config import DiffRecConfig
from dropdrift.models.methods.diffrec import DiffRec, noise_variances, step_vectors
from dropdrift.models.noise import RowNoise

Z, SEED, STEP = 6, 5, 3


def diffrec(**options) -> DiffRec:
    torch.manual_seed(1)
    return DiffRec(Z, DiffRecConfig(**options), SEED)


def test_the_loss_is_the_estimates_error_beside_the_task(batch):
    base, embedded, missing, labels = batch
    model = diffrec(weight=0.6, steps=8)
    total, parts = model.losses(base, embedded, missing, labels, STEP, 0)
    z = base.extract(embedded)
    noise = RowNoise(SEED, STEP, 0)
    t = noise.uniform_steps(32, (), 8, purpose="diffrec step")
    epsilon = noise.normal(32, Z, purpose="diffrec noise")
    share = (0.01 + (t - 1) / 7 * 0.49).unsqueeze(1)  # 1 - abar_t, eq. 4 of DiffRec
    size = z.detach().norm(dim=1, keepdim=True) / Z**0.5
    noisy = (1 - share).sqrt() * z / size + share.sqrt() * epsilon
    estimate = model.denoiser(torch.cat([noisy, step_vectors(8, 16)[t - 1]], dim=1))
    error = (estimate - z / size).square().mean()
    torch.testing.assert_close(parts["diffusion"], error.detach())
    torch.testing.assert_close(total, task_loss(base.head(z), labels) + 0.6 * error)


def test_z_learns_through_what_is_noised_and_not_as_a_target(batch):
    base, embedded, missing, labels = batch
    model = diffrec()

    def gradient():
        total, parts = model.losses(base, embedded, missing, labels, STEP, 0)
        main = task_loss(base.head(base.extract(embedded)), labels)
        torch.testing.assert_close(main.detach(), parts["main"])
        return torch.autograd.grad(total - main, base.extractor.weight)[0].abs().max()

    assert gradient() > 1e-4
    with torch.no_grad():  # the estimate sees the step alone: nothing is left but the target
        model.denoiser[0].weight[:, :Z] = 0
    assert gradient() < 1e-7


def test_a_larger_z_is_no_less_hidden(batch):
    _, _, missing, labels = batch
    model = diffrec()

    class Scaled:
        def __init__(self, scale):
            self.extract = lambda embedded: scale * embedded[:, :Z]
            self.head = lambda z: z[:, :2]

    embedded = batch[1].detach()
    losses = [
        model.losses(Scaled(scale), embedded, missing, labels, STEP, 0)[1]["diffusion"]
        for scale in (0.1, 1.0, 100.0)
    ]
    torch.testing.assert_close(losses[0], losses[1])
    torch.testing.assert_close(losses[2], losses[1])


@pytest.mark.parametrize("steps", [1, 2, 50])
def test_noise_grows_linearly_to_the_last_step(steps):
    variances = noise_variances(DiffRecConfig(steps=steps))
    assert len(variances) == steps
    assert variances[-1] == 0.5
    if steps > 1:
        assert variances[0] == 0.01
        assert variances.diff().std(correction=0) < 1e-12


def test_each_step_has_a_vector_of_its_own():
    vectors = step_vectors(50, 16)
    distances = torch.cdist(vectors, vectors) + 9 * torch.eye(50)
    assert distances.min() > 0.1


def test_serving_is_the_bases(batch):
    base, embedded, missing, _ = batch
    z = base.extract(embedded)
    assert diffrec().serve(z, missing) is z
