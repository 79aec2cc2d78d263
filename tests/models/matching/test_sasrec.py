import dataclasses

import pytest
import torch
from tests.models.matching.batches import ITEMS, cut, make_batch

from dropdrift.models.matching.config import SASRecConfig
from dropdrift.models.matching.sasrec import SASRec


def make_tower(width=8, output_width=8, **options):
    torch.manual_seed(0)
    config = SASRecConfig(**{"max_positions": 12, **options})
    return SASRec(config, width, output_width, 0.0, seed=5)


def embeddings(width=8):
    return torch.randn(ITEMS, width, generator=torch.Generator().manual_seed(2)).requires_grad_()


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize(("width", "output_width"), [(4, 4), (8, 16), (64, 64)])
def test_no_position_sees_a_later_one(width, output_width, norm):
    tower, batch = (
        make_tower(width, output_width, norm=norm).eval(),
        make_batch([3, 10, 0], positions=10),
    )
    x = embeddings(width)
    users, losses = tower(x, batch, last_only=False)
    assert losses == {}
    assert users.shape == (3, 10, output_width)
    assert users.isfinite().all()
    later = batch.items.clone()
    later[:, 6:] = 7
    changed, _ = tower(x, dataclasses.replace(batch, items=later), last_only=False)
    torch.testing.assert_close(changed[1, :6], users[1, :6])
    assert (changed[1, 6:] - users[1, 6:]).abs().amin() > 0
    last, _ = tower(x, batch, last_only=True)
    torch.testing.assert_close(last, users[:, -1:])
    torch.testing.assert_close(tower.serve(x, batch, 0), users[:, -1])


def test_padding_does_not_matter():
    tower, batch = make_tower().eval(), make_batch([4, 4], positions=9)
    x = embeddings()
    users, _ = tower(x, batch, last_only=False)
    short, _ = tower(x, cut(batch, 9, 4), last_only=False)
    torch.testing.assert_close(short, users[:, 5:])
    other = dataclasses.replace(batch, catalogue=batch.catalogue, items=batch.items.clone())
    other.items[:, :5] = -1
    torch.testing.assert_close(tower(x, other, last_only=False)[0], users)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_one_block_by_hand(norm):
    tower, batch = make_tower(blocks=1, norm=norm, heads=1).eval(), make_batch([3], positions=3)
    x, block = embeddings(), tower.blocks[0]
    sequence = x[batch.items[0]] + tower.positions[[2, 1, 0]]
    before = block.norm_attention(sequence) if norm == "pre" else sequence
    queries, keys, values = block.qkv(before).chunk(3, dim=1)
    attended = torch.zeros(3, 8)
    for at in range(3):
        shares = (keys[: at + 1] @ queries[at] / 8**0.5).softmax(0)
        attended[at] = shares @ values[: at + 1]
    after = sequence + block.merge(attended)
    if norm == "pre":
        inner = block.narrow(torch.nn.functional.gelu(block.widen(block.norm_feed_forward(after))))
        expected = tower.norm(after + inner)
    else:
        after = block.norm_attention(after)
        inner = block.narrow(torch.nn.functional.gelu(block.widen(after)))
        expected = block.norm_feed_forward(after + inner)
    torch.testing.assert_close(tower(x, batch, last_only=False)[0][0], expected)


def test_order_matters():
    tower, batch = make_tower().eval(), make_batch([6], positions=6)
    swapped = batch.items.clone()
    swapped[0, [1, 2]] = swapped[0, [2, 1]]
    users = tower.serve(embeddings(), batch, 0)
    assert (tower.serve(embeddings(), dataclasses.replace(batch, items=swapped), 0) != users).any()


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_every_weight_learns_and_dropout_belongs_to_the_row(norm):
    tower, batch = (
        make_tower(output_width=16, dropout=0.3, norm=norm),
        make_batch([4, 12, 9], positions=12),
    )
    x = embeddings()
    users, _ = tower(x, batch, last_only=False)
    weights = torch.randn(users.shape, generator=torch.Generator().manual_seed(4))
    (users * weights).sum().backward()
    for name, parameter in tower.named_parameters():
        assert parameter.grad.abs().sum() > 0, name
    part = dataclasses.replace(batch, items=batch.items[2:], first_row=2)
    torch.testing.assert_close(tower(x, part, last_only=False)[0], users[2:])
    later = dataclasses.replace(batch, step=1)
    assert not torch.equal(tower(x, later, last_only=False)[0], users)


def test_heads_that_do_not_divide_the_width():
    with pytest.raises(ValueError, match=r"heads is 3, which does not divide model\.item\.width"):
        make_tower(heads=3)
