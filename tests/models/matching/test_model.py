import dataclasses

import pytest
import torch
from tests.models.matching.batches import ITEMS, SCHEMA, make_batch

from dropdrift.data.config import SequenceConfig
from dropdrift.models.config import ModelConfig
from dropdrift.models.matching.config import ItemConfig, SASRecConfig, SoftmaxConfig
from dropdrift.models.matching.model import MatchingModel
from dropdrift.models.t2diff.config import DiffusionConfig, SessionConfig, T2DiffConfig

SEQUENCE = SequenceConfig(window=6, stretch=9)
CONFIG = ModelConfig(
    kind="t2diff",
    item=ItemConfig(width=8),
    t2diff=T2DiffConfig(
        next_item="last",
        diffusion=DiffusionConfig(steps=3, window=6, levels=2),
        session=SessionConfig(length=3),
    ),
)
SASREC = dataclasses.replace(CONFIG, kind="sasrec", sasrec=SASRecConfig(dropout=0.0))


def make_model(config=CONFIG, sequence=SEQUENCE):
    torch.manual_seed(0)
    return MatchingModel(SCHEMA, config, sequence, 3, torch.device("cpu"))


@pytest.mark.parametrize("config", [CONFIG, SASREC], ids=["t2diff", "sasrec"])
@pytest.mark.parametrize("item", [ItemConfig(width=8), ItemConfig(width=8, tower="dense")])
def test_the_loss_is_the_mean_over_targets(config, item):
    model = make_model(dataclasses.replace(config, item=item))
    batch = make_batch([0, 3, 9], positions=9)
    loss, parts = model(batch)
    assert not parts["softmax"].requires_grad
    torch.testing.assert_close(parts["softmax"], loss)
    x = model.embed(batch.catalogue)
    users, _ = model.dense.user(x, batch, last_only=False)
    chances = (users @ model.item_vectors(x).T).log_softmax(-1)
    known = batch.targets >= 0
    expected = -chances[known].gather(1, batch.targets[known].unsqueeze(1)).mean()
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("config", [CONFIG, SASREC], ids=["t2diff", "sasrec"])
@pytest.mark.parametrize("training", ["every_position", "one_window"])
def test_users_to_be_served_are_those_of_training(config, training):
    sequence = dataclasses.replace(SEQUENCE, training=training)
    model = make_model(config, sequence).eval()
    batch = make_batch([2, 6], positions=6)
    batch.targets[:, :-1] = -1
    x = model.embed(batch.catalogue)
    users = model.user_vectors(x, batch, noise_seed=0)
    assert not users.requires_grad
    scores = users @ model.item_vectors(x).T
    expected = torch.nn.functional.cross_entropy(scores, batch.targets[:, -1], reduction="sum")
    loss, _ = model(dataclasses.replace(batch, target_share=1.0))
    torch.testing.assert_close(loss, expected)


def test_a_diffusion_adds_its_loss():
    diffusion = dataclasses.replace(CONFIG.t2diff, next_item="diffusion")
    model = make_model(dataclasses.replace(CONFIG, t2diff=diffusion))
    loss, parts = model(make_batch([4, 9], positions=9))
    assert parts["kl"] > 0
    torch.testing.assert_close(loss.detach(), parts["softmax"] + parts["kl"])


def test_parts_of_a_batch_add_up():
    """The mean over two ranks is what one rank has."""
    model = make_model(
        dataclasses.replace(
            CONFIG,
            t2diff=T2DiffConfig(
                next_item="diffusion-joint",
                diffusion=CONFIG.t2diff.diffusion,
                session=SessionConfig(length=3, dropout=0.2),
            ),
        )
    )
    batch = make_batch([2, 9, 5, 4], positions=9)
    whole, _ = model(batch)
    halves = []
    for rows in (slice(0, 2), slice(2, 4)):
        half = dataclasses.replace(
            batch,
            items=batch.items[rows],
            times=batch.times[rows],
            targets=batch.targets[rows],
            target_share=batch.target_share / 2,
            first_row=rows.start,
        )
        halves.append(model(half)[0])
    torch.testing.assert_close(torch.stack(halves).mean(), whole)


@pytest.mark.parametrize("config", [CONFIG, SASREC], ids=["t2diff", "sasrec"])
def test_the_sampled_softmax_and_what_it_reaches(config):
    model = make_model(config, dataclasses.replace(SEQUENCE, negatives=10))
    batch = make_batch([0, 3, 9], positions=9)
    batch = dataclasses.replace(batch, negatives=10, log_expected=torch.full((ITEMS,), -0.5))
    loss, _ = model(batch)
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("config", [CONFIG, SASREC], ids=["t2diff", "sasrec"])
def test_the_full_softmax_trains_every_weight_and_every_item(config):
    model = make_model(config)
    loss, _ = model(make_batch([1, 3, 9], positions=9))
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.abs().sum() > 0, name
    item_id = model.embedding.fields.collection.embedding_bags["item_id"].weight
    assert (item_id.grad.abs().sum(1) > 0).tolist() == [False] + [True] * ITEMS


@pytest.mark.parametrize("config", [CONFIG, SASREC], ids=["t2diff", "sasrec"])
def test_a_batch_without_any_target(config):
    model = make_model(config)
    batch = dataclasses.replace(make_batch([0, 0], positions=9), target_share=1.0)
    loss, _ = model(batch)
    assert loss == 0
    loss.backward()
    for name, parameter in model.dense.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() == 0, name


def test_bfloat16_autocast():
    for config in (CONFIG, SASREC):
        model, batch = make_model(config), make_batch([4, 9], positions=9)
        exact, _ = model(batch)
        with torch.autocast("cpu", torch.bfloat16):
            loss, _ = model(batch)
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss, exact, rtol=0.03, atol=0)
        loss.backward()


@pytest.mark.parametrize(
    ("config", "sequence", "message"),
    [
        (
            dataclasses.replace(CONFIG, softmax=SoftmaxConfig(label_smoothing=0.1)),
            dataclasses.replace(SEQUENCE, negatives=10),
            "label_smoothing is 0.1, which needs the full softmax, but data.sequence.negatives is",
        ),
        (
            dataclasses.replace(SASREC, sasrec=SASRecConfig(max_positions=8)),
            SEQUENCE,
            "data.sequence.stretch is 9, must be at most model.sasrec.max_positions, 8",
        ),
        (
            SASREC,
            SequenceConfig(window=10, stretch=9),
            "data.sequence.window is 10, but SASRec's positions beyond data.sequence.stretch, 9",
        ),
    ],
)
def test_options_that_contradict_each_other(config, sequence, message):
    with pytest.raises(ValueError, match=message):
        make_model(config, sequence)


@pytest.mark.parametrize(
    ("options", "name"), [({"split": "gap"}, "split"), ({"time_lag": True}, "time_lag")]
)
def test_what_needs_times_is_refused_without(options, name):
    session = dataclasses.replace(CONFIG.t2diff.session, **options)
    config = dataclasses.replace(CONFIG, t2diff=dataclasses.replace(CONFIG.t2diff, session=session))
    make_model(config)
    timeless = dataclasses.replace(SCHEMA, has_time=False)
    with pytest.raises(ValueError, match=f"session.{name} needs times, which data set 'films' has"):
        MatchingModel(timeless, config, SEQUENCE, 3, torch.device("cpu"))


@pytest.mark.parametrize("config", [CONFIG, SASREC], ids=["t2diff", "sasrec"])
@pytest.mark.parametrize("negatives", [0, 15])
def test_it_learns_which_item_comes_next(config, negatives):
    model = make_model(config, dataclasses.replace(SEQUENCE, negatives=negatives))
    optimizer = torch.optim.Adam(model.parameters(), 0.03)
    generator = torch.Generator().manual_seed(0)
    for step in range(100 if negatives else 50):
        batch = make_batch([9] * 16, positions=9, seed=step)
        first = torch.randint(0, ITEMS, (16, 1), generator=generator)
        walks = (first + 7 * torch.arange(10)) % ITEMS
        # Other rows each time are the first, of which the negatives are.
        order = torch.randperm(ITEMS, generator=generator)
        catalogue = dataclasses.replace(batch, items=walks[:, :-1], targets=walks[:, 1:])
        batch = permuted(catalogue, order) if negatives else catalogue
        batch = dataclasses.replace(
            batch,
            negatives=negatives or ITEMS,
            log_expected=torch.full((ITEMS,), negatives / ITEMS or 1.0).log(),
        )
        loss, _ = model(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    x = model.embed(catalogue.catalogue)
    scores = model.user_vectors(x, catalogue, 0) @ model.item_vectors(x).T
    assert (scores.argmax(1) == catalogue.targets[:, -1]).float().mean() > 0.9


def permuted(batch, order):
    """The same batch with the rows of its catalogue in another order."""
    at = torch.empty_like(order)
    at[order] = torch.arange(ITEMS)
    bags = batch.catalogue.to_dict()
    values, lengths = [], []
    for bag in bags.values():
        starts = bag.offsets().tolist()
        values += [bag.values()[starts[item] : starts[item + 1]] for item in order.tolist()]
        lengths.append(bag.lengths()[order])
    catalogue = type(batch.catalogue)(
        keys=list(bags), values=torch.cat(values), lengths=torch.cat(lengths)
    )
    return dataclasses.replace(
        batch, catalogue=catalogue, items=at[batch.items], targets=at[batch.targets]
    )
