from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from dropdrift.kernels.feature_dropout import pack_words, unpack_words
from dropdrift.models.losses import task_loss
from dropdrift.models.methods.config import SSLConfig
from dropdrift.models.methods.self_supervised import SelfSupervised, block_contrast

WIDTHS, Z, SEED, STEP = (4, 8, 4, 4, 8), 6, 5, 3
GROUPS = ("user", "user", "user", "item", "item")


def method(groups=GROUPS, widths=WIDTHS, **options) -> SelfSupervised:
    torch.manual_seed(1)
    return SelfSupervised(groups, widths, Z, SSLConfig(**options), SEED)


def test_the_hidden_half_is_of_the_seeds_group_first():
    groups = ("user",) * 4 + ("item",) * 6
    hidden = method(groups, (1,) * 10).hidden_half(4000, STEP, 0)
    assert (hidden.sum(dim=1) == 5).all()
    users, items = hidden[:, :4].sum(dim=1), hidden[:, 4:].sum(dim=1)
    # A user's field is the seed in 4 of 10 rows: then all 4 are hidden, and one of the items'.
    seed_is_user = users == 4
    assert (items[seed_is_user] == 1).all()
    assert (items[~seed_is_user] == 5).all()
    assert abs(seed_is_user.float().mean() - 0.4) < 0.03
    assert (hidden.float().mean(dim=0) - torch.tensor([0.4] * 4 + [0.567] * 6)).abs().max() < 0.03


def test_with_one_group_the_half_is_any():
    hidden = method(("context",) * 6, (1,) * 6).hidden_half(4000, STEP, 0)
    assert (hidden.sum(dim=1) == 3).all()
    assert len(hidden.unique(dim=0)) == 20  # of 6 fields, 3


def test_views_hide_the_half_and_the_rest_of_what_is_there(batch):
    base, embedded, missing, labels = batch
    model = method()
    seen = []
    extract = base.extract
    base.extract = lambda x: seen.append(x) or extract(x)
    model.losses(base, embedded, missing, labels, STEP, 0)
    clean, one, other = seen[0].chunk(3)
    assert torch.equal(clean, embedded)
    torch.testing.assert_close(one + other, embedded)
    columns = torch.tensor(WIDTHS)
    hidden = model.hidden_half(32, STEP, 0).repeat_interleave(columns, dim=1)
    there = ~unpack_words(missing, 5).repeat_interleave(columns, dim=1)
    assert torch.equal(one != 0, there & ~hidden)
    assert torch.equal(other != 0, there & hidden)


def test_the_loss_is_the_contrast_of_the_projections_beside_the_task(batch):
    base, embedded, missing, labels = batch
    model = method(weight=0.4, temperature=0.5, block_rows=64)
    total, parts = model.losses(base, embedded, missing, labels, STEP, 0)
    columns = torch.tensor(WIDTHS)
    hidden = model.hidden_half(32, STEP, 0).repeat_interleave(columns, dim=1)
    u, v = (model.projection(base.extract(embedded * keep)) for keep in (~hidden, hidden))
    scores = F.cosine_similarity(u.unsqueeze(1), v.unsqueeze(0), dim=2) / 0.5
    contrast = F.cross_entropy(scores, torch.arange(32))
    torch.testing.assert_close(parts["contrastive"], contrast.detach())
    main = task_loss(base.head(base.extract(embedded)), labels)
    torch.testing.assert_close(total, main + 0.4 * contrast)


@pytest.mark.parametrize(("rows", "first_row"), [(20, 0), (16, 24), (5, 6), (3, 17), (19, 5)])
def test_negatives_are_the_rows_of_the_global_batchs_block(rows, first_row):
    generator = torch.manual_seed(0)
    u, v = torch.randn(2, rows, 4, generator=generator, dtype=torch.float64)
    expected = []
    for row in range(rows):
        block = (first_row + row) // 8
        others = [j for j in range(rows) if (first_row + j) // 8 == block]
        scores = torch.stack([F.cosine_similarity(u[row], v[j], dim=0) / 0.3 for j in others])
        expected.append(scores.logsumexp(0) - scores[others.index(row)])
    actual = block_contrast(u, v, 0.3, first_row, 8)
    torch.testing.assert_close(actual.double(), torch.stack(expected).mean(), rtol=1e-5, atol=1e-6)


def test_a_vector_of_zeros_and_a_row_alone_give_finite_gradients():
    u, v = torch.zeros(9, 4, requires_grad=True), torch.zeros(9, 4, requires_grad=True)
    loss = block_contrast(u, v, 0.1, 0, 8)  # the ninth row has no negatives
    for gradient in torch.autograd.grad(loss, (u, v)):
        assert torch.isfinite(gradient).all()


def test_views_of_rows_without_features_are_alike(batch):
    base, embedded, _, labels = batch
    everything = pack_words(torch.ones(32, 5, dtype=torch.bool))
    model = method(block_rows=32)
    _, parts = model.losses(base, embedded * 0, everything, labels, STEP, 0)
    torch.testing.assert_close(parts["contrastive"], torch.tensor(32.0).log())
