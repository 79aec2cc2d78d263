import pytest
import torch
import torch.nn.functional as F

from dropdrift.models.t2diff.config import SessionConfig
from dropdrift.models.t2diff.session import SessionEncoder, masked_softmax, session_lengths


def random_inputs(present, width=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    present = torch.tensor(present, dtype=torch.bool)
    x = torch.randn(*present.shape, width, generator=generator) * present.unsqueeze(2)
    return x, present, torch.randn(*present.shape, width, generator=generator)


def make_encoder(completed, **options):
    torch.manual_seed(0)
    encoder = SessionEncoder(SessionConfig(**options), 8, completed)
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return encoder


def test_split_by_count():
    present = torch.ones(2, 5, dtype=torch.bool)
    config = SessionConfig(length=3)
    every = session_lengths(present, torch.zeros(2, 5, dtype=torch.int64), config, False)
    assert every.tolist() == [[3] * 5] * 2
    assert session_lengths(present, torch.zeros(2, 5), config, True).tolist() == [[3], [3]]


def test_split_by_gap():
    times = torch.tensor([[0, 0, 100, 105, 200, 209, 219, 220, 221, 222]])
    present = torch.tensor([[False, False] + [True] * 8])
    config = SessionConfig(split="gap", gap=10, length=3)
    lengths = session_lengths(present, times, config, False)[0, 2:]
    # 100 and 105; 200 and 209; from 219 on, three at most.
    assert lengths.tolist() == [3, 3, 1, 2, 1, 2, 3, 3]
    assert session_lengths(present, times, config, True).tolist() == [[3]]


def test_a_gap_beyond_all_times_is_refused():
    with pytest.raises(ValueError, match=r"session\.gap is .*, must be at most"):
        SessionConfig(split="gap", gap=2**63)


def test_masked_softmax():
    scores = torch.tensor([[1.0, 5.0, 2.0], [1.0, 2.0, 3.0]], requires_grad=True)
    mask = torch.tensor([[True, False, True], [False] * 3])
    shares = masked_softmax(scores, mask)
    expected = torch.tensor([1.0, 2.0]).softmax(0)
    torch.testing.assert_close(shares[0], torch.tensor([expected[0], 0, expected[1]]))
    assert shares[1].tolist() == [0, 0, 0]
    shares.square().sum().backward()
    assert scores.grad.isfinite().all()


PRESENT = [[False] * 6, [False] * 5 + [True], [False] * 2 + [True] * 4, [True] * 6]


@pytest.mark.parametrize("completed", [False, True])
def test_mean(completed):
    x, present, x_hat = random_inputs(PRESENT)
    encoder = make_encoder(completed, encoder="mean", length=3)
    lengths = torch.tensor([3, 3, 2, 3]).unsqueeze(1).expand(4, 6)
    h = encoder(x, present, lengths, x_hat if completed else None, False)
    for row in range(4):
        for at in range(6):
            first = max(0, at + 1 - int(lengths[row, at]))
            session = x[row, first : at + 1][present[row, first : at + 1]]
            expected = torch.zeros(8)
            if len(session):
                entries = [*session, x_hat[row, at]] if completed else [*session]
                expected = torch.stack(entries).mean(0)
            torch.testing.assert_close(h[row, at], expected)


def test_mean_with_learned_recency():
    x, present, x_hat = random_inputs(PRESENT)
    encoder = make_encoder(True, encoder="mean", length=3, recency_bias=True)
    lengths = torch.full((4, 1), 3)
    h = encoder(x, present, lengths, x_hat[:, -1:], True)
    shares = encoder.recency.softmax(0)  # of the newest first, x_hat's last
    expected = shares[:3].flip(0) @ x[3, 3:] + shares[3] * x_hat[3, -1]
    torch.testing.assert_close(h[3, 0], expected)
    shares = encoder.recency[[0, 3]].softmax(0)
    torch.testing.assert_close(h[1, 0], shares[0] * x[1, 5] + shares[1] * x_hat[1, -1])
    assert h[0].abs().sum() == 0
    h.sum().backward()
    assert encoder.recency.grad.abs().min() > 0


def published_layer(encoder, entries):
    """The transformer over one session [E, d], one head and one entry at a time."""
    layer, (count, width) = encoder.layer, entries.shape
    queries, keys, values = layer.project(entries).chunk(3, dim=1)
    attended = torch.zeros(count, width)
    half = width // 2
    for head in (slice(0, half), slice(half, width)):
        for at in range(count):
            others = [other for other in range(count) if other != at]
            if others:
                scores = keys[others][:, head] @ queries[at, head] / half**0.5
                attended[at, head] = scores.softmax(0) @ values[others][:, head]
    inner = F.layer_norm(
        entries + layer.merge(attended),
        (width,),
        layer.norm_attention.weight,
        layer.norm_attention.bias,
    )
    output = inner + layer.feed_forward(inner)
    norm = layer.norm_output
    return F.layer_norm(output, (width,), norm.weight, norm.bias).mean(0)


@pytest.mark.parametrize("completed", [False, True])
@pytest.mark.parametrize("last_only", [False, True])
def test_transformer(completed, last_only):
    x, present, x_hat = random_inputs(PRESENT)
    encoder = make_encoder(completed, length=3)
    first = 5 if last_only else 0
    lengths = torch.tensor([3, 3, 2, 3]).unsqueeze(1).expand(4, 6)[:, first:]
    h = encoder(x, present, lengths, x_hat[:, first:] if completed else None, last_only)
    for row in range(4):
        for at in range(first, 6):
            begin = max(0, at + 1 - int(lengths[row, at - first]))
            session = x[row, begin : at + 1][present[row, begin : at + 1]]
            expected = torch.zeros(8)
            if len(session):
                entries = [*session, x_hat[row, at]] if completed else [*session]
                expected = published_layer(encoder, torch.stack(entries))
            torch.testing.assert_close(h[row, at - first], expected, atol=1e-5, rtol=1e-5)


def test_every_weight_of_the_transformer_learns():
    x, present, x_hat = random_inputs(PRESENT)
    encoder = make_encoder(True, length=3, recency_bias=True)
    h = encoder(x, present, torch.full((4, 6), 3), x_hat, False)
    (h * torch.randn(h.shape, generator=torch.Generator().manual_seed(3))).sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name
