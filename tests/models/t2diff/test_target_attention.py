import pytest
import torch

from dropdrift.models.t2diff import band_scores
from dropdrift.models.t2diff.config import SessionConfig
from dropdrift.models.t2diff.target_attention import TargetAttention, lag_buckets

WINDOW = 5


def make_attention(width=6, **options):
    torch.manual_seed(0)
    attention = TargetAttention(SessionConfig(length=2, **options), width, WINDOW).double()
    for parameter in attention.parameters():
        torch.nn.init.normal_(parameter)
    return attention


def random_inputs(rows=3, positions=9, width=6):
    generator = torch.Generator().manual_seed(0)
    present = torch.arange(positions) >= torch.tensor([positions, 6, 0])[:rows].unsqueeze(1)
    x = torch.randn(rows, positions, width, generator=generator, dtype=torch.float64)
    x = x * present.unsqueeze(2)
    session = torch.randn(rows, positions, width, generator=generator, dtype=torch.float64)
    times = torch.randint(0, 10**6, (rows, positions), generator=generator).cumsum(1)
    lengths = torch.randint(1, 4, (rows, positions), generator=generator)
    return x.requires_grad_(), present, times, session.requires_grad_(), lengths


def reference(attention, x, present, times, session, lengths):
    """Eqs. 20 and 21 as they are written, four-way concat included, one position at a time."""
    rows, positions, _ = x.shape
    results = []
    for row in range(rows):
        for at in range(positions):
            h = session[row, at]
            before = [
                j
                for j in range(max(0, at + 1 - WINDOW), at + 1 - int(lengths[row, at]))
                if present[row, j]
            ]
            if not before:
                results.append(torch.zeros_like(h))
                continue
            scores = []
            for j in before:
                four = torch.cat([x[row, j], x[row, j] - h, x[row, j] * h, h])
                score = attention.out @ (attention.weight @ four + attention.bias).relu()
                if attention.recency is not None:
                    score = score + attention.recency[at - j]
                if attention.time_lag is not None:
                    bucket = int(times[row, at] - times[row, j]).bit_length()
                    score = score + attention.time_lag[bucket]
                scores.append(score)
            results.append(torch.stack(scores).softmax(0) @ x[row, before])
    return torch.stack(results).view(x.shape)


@pytest.mark.parametrize("options", [{}, {"recency_bias": True, "time_lag": True}])
def test_it_equals_the_four_way_concat(options):
    attention = make_attention(**options)
    inputs = random_inputs()
    history = attention(*inputs, last_only=False)
    expected = reference(attention, *inputs)
    torch.testing.assert_close(history, expected)
    assert history[0].abs().sum() == 0  # no item at all
    weights = torch.randn(history.shape, generator=torch.Generator().manual_seed(4))
    wanted = [inputs[0], inputs[3], *attention.parameters()]
    found = torch.autograd.grad((history * weights).sum(), wanted)
    for one, other in zip(
        found, torch.autograd.grad((expected * weights).sum(), wanted), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_the_last_position_alone():
    attention = make_attention(recency_bias=True, time_lag=True)
    x, present, times, session, lengths = random_inputs()
    every = attention(x, present, times, session, lengths, last_only=False)
    last = attention(x, present, times, session[:, -1:], lengths[:, -1:], last_only=True)
    torch.testing.assert_close(last[:, 0], every[:, -1])


@pytest.mark.parametrize("width", [4, 16, 64])
def test_widths(width):
    attention = make_attention(width, attention_hidden=3)
    inputs = random_inputs(width=width)
    torch.testing.assert_close(attention(*inputs, last_only=False), reference(attention, *inputs))


def test_lag_buckets():
    numbers = torch.tensor([0, 1, 2, 3, 4, 1023, 1024, -5, 2**62])
    assert lag_buckets(numbers).tolist() == [0, 1, 2, 2, 3, 10, 11, 3, 63]


@pytest.mark.parametrize("block_positions", [1, 4, 100])
@pytest.mark.parametrize("block_bytes", [1, 2000, 10**9])
@pytest.mark.parametrize("asking", [1, 9])
def test_blocks_do_not_matter(monkeypatch, block_positions, block_bytes, asking):
    x, _, _, session, _ = random_inputs()
    attention = make_attention()
    before = torch.arange(9 - asking, 9).unsqueeze(1) - torch.arange(9)
    seen = ((before >= 0) & (before < WINDOW)).double()
    weights = torch.randn(3, asking, 9, dtype=torch.float64) * seen
    wanted = [x, session, attention.weight, attention.bias, attention.out]

    def results():
        scores = attention.scores(x, session[:, 9 - asking :]) * weights
        return scores, torch.autograd.grad(scores.sum(), wanted)

    scores, found = results()
    monkeypatch.setattr(band_scores, "BLOCK_POSITIONS", block_positions)
    monkeypatch.setitem(band_scores.BLOCK_BYTES, "cpu", block_bytes)
    in_blocks, found_in_blocks = results()
    torch.testing.assert_close(in_blocks, scores)
    torch.testing.assert_close(found_in_blocks, found)


def test_gradients_numerically():
    x, _, _, session, _ = random_inputs(rows=2, positions=4, width=3)
    generator = torch.Generator().manual_seed(1)
    plain, product, offset, out = (
        torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()
        for shape in ((2, 3), (2, 3), (2, 4, 2), (2,))
    )
    before = torch.arange(4).unsqueeze(1) - torch.arange(4)
    seen = (before >= 0) & (before < 2)
    torch.autograd.gradcheck(
        lambda *inputs: band_scores.band_scores(*inputs, window=2) * seen,
        (x, session, plain, product, offset, out),
    )
