"""What the operators' arguments must be: a mistake is named before anything is launched."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dropdrift.kernels.feature_dropout.words import word_count

_COUNTER_END = 2**32


def check_draw(
    missing: Tensor,
    fields: int,
    *,
    step: int,
    first_row: int,
    max_rate: float,
    rate: float | None,
) -> None:
    """Check what mask words are drawn from.

    Raises:
        ValueError: a rate outside [0, 1], a step or row outside 32 bits, no fields, or words that
            do not fit them.
    """
    for name, value in (("max_rate", max_rate), ("rate", rate)):
        if value is not None and not 0.0 <= value <= 1.0:
            raise ValueError(f"{name} is {value}, must be in [0, 1]")
    if not 0 <= step < _COUNTER_END:
        raise ValueError(f"step is {step}, must be in [0, 2**32)")
    check_words("missing", missing, fields)
    if not 0 <= first_row < _COUNTER_END:
        raise ValueError(f"first_row is {first_row}, must be in [0, 2**32)")


def check_last_row(first_row: int, rows: int) -> None:
    """Check that all rows can be counted; for where the number of rows is no symbol any more.

    Raises:
        ValueError: the last one is not below 2**32.
    """
    if first_row + rows > _COUNTER_END:
        raise ValueError(f"first_row is {first_row}, so that {rows} rows end beyond row 2**32 - 1")


def check_words(name: str, words: Tensor, fields: int) -> None:
    """Check that packed words are int32 [B, W].

    Raises:
        ValueError: they are not, or there are no fields.
    """
    if fields < 1:
        raise ValueError(f"fields is {fields}, must be at least 1")
    needed = word_count(fields)
    if words.dtype != torch.int32 or words.dim() != 2 or words.shape[1] != needed:
        raise ValueError(
            f"{name} is {words.dtype} {list(words.shape)}, {fields} fields need torch.int32 "
            f"[rows, {needed}]"
        )


def check_beside(name: str, words: Tensor, other_name: str, other: Tensor) -> None:
    """Check that packed words belong to the rows of another tensor.

    Raises:
        ValueError: there are more or fewer, or they are on another device.
    """
    if words.shape[0] != other.shape[0]:
        raise ValueError(f"{name} has {words.shape[0]} rows, but {other_name} has {other.shape[0]}")
    if words.device != other.device:
        raise ValueError(f"{name} is on {words.device}, but {other_name} on {other.device}")


def check_embedded(embedded: Tensor, widths: Sequence[int]) -> None:
    """Check pooled embeddings of fields of these widths.

    Raises:
        ValueError: they are not floating-point [B, sum of widths], or a width is not positive.
    """
    if not widths:
        raise ValueError("widths is empty, there must be at least one field")
    if min(widths) < 1:
        raise ValueError(f"widths has {min(widths)}, a field is at least 1 wide")
    if not embedded.is_floating_point():
        raise ValueError(f"embedded is {embedded.dtype}, must be a floating-point type")
    if embedded.dim() != 2 or embedded.shape[1] != sum(widths):
        raise ValueError(
            f"embedded is {list(embedded.shape)}, fields of widths that add up to {sum(widths)} "
            f"need [rows, {sum(widths)}]"
        )
