import dataclasses
import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from dropdrift.kernels.feature_dropout import drop_words, mask_features, pack_words, unpack_words
from dropdrift.models.config import DCNv2Config, ModelConfig
from dropdrift.models.losses import task_loss
from dropdrift.models.methods.asymdiffrec import AsymDiffRec, check_kernels
from dropdrift.models.methods.config import AsymDiffRecConfig

FIELDS, WIDTHS, Z = 5, (2, 3, 2, 4, 1), 6
ROWS, SEED, STEP = 9, 3, 11


def diffusion(missing_rates=(0.0,) * FIELDS, **options) -> AsymDiffRec:
    torch.manual_seed(1)
    return AsymDiffRec(WIDTHS, Z, missing_rates, AsymDiffRecConfig(**options), SEED)


def test_loss_is_the_weighted_sum_of_the_papers_three(setting):
    base, embedded, missing, labels = setting
    model = diffusion(reconstruction_weight=0.7, auxiliary_weight=0.2, reconstruction_norm="sum")
    total, parts = model.losses(base, embedded, missing, labels, STEP, first_row=0)

    words = drop_words(missing, FIELDS, seed=SEED, step=STEP, first_row=0)
    z0 = base.extract(embedded)
    zt = base.extract(mask_features(embedded, words, WIDTHS))
    z0_reconstructed = model.denoiser(words, zt)
    main = task_loss(base.head(z0), labels)
    reconstruction = (z0_reconstructed - z0).square().sum(dim=1).mean()
    auxiliary = task_loss(base.head(z0_reconstructed), labels)
    torch.testing.assert_close(total, main + 0.7 * reconstruction + 0.2 * auxiliary)
    torch.testing.assert_close(parts["reconstruction"], reconstruction.detach())


def test_auxiliary_loss_flows_through_denoiser_extractor_and_embeddings(setting):
    base, embedded, missing, labels = setting
    model = diffusion(reconstruction_weight=0.0, auxiliary_weight=1.0)
    total, parts = model.losses(base, embedded, missing, labels, STEP, 0)
    assert "reconstruction" not in parts
    without = task_loss(base.head(base.extract(embedded)), labels)
    tensors = [*model.denoiser.parameters(), base.extractor.weight, embedded]
    for gradient in torch.autograd.grad(total - without, tensors):
        assert gradient.abs().sum() > 0


def test_without_auxiliary_loss_the_head_learns_from_clean_rows_alone(setting):
    base, embedded, missing, labels = setting
    model = diffusion(auxiliary_weight=0.0)
    total, parts = model.losses(base, embedded, missing, labels, STEP, 0)
    assert "auxiliary" not in parts
    main = task_loss(base.head(base.extract(embedded)), labels)
    gradients = torch.autograd.grad(total, base.tower.weight, retain_graph=True)
    torch.testing.assert_close(gradients, torch.autograd.grad(main, base.tower.weight))


def test_stop_gradient_keeps_the_target_from_moving(setting):
    base, embedded, _, labels = setting
    all_missing = pack_words(torch.ones(ROWS, FIELDS, dtype=torch.bool))

    def gradient_of_reconstruction(stop_gradient):
        model = diffusion(
            stop_gradient=stop_gradient, auxiliary_weight=0.0, reconstruction_weight=1.0
        )
        # Everything is missing, so the noisy pass sees zeros and gives embedded no gradient.
        total, _ = model.losses(base, embedded, all_missing, labels, STEP, 0)
        main = task_loss(base.head(base.extract(embedded)), labels)
        return torch.autograd.grad(total - main, embedded)[0].abs().max()

    assert gradient_of_reconstruction(True) < 1e-7
    assert gradient_of_reconstruction(False) > 1e-4


def test_drop_mask_depends_on_step_and_row_and_not_on_global_random_state(setting):
    base, embedded, missing, labels = setting
    model = diffusion()

    def loss(step, first_row=0):
        torch.rand(3)
        return model.losses(base, embedded, missing, labels, step, first_row)[0].item()

    assert loss(4) == loss(4)
    assert loss(4) != loss(5)
    assert loss(4) != loss(4, first_row=100)


def test_serving_as_the_paper_and_plain(setting):
    base, embedded, missing, _ = setting
    z = base.extract(embedded)
    assert torch.equal(diffusion(serving="plain").serve(z, missing), z)
    model = diffusion(serving="denoised")
    assert torch.equal(model.serve(z, missing), model.denoiser(missing, z))


def test_gate_serves_complete_rows_by_z_and_opens_with_what_is_missing():
    model = diffusion(serving="gated", gate_floor=0.0, gate_steepness=6.0)
    flags = torch.tensor([[0, 0, 0, 0, 0], [1, 0, 0, 0, 0], [1, 1, 1, 1, 1]], dtype=torch.bool)
    z = torch.randn(3, Z, generator=torch.manual_seed(0))
    words = pack_words(flags)
    served, denoised = model.serve(z, words), model.denoiser(words, z)
    torch.testing.assert_close(served[0], z[0])
    share = 1 - math.exp(-6 / 5)
    torch.testing.assert_close(served[1], z[1] + share * (denoised[1] - z[1]))
    share = 1 - math.exp(-6)
    torch.testing.assert_close(served[2], z[2] + share * (denoised[2] - z[2]))


def test_gate_ignores_fields_that_are_usually_missing():
    model = diffusion((0.8, 0.0, 0.0, 0.0, 0.0), gate_floor=0.0)
    usual = pack_words(torch.tensor([[1, 0, 0, 0, 0]], dtype=torch.bool))
    unusual = pack_words(torch.tensor([[1, 1, 0, 0, 0]], dtype=torch.bool))
    assert model.gate(usual) == 0
    torch.testing.assert_close(model.gate(unusual), torch.tensor([[1 - math.exp(-6 / 4)]]))


def test_gate_opens_only_beyond_what_is_missing_in_the_mean_training_row():
    model = diffusion((0.3, 0.4, 0.5, 0.3, 0.5), gate_floor=0.0)  # 40% in the mean
    flags = torch.tensor([[0, 0, 0, 0, 1], [0, 0, 0, 1, 1], [0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    q = torch.tensor([[0.0], [0.0], [0.2 / 0.6], [1.0]])
    torch.testing.assert_close(model.gate(pack_words(flags == 1)), 1 - torch.exp(-6 * q))


def test_the_default_gate_is_nearly_shut_on_complete_rows():
    complete = pack_words(torch.zeros(1, FIELDS, dtype=torch.bool))
    torch.testing.assert_close(diffusion().gate(complete), torch.tensor([[0.1]]))


def test_gate_of_a_data_set_whose_fields_are_all_usually_missing_stays_shut():
    model = diffusion((0.9,) * FIELDS, gate_floor=0.0)
    words = pack_words(torch.ones(2, FIELDS, dtype=torch.bool))
    assert torch.equal(model.gate(words), torch.zeros(2, 1))


def test_a_collapse_of_the_denoiser_shows(setting):
    base, embedded, missing, labels = setting
    model = diffusion()
    with torch.no_grad():
        model.denoiser.weight2.zero_()
    _, parts = model.losses(base, embedded, missing, labels, STEP, 0)
    assert parts["denoised_variance"] == 0
    assert parts["relative_reconstruction_error"] > 0.99
    assert parts["z_variance"] > 0


def test_denoiser_learns_to_complete_features(setting):
    base, embedded, _, labels = setting
    model = diffusion(reconstruction_weight=1.0, auxiliary_weight=0.0, stop_gradient=True)
    complete = pack_words(torch.zeros(ROWS, FIELDS, dtype=torch.bool))
    optimizer = torch.optim.Adam(model.denoiser.parameters(), lr=0.01)
    errors = []
    for step in range(200):
        total, parts = model.losses(base, embedded.detach(), complete, labels, step, 0)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        errors.append(float(parts["relative_reconstruction_error"]))
    assert sum(errors[-20:]) < 0.7 * sum(errors[:20])


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"reconstruction_weight": 0.0, "auxiliary_weight": 0.0}, "auxiliary_weight"),
        ({"max_drop_rate": 0.0}, "max_drop_rate"),
        ({"reconstruction_weight": -1.0}, "reconstruction_weight"),
        ({"hidden_width": 0}, "hidden_width"),
        ({"drop_rate": 0.0}, "drop_rate"),
        ({"drop_rate": 0.5, "max_drop_rate": 0.5}, "only one of them"),
        ({"gate_floor": 1.1}, "gate_floor"),
    ],
)
def test_impossible_options_are_refused(options, name):
    with pytest.raises(ValueError, match=name):
        dataclasses.replace(AsymDiffRecConfig(), **options)


def test_largest_drop_rate_reaches_the_forward_process(setting):
    base, embedded, _, labels = setting
    complete = pack_words(torch.zeros(ROWS, FIELDS, dtype=torch.bool))
    few = diffusion(max_drop_rate=1e-3, reconstruction_norm="mean")
    _, parts = few.losses(base, embedded, complete, labels, STEP, 0)
    words = drop_words(complete, FIELDS, seed=SEED, step=STEP, first_row=0, max_rate=1e-3)
    assert not unpack_words(words, FIELDS).any()
    expected = few.denoiser(complete, base.extract(embedded)) - base.extract(embedded)
    torch.testing.assert_close(parts["reconstruction"], expected.detach().square().mean())


class Backends(TorchDispatchMode):
    """Which of the kernels' operators are called, with which backend."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = {}

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        if operator.namespace == "dropdrift":
            self.seen.setdefault(operator._opname, set()).add(args[-1])
        return operator(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("kernels", "backend"), [("automatic", ""), ("torch", "torch"), ("reference", "reference")]
)
def test_training_and_serving_run_the_kernels_that_are_asked_for(setting, kernels, backend):
    base, embedded, missing, labels = setting
    model = diffusion(kernels=kernels)
    with Backends() as training:
        total, _ = model.losses(base, embedded, missing, labels, STEP, 0)
        total.backward()
    dropping = {"drop_words": {backend}, "mask_features": {backend}}
    denoising = {"denoise": {backend}, "denoise_backward": {backend}}
    if kernels == "reference":
        denoising = {}  # plain torch, which is no operator of ours
    assert training.seen == dropping | denoising
    with Backends() as serving, torch.no_grad():
        model.serve(base.extract(embedded), missing)
    assert serving.seen == {name: denoising[name] for name in denoising if name == "denoise"}


def test_losses_and_gradients_are_the_references(setting):
    base, embedded, missing, labels = setting
    results = []
    for kernels in ("automatic", "reference"):
        model = diffusion(kernels=kernels, reconstruction_weight=1.0)
        total, parts = model.losses(base, embedded, missing, labels, STEP, 0)
        leaves = [embedded, *base.parameters(), *model.denoiser.parameters()]
        results.append([total, *parts.values(), *torch.autograd.grad(total, leaves)])
    for ours, reference in zip(*results, strict=True):
        torch.testing.assert_close(ours, reference)


def test_kernels_that_cannot_run_are_refused_before_training(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)

    def check(kernels, z_width=16, method="asymdiffrec"):
        asymdiffrec = AsymDiffRecConfig(kernels=kernels)
        dcnv2 = DCNv2Config(z_width=z_width)
        config = ModelConfig(method=method, dcnv2=dcnv2, asymdiffrec=asymdiffrec)
        check_kernels(config, FIELDS, torch.device("cpu"))

    for kernels in ("automatic", "torch", "reference"):
        check(kernels)
    check("triton", method="base")
    with pytest.raises(ValueError, match=r"model\.asymdiffrec\.kernels is 'triton', but .* on cpu"):
        check("triton")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    check("triton")
    with pytest.raises(ValueError, match="16 to 256 width, not 8"):
        check("triton", z_width=8)


def test_gate_with_a_floor_mixes_complete_rows_too():
    model = diffusion(gate_floor=0.3)
    flags = torch.tensor([[0, 0, 0, 0, 0], [1, 0, 0, 0, 0], [1, 1, 1, 1, 1]], dtype=torch.bool)
    q = torch.tensor([[0.0], [0.2], [1.0]])
    torch.testing.assert_close(model.gate(pack_words(flags)), 1 - 0.7 * torch.exp(-6 * q))
    assert torch.equal(diffusion(gate_floor=1.0).gate(pack_words(flags)), torch.ones(3, 1))


def test_a_fixed_drop_rate_reaches_the_forward_process(setting):
    _, embedded, missing, _ = setting
    words = drop_words(missing, FIELDS, seed=SEED, step=STEP, first_row=0, rate=0.4)
    assert not torch.equal(words, drop_words(missing, FIELDS, seed=SEED, step=STEP, first_row=0))
    process = diffusion(drop_rate=0.4).forward_process
    dropped, drawn = process.drop(embedded, missing, STEP, 0)
    assert torch.equal(drawn, words)
    assert torch.equal(dropped, mask_features(embedded, words, WIDTHS))
