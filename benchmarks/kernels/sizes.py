"""Sizes at which the kernels are measured, by name or given. Needs no torch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from dropdrift.data.typed_mapping import suggestion

_GIVEN = re.compile(r"(\d+)x(\d+)x(\d+)x(\d+)", re.ASCII)


@dataclass(frozen=True)
class Size:
    """What the operators work on.

    Attributes:
        rows: B.
        fields: N.
        width: Z, the width of z.
        hidden: H, the denoiser's hidden units.
    """

    rows: int
    fields: int = 200
    width: int = 128
    hidden: int = 256

    def __str__(self) -> str:
        return f"{self.rows}x{self.fields}x{self.width}x{self.hidden}"


# AsymDiffRec of the paper has 200 fields; z and the hidden layer are a deep part's usual widths.
NAMED = {
    "cpu": (Size(32_768),),
    "serving": (Size(64), Size(512), Size(4_096)),
    "training": (Size(16_384), Size(65_536)),
    "report": tuple(
        Size(rows, hidden=hidden)
        for hidden in (256, 512)
        for rows in (4_096, 16_384, 65_536, 262_144)
    ),
}


def parse_sizes(texts: Sequence[str]) -> tuple[Size, ...]:
    """The sizes of named lists and given ones, each once.

    Args:
        texts: names of lists, or sizes as ROWSxFIELDSxWIDTHxHIDDEN.

    Raises:
        ValueError: neither a list nor a size, or a size with a zero in it.
    """
    sizes: dict[Size, None] = {}
    for text in texts:
        sizes |= dict.fromkeys(NAMED[text] if text in NAMED else [_parse(text)])
    return tuple(sizes)


def _parse(text: str) -> Size:
    match = _GIVEN.fullmatch(text)
    if match is None:
        raise ValueError(
            f"sizes has {text!r}, must be one of {', '.join(NAMED)} or ROWSxFIELDSxWIDTHxHIDDEN, "
            f"such as {Size(4_096)}{suggestion(text, NAMED)}"
        )
    numbers = [int(number) for number in match.groups()]
    if 0 in numbers:
        raise ValueError(f"sizes has {text!r}, must be positive numbers")
    return Size(*numbers)
