"""Feature dropout as registered operators: compiled, exported, and refused what is wrong."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dropdrift.kernels.feature_dropout import drop_words, mask_features, pack_words

WIDTHS = (4, 8, 4)


def nothing_missing(rows: int, words: int = 1) -> Tensor:
    return torch.zeros(rows, words, dtype=torch.int32)


class Dropout(nn.Module):
    """x_0 to x_T, as training does it."""

    def forward(self, embedded: Tensor, missing: Tensor, step: int) -> tuple[Tensor, Tensor]:
        words = drop_words(missing, len(WIDTHS), seed=2**63 + 5, step=step, first_row=0)
        return mask_features(embedded, words, WIDTHS), words


@pytest.mark.parametrize("backend", ["torch", "reference"])
def test_operators_keep_their_promises(backend):
    drop = torch.ops.dropdrift.drop_words.default
    mask = torch.ops.dropdrift.mask_features.default
    missing = nothing_missing(5)
    for rate in (None, 0.5):
        torch.library.opcheck(drop, (missing, 3, -7, 2, 0, 1.0, rate, backend))
    embedded = torch.randn(5, 16, generator=torch.manual_seed(0), requires_grad=True)
    words = drop(missing, 3, -7, 2, 0, 1.0, None, backend)
    torch.library.opcheck(mask, (embedded, words, WIDTHS, backend))


def test_a_model_compiles_whole_and_gives_the_same():
    model = Dropout()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    generator = torch.manual_seed(0)
    for step, rows in enumerate((6, 6, 9, 2)):
        embedded = torch.randn(rows, 16, generator=generator, requires_grad=True)
        missing = pack_words(torch.rand(rows, 3, generator=generator) < 0.3)
        masked, words = compiled(embedded, missing, step)
        expected_masked, expected_words = model(embedded, missing, step)
        assert torch.equal(words, expected_words)
        assert torch.equal(masked, expected_masked)
        upstream = torch.randn(rows, 16, generator=generator)
        assert torch.equal(
            *(torch.autograd.grad(x, embedded, upstream)[0] for x in (masked, expected_masked))
        )


def test_a_model_exports_with_any_number_of_rows():
    rows = torch.export.Dim("rows")
    embedded, missing = torch.randn(6, 16, generator=torch.manual_seed(0)), nothing_missing(6)
    program = torch.export.export(
        Dropout(),
        (embedded, missing, 3),
        dynamic_shapes=({0: rows}, {0: rows}, None),
    )
    for number in (1, 11):
        embedded = torch.randn(number, 16, generator=torch.manual_seed(number))
        missing = nothing_missing(number)
        for ours, theirs in zip(
            program.module()(embedded, missing, 3), Dropout()(embedded, missing, 3), strict=True
        ):
            assert torch.equal(ours, theirs)


def test_autocast_leaves_the_type():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        masked = mask_features(torch.ones(2, 16), nothing_missing(2), WIDTHS)
    assert masked.dtype == torch.float32


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"missing": nothing_missing(4).long()}, r"missing is torch.int64 \[4, 1\]"),
        ({"missing": nothing_missing(4, words=2)}, r"missing .* need torch.int32 \[rows, 1\]"),
        ({"missing": nothing_missing(4)[0]}, "missing is"),
        ({"fields": 0}, "fields is 0"),
        ({"fields": 33}, r"33 fields need torch.int32 \[rows, 2\]"),
        ({"seed": 2**64}, "seed is 18446744073709551616"),
        ({"seed": -(2**63) - 1}, "seed is"),
        ({"step": -1}, "step is -1"),
        ({"step": 2**32}, "step is 4294967296"),
        ({"first_row": -1}, "first_row is -1"),
        ({"first_row": 2**32 - 3}, "first_row is 4294967293"),
        ({"max_rate": 1.5}, "max_rate is 1.5"),
        ({"max_rate": float("nan")}, "max_rate is nan"),
        ({"rate": -0.1}, "rate is -0.1"),
        ({"backend": "cuda"}, "backend is 'cuda'"),
    ],
)
def test_a_wrong_draw_is_refused_by_name(wrong, named):
    right: dict[str, Any] = {"missing": nothing_missing(4), "fields": 4}
    right |= {"seed": 1, "step": 0, "first_row": 0}
    drop_words(**right)
    with pytest.raises(ValueError, match=named):
        drop_words(**right | wrong)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"embedded": torch.ones(4, 16, dtype=torch.int32)}, "embedded is torch.int32"),
        ({"embedded": torch.ones(4, 15)}, r"embedded is \[4, 15\]"),
        ({"embedded": torch.ones(16)}, r"embedded is \[16\]"),
        ({"words": nothing_missing(4).long()}, "words is torch.int64"),
        ({"words": nothing_missing(4, words=2)}, r"words .* need torch.int32 \[rows, 1\]"),
        ({"words": nothing_missing(3)}, "words has 3 rows, but embedded has 4"),
        ({"words": nothing_missing(4).to("meta")}, "words is on meta, but embedded on cpu"),
        ({"widths": ()}, "widths is empty"),
        ({"widths": (4, 12, 0)}, "widths has 0"),
        ({"widths": (4, 4, 4)}, "add up to 12"),
        ({"backend": "quick"}, "backend is 'quick'"),
    ],
)
def test_a_wrong_masking_is_refused_by_name(wrong, named):
    right: dict[str, Any] = {"embedded": torch.ones(4, 16), "words": nothing_missing(4)}
    right |= {"widths": WIDTHS}
    mask_features(**right)
    with pytest.raises(ValueError, match=named):
        mask_features(**right | wrong)


def test_triton_is_refused_where_it_cannot_run():
    with pytest.raises(ValueError, match="float64"):
        mask_features(
            torch.ones(4, 16, dtype=torch.float64), nothing_missing(4), WIDTHS, backend="triton"
        )
