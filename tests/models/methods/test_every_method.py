"""What holds of every method around the base model."""

from __future__ import annotations

import dataclasses
from typing import get_args

import pytest
import torch

from dropdrift.data.schema import Encoding, Field, Schema, Table
from dropdrift.kernels.feature_dropout import pack_words
from dropdrift.models.config import DCNv2Config, ModelConfig
from dropdrift.models.methods.config import MethodKind, SSLConfig
from dropdrift.models.methods.make import make_method
from dropdrift.models.ranking import RankingModel

KINDS = get_args(MethodKind)
WIDTHS, Z, SEED = (4, 8, 4, 4, 8), 6, 5
# The parts of each method's loss beside the task's, and those of them that the head learns from.
PARTS = {
    "base": set(),
    "asymdiffrec": {"reconstruction", "auxiliary"},
    "cdae": {"reconstruction"},
    "multivae": {"reconstruction", "divergence"},
    "ssl": {"contrastive"},
    "diffrec": {"diffusion"},
    "feature_mask": {"masked"},
    "feature_dropout": set(),
}
LEAVE_THE_HEAD = ("cdae", "ssl", "diffrec")
# What pays for the task: z grows and with it the error, and a latent vector that tells something.
MAY_RISE = {"asymdiffrec": {"reconstruction"}, "multivae": {"divergence"}}

every_method = pytest.mark.parametrize("kind", KINDS)


def schema() -> Schema:
    names = [f"field{number}" for number in range(len(WIDTHS))]
    return Schema(
        "small",
        fields=tuple(
            Field(name, "categorical", name, "user" if number < 3 else "item")
            for number, name in enumerate(names)
        ),
        tables=tuple(
            Table(name, 20, width, Encoding("hash"))
            for name, width in zip(names, WIDTHS, strict=True)
        ),
        labels=("click", "like"),
    )


def configuration(kind: MethodKind) -> ModelConfig:
    return ModelConfig(
        method=kind,
        tasks=("click", "like"),
        dcnv2=DCNv2Config(deep_widths=(8,), z_width=Z),
        ssl=SSLConfig(block_rows=16),
    )


def method(kind: MethodKind, shaken: bool = True):
    """Shaken: no parameter is zero, as after some steps; a decoder that begins at zero hides h."""
    torch.manual_seed(1)
    made = make_method(schema(), configuration(kind), SEED)
    if shaken:
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return made


def test_each_method_is_told_of():
    assert set(PARTS) == set(KINDS)


@every_method
def test_the_loss_falls_in_all_its_parts(batch, kind):
    base, embedded, missing, labels = batch
    model = method(kind, shaken=False)
    parameters = [*base.parameters(), *model.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=0.02)
    history = []
    for step in range(60):
        total, parts = model.losses(base, embedded.detach(), missing, labels, step, 0)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        assert all(torch.isfinite(part) for part in parts.values())
        history.append(parts | {"total": total.detach()})
    assert {"main", *PARTS[kind]} <= history[0].keys()
    for name in {"main", "total", *PARTS[kind]} - MAY_RISE.get(kind, set()):
        first, last = ([h[name] for h in some] for some in (history[:10], history[-10:]))
        assert sum(last) < 0.9 * sum(first), name


@every_method
def test_a_loss_is_the_mean_over_the_parts_of_a_global_batch(batch, kind):
    """So two ranks, each with half of the rows, have the losses and gradients of one."""
    base, embedded, missing, labels = batch
    model = method(kind)

    def losses(rows: slice):
        return model.losses(
            base, embedded[rows], missing[rows], labels[rows], step=7, first_row=64 + rows.start
        )

    whole, parts = losses(slice(0, 32))
    halves = [losses(slice(0, 16)), losses(slice(16, 32))]
    torch.testing.assert_close(whole, (halves[0][0] + halves[1][0]) / 2)
    for name in ("main", *PARTS[kind]):
        mean = (halves[0][1][name] + halves[1][1][name]) / 2
        torch.testing.assert_close(parts[name], mean)
    leaves = [embedded, *base.parameters(), *model.parameters()]
    expected = torch.autograd.grad(whole, leaves, retain_graph=True)
    actual = torch.autograd.grad((halves[0][0] + halves[1][0]) / 2, leaves)
    for ours, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


@every_method
def test_what_is_drawn_depends_on_seed_step_and_row_alone(batch, kind):
    base, embedded, missing, labels = batch
    model = method(kind)

    def loss(step, first_row=0, model=model):
        torch.rand(3)
        return model.losses(base, embedded, missing, labels, step, first_row)[0].item()

    assert loss(4) == loss(4)
    torch.manual_seed(1)
    other = make_method(schema(), configuration(kind), SEED + 1)
    other.load_state_dict(model.state_dict())
    different = [loss(5), loss(4, first_row=32), loss(4, model=other)]
    assert all((value == loss(4)) == (kind == "base") for value in different)


@every_method
def test_every_parameter_and_the_embeddings_learn(batch, kind):
    """A parameter without a gradient would stop DistributedDataParallel."""
    base, embedded, missing, labels = batch
    model = method(kind)
    total, _ = model.losses(base, embedded, missing, labels, 1, 0)
    total.backward()
    for name, parameter in [*base.named_parameters(), *model.named_parameters()]:
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    assert embedded.grad.abs().sum() > 0


@every_method
def test_missing_labels_count_nothing(batch, kind):
    """A task without labels teaches its head nothing, and labels of rows are masked in every part
    that has labels."""
    base, embedded, missing, labels = batch
    model = method(kind)

    def head_gradient(labels):
        total, parts = model.losses(base, embedded, missing, labels, 1, 0)
        assert torch.isfinite(total)
        assert all(torch.isfinite(part) for part in parts.values())
        return torch.autograd.grad(total, base.tower.weight)[0]

    whole = head_gradient(labels)
    unlabelled = labels.clone()
    unlabelled[:, 1] = torch.nan
    gradient = head_gradient(unlabelled)
    torch.testing.assert_close(gradient[0], whole[0])
    assert (gradient[1] == 0).all()
    rows = torch.arange(len(labels)) % 2 == 0
    first, second = labels.clone(), labels.clone()
    first[rows], second[~rows] = torch.nan, torch.nan
    torch.testing.assert_close(head_gradient(first) + head_gradient(second), whole)


@pytest.mark.parametrize("kind", LEAVE_THE_HEAD)
def test_the_head_learns_from_the_task_on_clean_rows_alone(batch, kind):
    base, embedded, missing, labels = batch
    total, _ = method(kind).losses(base, embedded, missing, labels, 1, 0)
    plain, _ = method("base").losses(base, embedded, missing, labels, 1, 0)
    parameters = list(base.tower.parameters())
    expected = torch.autograd.grad(plain, parameters)
    for ours, theirs in zip(torch.autograd.grad(total, parameters), expected, strict=True):
        torch.testing.assert_close(ours, theirs)


@every_method
def test_losses_in_bf16_are_about_those_in_fp32(batch, kind):
    base, embedded, missing, labels = batch
    model = method(kind)
    expected, parts = model.losses(base, embedded, missing, labels, 1, 0)
    with torch.autocast("cpu", torch.bfloat16):
        total, rounded = model.losses(base, embedded, missing, labels, 1, 0)
    torch.testing.assert_close(total.float(), expected, rtol=0.03, atol=0.01)
    assert parts.keys() == rounded.keys()
    assert all(part.dtype == torch.float32 for part in rounded.values())
    total.backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


@every_method
@pytest.mark.parametrize("gone", [False, True])
def test_serving_is_finite_with_everything_there_and_nothing(batch, kind, gone):
    base, embedded, _, _ = batch
    flags = torch.full((32, len(WIDTHS)), gone)
    with torch.no_grad():
        z = base.extract(embedded * (not gone))
        logits = base.head(method(kind).eval().serve(z, pack_words(flags)))
    assert logits.shape == (32, 2)
    assert torch.isfinite(logits).all()


@every_method
def test_rows_without_any_feature_or_label_train_finitely(batch, kind):
    base, embedded, _, labels = batch
    everything = pack_words(torch.ones(32, len(WIDTHS), dtype=torch.bool))
    nothing = torch.zeros_like(embedded, requires_grad=True)
    model = method(kind)
    total, _ = model.losses(base, nothing, everything, torch.full_like(labels, torch.nan), 1, 0)
    leaves = [nothing, *base.extractor.parameters(), *model.parameters()]
    for gradient in torch.autograd.grad(total, leaves, allow_unused=True):
        assert gradient is None or torch.isfinite(gradient).all()


def test_runs_of_one_seed_begin_with_the_same_base_whatever_the_method():
    def weights(kind):
        torch.manual_seed(SEED)
        model = RankingModel(schema(), configuration(kind), SEED, torch.device("cpu"))
        kept = model.dense.state_dict()
        return {name: tensor for name, tensor in kept.items() if not name.startswith("method")}

    expected = weights("base")
    assert expected
    for kind in KINDS:
        actual = weights(kind)
        assert actual.keys() == expected.keys()
        assert all(torch.equal(actual[name], expected[name]) for name in expected), kind


def test_the_weights_of_one_method_are_not_those_of_another():
    """By names or shapes, as a checkpoint is judged; but those without weights are alike."""

    def described(kind):
        made = make_method(schema(), configuration(kind), SEED)
        return {name: tensor.shape for name, tensor in made.state_dict().items()}

    with_weights = [kind for kind in KINDS if described(kind)]
    assert set(KINDS) - set(with_weights) == {"base", "feature_mask", "feature_dropout"}
    for one in with_weights:
        assert [kind for kind in KINDS if described(kind) == described(one)] == [one]


@pytest.mark.parametrize(
    ("section", "options", "message"),
    [
        ("cdae", {"weight": 0.0}, "model.cdae.weight is 0.0, must be positive"),
        ("cdae", {"corruption": 1.0}, "model.cdae.corruption is 1.0, must be at least 0 and less"),
        ("multivae", {"weight": -1.0}, "model.multivae.weight is -1.0, must be positive"),
        ("multivae", {"kl_weight": -0.1}, "model.multivae.kl_weight is -0.1, must be at least 0"),
        ("multivae", {"anneal_steps": -1}, "model.multivae.anneal_steps is -1"),
        ("multivae", {"hidden_width": 0}, "model.multivae.hidden_width is 0"),
        ("ssl", {"weight": float("nan")}, "model.ssl.weight is nan, must be positive and finite"),
        ("ssl", {"temperature": 0.0}, "model.ssl.temperature is 0.0, must be positive"),
        ("ssl", {"projection_width": 0}, "model.ssl.projection_width is 0"),
        ("ssl", {"block_rows": 1}, "model.ssl.block_rows is 1, must be at least 2"),
        ("diffrec", {"weight": 0.0}, "model.diffrec.weight is 0.0"),
        ("diffrec", {"steps": 0}, "model.diffrec.steps is 0, must be at least 1"),
        ("diffrec", {"noise_first": 0.0}, "model.diffrec.noise_first is 0.0, must be between 0"),
        ("diffrec", {"noise_last": 1.0}, "model.diffrec.noise_last is 1.0, must be between 0"),
        ("diffrec", {"noise_first": 0.6}, "noise_last is 0.5, must not be less than noise_first"),
        ("diffrec", {"hidden_width": 0}, "model.diffrec.hidden_width is 0"),
        ("diffrec", {"step_width": 3}, "model.diffrec.step_width is 3, must be even"),
        ("feature_mask", {"weight": 0.0}, "model.feature_mask.weight is 0.0"),
        ("feature_mask", {"max_drop_rate": 0.0}, r"feature_mask.max_drop_rate is 0.0, must be in"),
        ("feature_dropout", {"max_drop_rate": 1.5}, "feature_dropout.max_drop_rate is 1.5"),
    ],
)
def test_options_that_make_no_sense_are_refused_in_one_line(section, options, message):
    with pytest.raises(ValueError, match=message) as raised:
        dataclasses.replace(getattr(ModelConfig(), section), **options)
    assert "\n" not in str(raised.value)
