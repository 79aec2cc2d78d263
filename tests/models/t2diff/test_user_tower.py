import dataclasses

import pytest
import torch
from tests.models.matching.batches import ITEMS, cut, make_batch

from dropdrift.models.t2diff.config import DiffusionConfig, SessionConfig, T2DiffConfig
from dropdrift.models.t2diff.user_tower import T2DiffTower

WINDOW = 8
DIFFUSION = DiffusionConfig(steps=3, window=WINDOW, levels=2, hidden_width=8, estimator="mlp")


def make_tower(next_item="last", width=8, output_width=8, item_dropout=0.0, **options):
    torch.manual_seed(0)
    session = SessionConfig(**{"length": 3, **options})
    config = T2DiffConfig(next_item=next_item, diffusion=DIFFUSION, session=session)
    tower = T2DiffTower(config, width, output_width, WINDOW, item_dropout, seed=5)
    for parameter in tower.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return tower


def embeddings(width=8):
    generator = torch.Generator().manual_seed(2)
    return torch.randn(ITEMS, width, generator=generator).requires_grad_()


VARIANTS = [
    {"next_item": "none"},
    {"next_item": "last", "encoder": "mean"},
    {"next_item": "constant", "split": "gap", "gap": 1000},
    {"next_item": "last", "encoder": "mean", "recency_bias": True, "time_lag": True},
    {"next_item": "last", "split": "gap", "gap": 1000, "time_lag": True, "user_layers": 2},
    {"next_item": "none", "user_layers": -1, "output_width": 16},
    {"next_item": "regression", "encoder": "mean", "next_item_into": "user"},
    {
        "encoder": "mean",
        "next_item_into": "both",
        "input_norm": True,
        "user_layers": 1,
        "user_residual": True,
        "output_norm": True,
    },
    {"next_item_into": "user", "user_layers": -1, "output_width": 24},
    {"next_item": "last", "width": 4, "output_width": 4},
    {"next_item": "last", "width": 16, "output_width": 6},
    {"next_item": "last", "width": 64, "output_width": 64, "attention_hidden": 16},
]


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_each_position_is_the_last_one_of_its_window(options):
    """What makes training on every position the same as training on one window each."""
    tower = make_tower(**options)
    x = embeddings(options.get("width", 8))
    batch = make_batch([0, 1, 3, 9, 14], positions=14)
    users, _ = tower(x, batch, last_only=False)
    assert users.isfinite().all()
    for end in range(1, 15):
        before = cut(batch, end, WINDOW)
        last, _ = tower(x, before, last_only=True)
        there = before.items[:, -1] >= 0
        torch.testing.assert_close(last[there, 0], users[there, end - 1], atol=1e-4, rtol=1e-4)
        served = tower.serve(x, before, noise_seed=0)
        torch.testing.assert_close(served[there], last[there, 0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_padding_on_the_left_does_not_matter(options):
    tower = make_tower(**options)
    x = embeddings(options.get("width", 8))
    batch = make_batch([7, 7, 7], positions=7)
    padded = dataclasses.replace(
        batch,
        **{
            name: torch.cat([torch.full((3, 4), fill), getattr(batch, name)], dim=1)
            for name, fill in (("items", -1), ("targets", -1), ("times", 0))
        },
    )
    torch.testing.assert_close(
        tower(x, padded, last_only=False)[0][:, 4:],
        tower(x, batch, last_only=False)[0],
        atol=1e-4,
        rtol=1e-4,
    )


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_a_user_without_items_has_a_finite_vector(options):
    tower = make_tower(**options)
    x = embeddings(options.get("width", 8))
    batch = make_batch([0, 0], positions=WINDOW)
    served = tower.serve(x, batch, noise_seed=1)
    assert served.isfinite().all()
    assert torch.equal(served[0], served[1])


@pytest.mark.parametrize("next_item", ["diffusion", "diffusion-joint"])
def test_the_diffusion_is_served_by_its_noise(next_item):
    tower = make_tower(next_item)
    x, batch = embeddings(), make_batch([0, 5, 8], positions=WINDOW)
    one = tower.serve(x, batch, noise_seed=1)
    assert torch.equal(one, tower.serve(x, batch, noise_seed=1))
    other = tower.serve(x, batch, noise_seed=2)
    assert torch.equal(one[0], other[0])
    assert not torch.equal(one[1], other[1])
    later = dataclasses.replace(batch, step=9)
    assert torch.equal(one, tower.serve(x, later, noise_seed=1))


def test_a_row_is_the_same_in_any_part_of_the_batch():
    """Noise and dropout included: what makes training independent of the number of ranks."""
    tower = make_tower("diffusion-joint", item_dropout=0.3, dropout=0.3)
    x, batch = embeddings(), make_batch([4, 9, 2, 9], positions=9)
    users, losses = tower(x, batch, last_only=False)
    part = dataclasses.replace(
        batch,
        items=batch.items[2:],
        times=batch.times[2:],
        targets=batch.targets[2:],
        first_row=2,
    )
    first = dataclasses.replace(
        batch, items=batch.items[:2], times=batch.times[:2], targets=batch.targets[:2]
    )
    one, kl = tower(x, part, last_only=False)
    torch.testing.assert_close(one, users[2:])
    _, other_kl = tower(x, first, last_only=False)
    torch.testing.assert_close(kl["kl"] + other_kl["kl"], losses["kl"])
    later, _ = tower(x, dataclasses.replace(batch, step=1), last_only=False)
    assert not torch.equal(later, users)


def test_dropout_is_for_training_only():
    tower = make_tower(item_dropout=0.3, dropout=0.3)
    x, batch = embeddings(), make_batch([4, 9], positions=9)
    plain = make_tower()
    assert not torch.equal(tower(x, batch, False)[0], plain(x, batch, False)[0])
    assert torch.equal(tower.eval()(x, batch, False)[0], plain(x, batch, False)[0])


@pytest.mark.parametrize("next_item", ["none", "last", "constant", "regression", "diffusion"])
@pytest.mark.parametrize("encoder", ["mean", "transformer"])
def test_every_weight_learns(next_item, encoder):
    options = {"input_norm": True, "next_item_into": "both", "user_residual": True}
    tower = make_tower(next_item, encoder=encoder, recency_bias=True, time_lag=True, **options)
    x, batch = embeddings(), make_batch([4, 9, 14], positions=14)
    users, losses = tower(x, batch, last_only=False)
    weights = torch.randn(users.shape, generator=torch.Generator().manual_seed(4))
    ((users * weights).sum() + losses["kl"]).backward()
    for name, parameter in tower.named_parameters():
        assert parameter.grad is not None, name
        if next_item == "regression" and "estimator" in name:
            continue  # which has no noisy drift to look at
        assert parameter.grad.abs().sum() > 0, name
    assert x.grad.isfinite().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 3}, "session.heads is 3, which does not divide model.item.width, 8"),
        ({"user_layers": -1}, "user_layers is -1, .*model.item.vector_width 16"),
        ({"next_item_into": "user", "user_layers": -1, "output_width": 16}, "vector_width 24"),
        ({"user_layers": -1, "output_width": 16, "user_residual": True}, "no network to add it"),
        ({"length": 9}, "session.length is 9, must be at most data.sequence.window, 8"),
    ],
)
def test_options_that_contradict_each_other(options, message):
    with pytest.raises(ValueError, match=message):
        make_tower(**options)


def test_a_diffusion_that_sees_more_than_serving_is_refused():
    with pytest.raises(ValueError, match=r"diffusion\.window is 9, must be at most data"):
        T2DiffTower(
            T2DiffConfig(diffusion=dataclasses.replace(DIFFUSION, window=9)), 8, 8, WINDOW, 0.0, 0
        )
    last = T2DiffConfig(
        next_item="last",
        diffusion=dataclasses.replace(DIFFUSION, window=9),
        session=SessionConfig(length=3),
    )
    T2DiffTower(last, 8, 8, WINDOW, 0.0, 0)


def test_x_hat_goes_where_it_is_sent():
    """Into the session it changes what the history is asked for; into the network alone not."""
    x, batch = embeddings(), make_batch([9, 14], positions=14)
    inputs = {}
    for where in ("session", "user", "both"):
        tower = make_tower(
            "last",
            encoder="mean",
            next_item_into=where,
            user_layers=-1,
            output_width=8 * parts(where),
        )
        inputs[where], _ = tower(x, batch, last_only=True)
    alone = make_tower("none", encoder="mean", user_layers=-1, output_width=16)
    without, _ = alone(x, batch, last_only=True)
    torch.testing.assert_close(inputs["user"][..., :16], without)
    torch.testing.assert_close(inputs["user"][:, 0, 16:], x[batch.items[:, -1]])
    torch.testing.assert_close(inputs["both"][..., :16], inputs["session"])
    assert not torch.allclose(inputs["session"], without)


def parts(where):
    return 2 if where == "session" else 3
