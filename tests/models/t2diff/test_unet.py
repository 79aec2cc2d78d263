import pytest
import torch
import torch.nn.functional as F

from dropdrift.models.t2diff.step_embedding import step_waves, wave_frequencies
from dropdrift.models.t2diff.unet import STEP_SCALE, UNet
from dropdrift.models.t2diff.window_mlp import WindowMLP


def make(width, window, levels):
    torch.manual_seed(0)
    unet = UNet(width, window, levels)
    for parameter in unet.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return unet


def inputs(rows, window, width, entries=None):
    generator = torch.Generator().manual_seed(1)
    noisy = torch.randn(rows, entries or window, width, generator=generator)
    items = torch.randn(rows, window, width, generator=generator)
    step = torch.randint(1, 51, (rows,), generator=generator)
    present = torch.arange(window) >= torch.randint(0, window, (rows, 1), generator=generator)
    return noisy, step, items, present


def reference_convolution(convolution, hidden):
    into = hidden.shape[2]
    kernel = convolution.weight.weight.unflatten(1, (3, into)).transpose(1, 2)
    mode = "reflect" if hidden.shape[1] > 1 else "replicate"
    padded = F.pad(hidden.transpose(1, 2), (1, 1), mode=mode)
    out = F.conv1d(padded, kernel, convolution.weight.bias).transpose(1, 2)
    return convolution.norm(F.silu(out))


def reference(unet, noisy, step, items, present):
    hidden = torch.cat([noisy, items], 2)
    waves = torch.stack([torch.sin(step / 2.0**f) for f in range(hidden.shape[2])], 1)
    hidden = (hidden + 0.01 * waves[:, None]) * present[..., None]
    levels = len(unet.down)
    extension = -hidden.shape[1] % 2 ** (levels - 1)
    if extension:
        hidden = F.pad(hidden.transpose(1, 2), (extension, 0), mode="reflect").transpose(1, 2)
    skips = []
    for level in range(levels):
        hidden = reference_convolution(unet.down[level], hidden)
        if level < levels - 1:
            skips.append(hidden)
            hidden = F.max_pool1d(hidden.transpose(1, 2), 2).transpose(1, 2)
    for level in range(levels - 2, -1, -1):
        upper = F.interpolate(hidden.transpose(1, 2), scale_factor=2, mode="nearest")
        upper = unet.shrink[level](upper.transpose(1, 2))
        hidden = reference_convolution(unet.up[level], torch.cat([skips[level], upper], 2))
    return unet.output(hidden)[:, extension:]


@pytest.mark.parametrize(
    ("window", "levels"), [(50, 4), (8, 4), (9, 4), (15, 4), (4, 3), (1, 1), (2, 2), (7, 1)]
)
def test_unet_is_its_plain_reference(window, levels):
    unet = make(3, window, levels)
    arguments = inputs(5, window, 3)
    ours = unet(*arguments)
    assert ours.shape == (5, window, 3)
    torch.testing.assert_close(ours, reference(unet, *arguments))


@pytest.mark.parametrize(
    ("window", "levels"), [(50, 4), (8, 4), (9, 4), (15, 4), (4, 3), (1, 1), (2, 2), (7, 1)]
)
def test_the_layout_by_position_gives_the_same_numbers(window, levels):
    unet = make(3, window, levels)
    noisy, _, items, present = inputs(21, window, 3)
    step = torch.full((21,), 7)
    with torch.no_grad():
        take, condition = unet.serving(items, present)
        assert take == unet.step_by_position
        expected = unet(noisy, step, items, present)
        torch.testing.assert_close(take(noisy, step, *condition), expected, rtol=1e-4, atol=1e-4)
        few, _ = unet.serving(items[:3], present[:3])
        assert few == unet.forward
        with torch.autocast("cpu", torch.bfloat16):
            assert unet.serving(items, present)[0] == unet.forward


def test_the_mlp_reads_the_items_once_for_all_steps():
    torch.manual_seed(0)
    mlp = WindowMLP(3, 8, 16)
    for parameter in mlp.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    noisy, _, items, present = inputs(5, 8, 3, entries=1)
    with torch.no_grad():
        take, condition = mlp.serving(items, present)
        for t in (1, 7):
            step = torch.full((5,), t)
            expected = mlp(noisy, step, items, present)
            torch.testing.assert_close(take(noisy, step, *condition), expected)


def test_published_sizes():
    unet = UNet(4, 50, 4)
    assert [c.weight.out_features for c in unet.down] == [4, 8, 16, 32]
    assert [c.weight.in_features for c in unet.down] == [3 * 8, 3 * 4, 3 * 8, 3 * 16]
    assert STEP_SCALE == 0.01


def test_gradients():
    unet = make(2, 5, 3).double()
    noisy, step, items, present = (t[:2] for t in inputs(3, 5, 2))
    noisy, items = noisy.double().requires_grad_(), items.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda z, x: unet(z, step, x, present), (noisy, items))
    unet(noisy, step, items, present).sum().backward()
    for name, parameter in unet.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


@pytest.mark.parametrize("estimator", [UNet(3, 10, 3), WindowMLP(3, 10, 16)])
def test_estimators_begin_with_no_drift(estimator):
    assert not estimator(*inputs(6, 10, 3, estimator.entries)).any()


def test_unet_does_not_read_noise_in_the_padding():
    unet = make(3, 10, 3)
    noisy, step, items, present = inputs(6, 10, 3)
    other = torch.where(present.unsqueeze(2), noisy, 100.0)
    found = unet(noisy, step, items, present)
    torch.testing.assert_close(unet(other, step, items, present), found)


def test_mlp_reads_noise_step_and_every_item():
    torch.manual_seed(0)
    mlp = WindowMLP(3, 4, 16)
    for parameter in mlp.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    noisy, step, items, _ = inputs(2, 4, 3, entries=1)
    noisy.requires_grad_()
    items.requires_grad_()
    present = torch.ones(2, 4, dtype=torch.bool)
    out = mlp(noisy, step, items, present)
    assert out.shape == (2, 1, 3)
    assert not torch.equal(mlp(noisy, step + 3, items, present), out)
    out.sum().backward()
    assert noisy.grad.ne(0).all()
    assert items.grad.ne(0).all()


def test_waves_are_finite_for_wide_embeddings():
    waves = step_waves(torch.tensor([1, 1000]), wave_frequencies(512))
    assert waves.isfinite().all()
    torch.testing.assert_close(waves[1, 3], torch.sin(torch.tensor(125.0)))


def test_a_window_too_short_for_the_levels_is_refused():
    with pytest.raises(ValueError, match="window of 7 cannot be halved 3 times"):
        UNet(4, 7, 4)
