import dataclasses
import shutil

import pytest
import torch
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from dropdrift.data.batch import SequenceBatch
from dropdrift.models.noise import RowNoise
from dropdrift.models.t2diff.config import DiffusionConfig, T2DiffConfig
from dropdrift.models.t2diff.next_item import NextItem

WIDTH, ROWS, LENGTH, WINDOW = 3, 5, 12, 8
LENGTHS = (12, 7, 3, 1, 0)  # items of each row
ESTIMATED = ("diffusion", "diffusion-joint", "regression")


def make(kind="diffusion", randomise=True, **options):
    options = {"window": WINDOW, "levels": 3, "steps": 5, "hidden_width": 16, **options}
    torch.manual_seed(0)
    model = NextItem(T2DiffConfig(kind, DiffusionConfig(**options)), WIDTH, seed=2)
    if randomise:
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def make_batch(rows, target_share=1.0, step=4, first_row=0):
    none = torch.empty(0, dtype=torch.int64)
    return SequenceBatch(
        KeyedJaggedTensor.empty(), none, none, none, target_share, 0, none, first_row, step, rows
    )


def inputs(requires_grad=False):
    generator = torch.Generator().manual_seed(1)
    every = torch.randn(ROWS, LENGTH + 1, WIDTH, generator=generator)
    present = torch.arange(LENGTH) >= LENGTH - torch.tensor(LENGTHS).unsqueeze(1)
    sequence = (every[:, :-1] * present.unsqueeze(2)).requires_grad_(requires_grad)
    target = every[:, 1:].clone().requires_grad_(requires_grad)
    return sequence, present, target, present.clone()


@pytest.mark.parametrize("estimator", ["unet", "mlp"])
@pytest.mark.parametrize("last_only", [True, False])
@pytest.mark.parametrize("kind", [*ESTIMATED, "last", "constant", "none"])
def test_shapes_and_no_nan_with_empty_histories(kind, last_only, estimator):
    model = make(kind, estimator=estimator)
    sequence, present, target, has_target = inputs(requires_grad=True)
    x_hat, loss = model(sequence, present, target, has_target, make_batch(ROWS), last_only)
    served = model.serve(sequence, present, RowNoise(0, 0, 0))
    assert loss.shape == ()
    assert loss.isfinite()
    assert (loss > 0) == (kind in ESTIMATED)
    if kind == "none":
        assert x_hat is None
        assert served is None
        return
    assert x_hat.shape == (ROWS, 1 if last_only else LENGTH, WIDTH)
    assert served.shape == (ROWS, WIDTH)
    assert x_hat.isfinite().all()
    assert served.isfinite().all()
    if kind in ESTIMATED:
        assert not x_hat[4].any()
        assert not served[4].any()
        loss.backward()
        assert all(p.grad.isfinite().all() for p in model.parameters())
    if kind == "last":
        torch.testing.assert_close(x_hat, sequence[:, -1:] if last_only else sequence)
    if kind == "constant":
        assert torch.equal(served, model.constant.expand(ROWS, WIDTH))


@pytest.mark.parametrize("estimator", ["unet", "mlp"])
@pytest.mark.parametrize("kind", ESTIMATED)
def test_gradients_stop_where_they_should(kind, estimator):
    model = make(kind, estimator=estimator)
    sequence, present, target, has_target = inputs(requires_grad=True)
    x_hat, loss = model(sequence, present, target, has_target, make_batch(ROWS), False)
    joint = kind == "diffusion-joint"
    # The diffusion's loss reaches the embeddings only if joint, and the estimator always.
    assert all(p.grad is None for p in model.parameters())
    loss.backward(retain_graph=True)
    assert (sequence.grad is not None and target.grad is not None) == joint
    blind = "noisy.weight" if kind == "regression" else None  # the MLP's, for a z_t that is 0
    for name, parameter in model.estimator.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any() == (name != blind), name
    # The tower's loss reaches the estimator and the embeddings through x_hat only if joint.
    assert x_hat.requires_grad == joint
    if joint:
        sequence.grad = None
        model.zero_grad()
        x_hat.sum().backward()
        assert sequence.grad.any()
        assert all(p.grad is not None and p.grad.any() for p in model.estimator.parameters())


@pytest.mark.parametrize("last_only", [True, False])
@pytest.mark.parametrize("estimator", ["unet", "mlp"])
@pytest.mark.parametrize("norm", ["squared", "plain"])
def test_loss_is_the_mean_over_known_drifts_of_each_window(last_only, estimator, norm):
    # The estimator as it begins says 0, so the errors are the drifts themselves.
    model = make(randomise=False, estimator=estimator, kl_norm=norm, kl_weight=0.5)
    sequence, present, target, has_target = inputs()
    has_target[0, 5] = False
    _, loss = model(sequence, present, target, has_target, make_batch(ROWS, 2.0), last_only)
    expected = 0.0
    for row, length in enumerate(LENGTHS):
        for end in range(LENGTH - 1 if last_only else LENGTH - length, LENGTH):
            if not has_target[row, end]:
                continue
            first = max(LENGTH - length, end - WINDOW + 1)
            drifts = target[row, first : end + 1] - sequence[row, first : end + 1]
            norms = drifts.norm(dim=1) ** (2 if norm == "squared" else 1)
            expected += norms[-1] if estimator == "mlp" else norms.mean()
    torch.testing.assert_close(loss, 0.5 * expected / 2.0)


def test_only_the_last_target_of_a_window_is_read():
    # Evaluation and one-window rows have no other; within the window the items say what came next.
    model = make()
    sequence, present, target, has_target = inputs()
    _, loss = model(sequence, present, target, has_target, make_batch(ROWS), True)
    only_last = has_target.clone()
    only_last[:, :-1] = False
    target[:, :-1] = torch.nan
    _, other = model(sequence, present, target, only_last, make_batch(ROWS), True)
    assert torch.equal(loss, other)


@pytest.mark.parametrize("kind", ESTIMATED)
@pytest.mark.parametrize("drift", [True, False])
def test_x_hat_is_the_newest_item_and_its_estimated_drift(kind, drift):
    model = make(kind, drift=drift, randomise=False)
    torch.nn.init.ones_(model.estimator.output.bias)
    sequence, present, target, has_target = inputs()
    x_hat, _ = model(sequence, present, target, has_target, make_batch(ROWS), False)
    served = model.serve(sequence, present, RowNoise(0, 0, 0))
    expected = (sequence * drift + 1) * present.unsqueeze(2)
    torch.testing.assert_close(x_hat, expected)
    torch.testing.assert_close(served, expected[:, -1])


def test_regression_is_the_same_network_without_noise():
    model, drawn = make("regression"), make("diffusion")
    assert [p.shape for p in model.parameters()] == [p.shape for p in drawn.parameters()]
    sequence, present, target, has_target = inputs()
    first, _ = model(sequence, present, target, has_target, make_batch(ROWS, step=1), True)
    second, _ = model(sequence, present, target, has_target, make_batch(ROWS, step=2), True)
    assert torch.equal(first, second)
    torch.testing.assert_close(model.serve(sequence, present, RowNoise(9, 0, 0)), first[:, 0])


def test_an_estimate_from_noise_has_not_seen_the_target():
    sequence, present, target, has_target = inputs()
    seen = {}
    for estimate in ("noised", "noise"):
        model = make(training_estimate=estimate)
        outcomes = [
            model(sequence, present, t, has_target, make_batch(ROWS), True)[0]
            for t in (target, -target)
        ]
        seen[estimate] = not torch.equal(*outcomes)
    assert seen == {"noised": True, "noise": False}


def test_scale_is_undone_in_x_hat():
    # With no signal at all in the noise, what is left is the mapping there and back.
    model = make(randomise=False, scale=4.0)
    torch.nn.init.ones_(model.estimator.output.bias)
    sequence, present, target, has_target = inputs()
    x_hat, loss = model(sequence, present, target, has_target, make_batch(ROWS), True)
    torch.testing.assert_close(x_hat[:4, 0], sequence[:4, -1] + 0.25)
    unscaled = make(randomise=False)
    torch.nn.init.constant_(unscaled.estimator.output.bias, 0.25)
    _, other = unscaled(sequence, present, target, has_target, make_batch(ROWS), True)
    torch.testing.assert_close(loss, 16 * other)


@pytest.mark.parametrize("estimator", ["unet", "mlp"])
def test_padding_on_the_left_changes_nothing(estimator):
    model = make(estimator=estimator)
    sequence, present, target, has_target = inputs()
    longer = [
        torch.cat([torch.zeros_like(t[:, :3]), t], 1)
        for t in (sequence, present, target, has_target)
    ]
    shorter = (sequence, present, target, has_target)
    x_hat, loss = model(*shorter, make_batch(ROWS), True)
    other, other_loss = model(*longer, make_batch(ROWS), True)
    torch.testing.assert_close(x_hat, other)
    torch.testing.assert_close(loss, other_loss)
    noise = RowNoise(0, 0, 0)
    served = model.serve(longer[0], longer[1], noise)
    torch.testing.assert_close(model.serve(*shorter[:2], noise), served)
    # Nor does what happens to stand in the padding, or rows around.
    sequence = torch.where(present.unsqueeze(2), sequence, 50.0)
    torch.testing.assert_close(model.serve(sequence, present, noise), served)
    torch.testing.assert_close(
        model.serve(sequence[2:], present[2:], RowNoise(0, 0, 2)), served[2:]
    )


@pytest.mark.parametrize("kind", ["diffusion", "diffusion-joint"])
@pytest.mark.parametrize("last_only", [True, False])
def test_ranks_together_are_one(kind, last_only):
    model = make(kind, training_estimate="noise")
    arguments = inputs()
    x_hat, loss = model(*arguments, make_batch(ROWS, 2.0), last_only)
    parts = [
        model(*(t[cut] for t in arguments), make_batch(2, 2.0, first_row=first), last_only)
        for first, cut in ((0, slice(0, 2)), (2, slice(2, 5)))
    ]
    torch.testing.assert_close(torch.cat([part[0] for part in parts]), x_hat)
    torch.testing.assert_close(parts[0][1] + parts[1][1], loss)


def test_a_rank_without_targets_takes_part_with_zero_gradients():
    model = make()
    sequence, present, target, has_target = inputs()
    x_hat, loss = model(sequence, present, target, has_target & False, make_batch(ROWS), False)
    assert loss == 0
    assert not x_hat.any()
    loss.backward()
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


@pytest.mark.parametrize("estimator", ["unet", "mlp"])
@pytest.mark.parametrize("kind", ["diffusion", "regression"])
@pytest.mark.parametrize("size", [1, 16, 23, 100])
def test_serving_a_few_rows_at_a_time_is_the_reference(kind, estimator, size):
    model = make(kind, estimator=estimator)
    model.estimator.serving_rows = size
    sequence, present, *_ = (tensor.repeat_interleave(10, 0) for tensor in inputs())
    served = model.serve(sequence, present, RowNoise(3, 0, 5))
    expected = model.reference(sequence, present, RowNoise(3, 0, 5))
    torch.testing.assert_close(served, expected, rtol=1e-4, atol=1e-5)
    assert model.serve(sequence[:0], present[:0], RowNoise(3, 0, 5)).shape == (0, WIDTH)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles for a CPU with g++")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.timeout(200)
def test_a_compiled_step_is_the_reference():
    model = make(estimator="mlp")
    model.compile_serving()
    sequence, present, *_ = inputs()
    served = model.serve(sequence, present, RowNoise(3, 0, 0))
    expected = model.reference(sequence, present, RowNoise(3, 0, 0))
    torch.testing.assert_close(served, expected, rtol=1e-4, atol=1e-5)


def test_trajectory_has_an_estimate_for_every_step_and_the_true_drift():
    model = make(steps=7, sampling_steps=3)
    sequence, present, target, _ = inputs()
    found = model.trajectory(sequence, present, target[:, -1], RowNoise(0, 0, 0))
    assert found.steps.tolist() == [7, 4, 1]
    assert found.estimates.shape == (3, ROWS, WIDTH)
    torch.testing.assert_close(found.truth, target[:, -1] - sequence[:, -1])
    served = model.serve(sequence, present, RowNoise(0, 0, 0))
    torch.testing.assert_close((sequence[:, -1] + found.estimates[-1])[:4], served[:4])
    for kind in ("regression", "last"):
        with pytest.raises(ValueError, match=f"next_item is {kind}"):
            make(kind).trajectory(sequence, present, target[:, -1], RowNoise(0, 0, 0))


@pytest.mark.parametrize("estimator", ["unet", "mlp"])
def test_a_deterministic_drift_is_learnt_and_sampled(estimator):
    # Items go round a circle: the drift is a rotation of the newest item.
    model = make(estimator=estimator, randomise=False, window=4, levels=2, steps=10, kl_weight=1.0)
    generator = torch.Generator().manual_seed(0)
    angle = 6.28 * torch.rand(64, 1, generator=generator) + 0.7 * torch.arange(6)
    circle = torch.stack([angle.cos(), angle.sin(), torch.zeros_like(angle)], 2)
    sequence, target = circle[:, :-1], circle[:, 1:]
    present = torch.ones(64, 5, dtype=torch.bool)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for step in range(300):
        batch = make_batch(64, 64.0, step=step)
        _, loss = model(sequence, present, target, present, batch, True)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-20:]) < 0.1 * sum(losses[:20])
    x_hat = model.serve(sequence, present, RowNoise(1, 0, 0))
    drift = (target - sequence)[:, -1].square().sum(1).mean()
    assert (x_hat - target[:, -1]).square().sum(1).mean() < 0.1 * drift


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"window": 7}, "window is 7"),
        ({"levels": 9}, "cannot be halved 8 times"),
        ({"beta_first": float("nan")}, "beta_first is nan"),
        ({"beta_last": float("nan")}, "beta_last is nan"),
        ({"beta_last": 1.0}, "beta_last is 1.0"),
        ({"beta_first": 0.95}, "beta_last is 0.9"),
        ({"kl_weight": float("nan")}, "kl_weight is nan"),
        ({"kl_weight": float("inf")}, "kl_weight is inf"),
        ({"scale": 0.0}, "scale is 0.0"),
        ({"scale": float("nan")}, "scale is nan"),
        ({"sampling_steps": 51}, "sampling_steps is 51"),
        ({"sampling_steps": -1}, "sampling_steps is -1"),
    ],
)
def test_impossible_options_are_refused(options, name):
    with pytest.raises(ValueError, match=name):
        dataclasses.replace(DiffusionConfig(), **options)
