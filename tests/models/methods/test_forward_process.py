"""Blocks in the forward process: which fields of which rows, how often, and on which ranks."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from dropdrift.data.schema import Encoding, Field, FieldGroup, Schema, Table
from dropdrift.kernels.feature_dropout import drop_words, mask_features, pack_words, unpack_words
from dropdrift.models.config import ModelConfig
from dropdrift.models.methods.config import (
    AsymDiffRecConfig,
    BlockDropConfig,
    FeatureDropoutConfig,
    FeatureMaskConfig,
)
from dropdrift.models.methods.forward_process import ForwardProcess, blocks_of
from dropdrift.models.methods.make import make_method

GROUPS: tuple[FieldGroup, ...] = ("user", "user", "item", "item", "context")
IDENTIFIERS = (True, False, True, False, False)
WIDTHS, SEED, STEP, ROWS = (4, 8, 4, 4, 8), 5, 3, 4096
RATES = BlockDropConfig(user=0.3, item=0.2, identifiers=0.1)
MISSING = pack_words(torch.tensor([[False] * 4 + [True]])).expand(ROWS, 1)


def schema(groups=GROUPS, identifiers=IDENTIFIERS) -> Schema:
    names = [f"field{number}" for number in range(len(WIDTHS))]
    fields = (
        Field(name, "categorical", name, group, identifier)
        for name, group, identifier in zip(names, groups, identifiers, strict=True)
    )
    tables = (
        Table(name, 20, width, Encoding("hash")) for name, width in zip(names, WIDTHS, strict=True)
    )
    return Schema("small", tuple(fields), tuple(tables), labels=("click",))


def process(rates: BlockDropConfig = RATES, seed: int = SEED) -> ForwardProcess:
    return ForwardProcess(WIDTHS, seed, 1.0, blocks=blocks_of(schema(), rates))


def drawn(of: ForwardProcess, rows: int = ROWS, first_row: int = 0, step: int = STEP):
    """The fields that rows lack, bool [rows, N]."""
    embedded = torch.ones(rows, sum(WIDTHS))
    dropped, words = of.drop(embedded, MISSING[:rows], step, first_row)
    assert torch.equal(dropped, mask_features(embedded, words, WIDTHS))
    return unpack_words(words, len(WIDTHS))


@pytest.mark.parametrize(
    ("name", "fields"),
    [("user", (1, 1, 0, 0)), ("item", (0, 0, 1, 1)), ("identifiers", (1, 0, 1, 0))],
)
def test_a_lost_block_is_all_that_a_row_loses_and_others_are_as_without_blocks(name, fields):
    rate = 0.3
    flags = drawn(process(dataclasses.replace(BlockDropConfig(), **{name: rate})))
    without = drawn(process(BlockDropConfig()))
    lost = (flags != without).any(dim=1)
    # What is missing anyway stays so.
    assert torch.equal(flags[lost], torch.tensor([[*fields, 1]]).bool().expand(int(lost.sum()), -1))
    # Some rows lose the very fields of the block anyway: 1 time in 5 * (4 over 2).
    by_chance = (without == torch.tensor([*fields, 1]).bool()).all(dim=1).float().mean().item()
    assert by_chance == pytest.approx(1 / 30, abs=0.01)
    assert lost.float().mean() == pytest.approx(rate * (1 - by_chance), abs=0.02)


def test_each_block_is_drawn_on_its_own():
    # Without other drops: what is gone are blocks.
    flags = drawn(dataclasses.replace(process(), max_drop_rate=1e-6))
    user, item = flags[:, :2].all(dim=1), flags[:, 2:4].all(dim=1)
    identifiers = flags[:, 0] & flags[:, 2]
    whole = {"user": user, "item": item}
    for name, rows in whole.items():
        assert rows.float().mean() == pytest.approx(getattr(RATES, name), abs=0.02)
    assert (user & item).float().mean() == pytest.approx(0.3 * 0.2, abs=0.012)
    assert (identifiers & ~user & ~item).float().mean() == pytest.approx(0.1 * 0.7 * 0.8, abs=0.012)


def test_ranks_and_slices_change_no_block_and_steps_and_seeds_do():
    whole = drawn(process())
    parts = [drawn(process(), rows=64, first_row=first) for first in (0, 64, 128)]
    assert torch.equal(torch.cat(parts), whole[:192])
    assert not torch.equal(drawn(process(), step=STEP + 1), whole)
    assert not torch.equal(drawn(process(seed=SEED + 1)), whole)


def test_backends_drop_the_same_blocks():
    ours = drawn(process())
    assert torch.equal(drawn(dataclasses.replace(process(), backend="reference")), ours)


def test_blocks_that_would_be_all_fields_or_none_are_left_out():
    everything = BlockDropConfig(user=0.5, item=0.5, identifiers=0.5)
    names = [block.members for block in blocks_of(schema(), everything)]
    assert names == [
        (True, True, False, False, False),
        (False, False, True, True, False),
        IDENTIFIERS,
    ]
    assert not blocks_of(schema(("user",) * 5, (True,) * 5), everything)
    assert not blocks_of(schema(("context",) * 5, (False,) * 5), everything)
    assert not blocks_of(schema(), BlockDropConfig())


def test_methods_of_one_seed_drop_the_same_blocks():
    config = ModelConfig(
        asymdiffrec=AsymDiffRecConfig(max_drop_rate=1.0, blocks=RATES),
        feature_mask=FeatureMaskConfig(max_drop_rate=1.0, blocks=RATES),
        feature_dropout=FeatureDropoutConfig(max_drop_rate=1.0, blocks=RATES),
    )
    first, *others = (
        make_method(schema(), dataclasses.replace(config, method=kind), SEED).forward_process
        for kind in ("asymdiffrec", "feature_mask", "feature_dropout")
    )
    for other in others:
        assert torch.equal(drawn(first), drawn(other))
    assert not torch.equal(drawn(first), drawn(process(BlockDropConfig())))


def test_without_blocks_the_words_are_the_papers():
    flags = drawn(process(BlockDropConfig()))
    words = drop_words(MISSING, len(WIDTHS), seed=SEED, step=STEP, first_row=0)
    assert torch.equal(flags, unpack_words(words, len(WIDTHS)))


@pytest.mark.parametrize("name", ["user", "item", "identifiers"])
@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_impossible_rates_are_refused(name, rate):
    with pytest.raises(ValueError, match=f"blocks.{name} is {rate}, must be at least 0"):
        BlockDropConfig(**{name: rate})
