import pytest
import torch
import torch.nn.functional as F

from dropdrift.models.matching import softmax
from dropdrift.models.matching.config import SoftmaxConfig
from dropdrift.models.matching.softmax import full_softmax_loss, sampled_softmax_loss


def random_inputs(targets, items, width, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    users = torch.randn(targets, width, generator=generator, dtype=dtype)
    vectors = torch.randn(items, width, generator=generator, dtype=dtype)
    chosen = torch.randint(0, items, (targets,), generator=generator)
    return users.requires_grad_(), vectors.requires_grad_(), chosen


def gradients(loss, *inputs):
    return torch.autograd.grad(loss, inputs)


@pytest.fixture(params=[1, 3, 1000])
def chunk_of(request, monkeypatch):
    """Rows of a chunk, for a number of items."""

    def choose(items):
        per_mebibyte = 4 * items * request.param // SoftmaxConfig().memory_mb
        monkeypatch.setattr(softmax, "MEBIBYTE", per_mebibyte)

    return choose


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_full_softmax_is_cross_entropy(chunk_of, temperature, smoothing):
    chunk_of(13)
    users, items, targets = random_inputs(10, 13, 5)
    config = SoftmaxConfig(temperature=temperature, label_smoothing=smoothing)
    loss = full_softmax_loss(users, items, targets, config)
    expected = F.cross_entropy(
        users @ items.T / temperature, targets, reduction="sum", label_smoothing=smoothing
    )
    torch.testing.assert_close(loss, expected)
    for one, other in zip(
        gradients(3 * loss, users, items), gradients(3 * expected, users, items), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_gradients_numerically(chunk_of):
    chunk_of(6)
    users, items, targets = random_inputs(4, 6, 3)
    log_expected, rows = torch.randn(6, dtype=torch.float64), torch.arange(6)
    config = SoftmaxConfig(temperature=0.7, label_smoothing=0.1)
    torch.autograd.gradcheck(lambda u, i: full_softmax_loss(u, i, targets, config), (users, items))
    torch.autograd.gradcheck(
        lambda u, i: sampled_softmax_loss(u, i, targets, config, 3, log_expected, rows),
        (users, items),
    )


def test_large_scores_do_not_overflow():
    users, items, targets = random_inputs(8, 9, 4, torch.float32)
    loss = full_softmax_loss(users * 1e3, items, targets, SoftmaxConfig())
    torch.testing.assert_close(
        loss, F.cross_entropy(users * 1e3 @ items.T, targets, reduction="sum")
    )


def test_no_target_gives_zero_and_still_reaches_the_inputs():
    users, items, targets = random_inputs(0, 9, 4)
    rows = torch.arange(9)
    for loss in (
        full_softmax_loss(users, items, targets, SoftmaxConfig()),
        sampled_softmax_loss(users, items, targets, SoftmaxConfig(), 3, torch.zeros(9), rows),
    ):
        assert loss == 0
        assert gradients(loss, items)[0].abs().sum() == 0


def test_without_gradients_the_loss_is_the_same():
    users, items, targets = random_inputs(7, 9, 4)
    loss = full_softmax_loss(users, items, targets, SoftmaxConfig())
    with torch.no_grad():
        assert full_softmax_loss(users, items, targets, SoftmaxConfig()) == loss


def test_autocast_multiplies_in_bfloat16_and_adds_in_float32():
    users, items, targets = random_inputs(40, 300, 8, torch.float32)
    expected = full_softmax_loss(users, items, targets, SoftmaxConfig())
    with torch.autocast("cpu", torch.bfloat16):
        loss = full_softmax_loss(users, items, targets, SoftmaxConfig())
    assert loss.dtype == torch.float32
    assert loss != expected
    torch.testing.assert_close(loss, expected, rtol=1e-3, atol=0)
    for one, other in zip(
        gradients(loss, users, items), gradients(expected, users, items), strict=True
    ):
        assert one.dtype == torch.float32
        assert (one - other).norm() < 0.01 * other.norm()


def test_sampled_softmax_against_its_definition(chunk_of):
    negatives = 5
    chunk_of(negatives)
    users, items, targets = random_inputs(20, 9, 4)
    log_expected = torch.linspace(-2, 1, 9, dtype=torch.float64)
    config = SoftmaxConfig(temperature=0.5)
    # Rows 1 and 3 are of one item, and so are 2 and 7.
    identities = torch.tensor([0, 1, 2, 1, 4, 5, 6, 2, 8])
    loss = sampled_softmax_loss(users, items, targets, config, negatives, log_expected, identities)
    expected = torch.zeros((), dtype=torch.float64)
    assert {1, 2, 7} <= set(targets.tolist())  # accidental hits
    for user, target in zip(users, targets, strict=True):
        scores = items @ user / 0.5
        logits = [scores[target]]
        others = [j for j in range(negatives) if identities[j] != identities[target]]
        logits += [scores[j] - log_expected[j] for j in others]
        expected = expected - F.log_softmax(torch.stack(logits), dim=0)[0]
    torch.testing.assert_close(loss, expected)
    for one, other in zip(
        gradients(loss, users, items), gradients(expected, users, items), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_a_sample_of_nothing_but_the_target_costs_nothing():
    users, items, _ = random_inputs(3, 9, 4)
    targets = torch.zeros(3, dtype=torch.int64)
    rows = torch.arange(9)
    loss = sampled_softmax_loss(users, items, targets, SoftmaxConfig(), 1, torch.zeros(9), rows)
    assert loss == 0


def sample(weights, count, replacement, generator):
    """Rows drawn, some several times, and the logarithm of how often each was expected."""
    expected = weights * count / weights.sum()
    if replacement:
        rows = torch.multinomial(weights, count, True, generator=generator)
        return rows, expected[rows].log()
    chances = expected.clamp(max=1)
    rows = (torch.rand(len(weights), generator=generator) < chances).nonzero().squeeze(1)
    return rows, chances[rows].log()


@pytest.mark.parametrize("replacement", [True, False])
def test_many_negatives_approach_the_full_softmax(replacement):
    """With logQ correction, though the sample is far from uniform."""
    users, items, targets = random_inputs(6, 40, 4)
    items = items.detach() * 0.5
    full = full_softmax_loss(users, items, targets, SoftmaxConfig())
    full_gradient = gradients(full, users)[0]
    weights = torch.arange(1.0, 41.0, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    biases, errors = [], []
    for count in (20, 2000):
        losses, found = [], []
        for _ in range(100):
            rows, log_expected = sample(weights, count, replacement, generator)
            # The sample first, then all items, which the targets are among.
            rows = torch.cat([rows, torch.arange(40)])
            loss = sampled_softmax_loss(
                users,
                items[rows],
                targets + len(log_expected),
                SoftmaxConfig(),
                len(log_expected),
                log_expected,
                rows,
            )
            losses.append(loss.detach())
            found.append(gradients(loss, users)[0])
        biases.append(float((torch.stack(losses).mean() - full.detach()).abs()))
        errors.append(float((torch.stack(found).mean(0) - full_gradient).norm()))
    assert errors[1] < 0.1 * errors[0]
    assert biases[1] < 0.01 * full


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_a_temperature_that_is_none_is_refused(temperature):
    with pytest.raises(ValueError, match=f"temperature is {temperature}, must be positive"):
        SoftmaxConfig(temperature=temperature)
