"""Tiles fit every GPU at every size; which sizes the kernels take, and which they are quick for."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dropdrift.kernels.denoiser.tiles import (
    FIELDS,
    HIDDEN_UNITS,
    WIDTHS,
    Tile,
    chunk_fields,
    forward_tile,
    input_precision,
    out_of_range,
    padded,
    shared_bytes,
    triton_is_faster,
)

SHARED_BYTES = {80: 166_912, 86: 101_376, 90: 232_448, 100: 232_448, 120: 101_376}
BF16 = torch.bfloat16


@given(
    rows=st.integers(1, 300_000),
    fields=st.integers(FIELDS[0], FIELDS[-1]),
    width=st.integers(WIDTHS[0], WIDTHS[-1]),
    hidden=st.integers(HIDDEN_UNITS[0], HIDDEN_UNITS[-1]),
    itemsize=st.sampled_from([2, 4]),
    capability=st.sampled_from(sorted(SHARED_BYTES)),
)
def test_every_size_has_a_tile_that_fits(rows, fields, width, hidden, itemsize, capability):
    tile = forward_tile(rows, fields, width, hidden, itemsize, capability)
    needed = shared_bytes(tile, fields, width, itemsize, capability)
    # Without a second stage the compiler takes less than the bound says.
    assert needed <= SHARED_BYTES[capability] or tile.stages == 1
    assert tile.rows >= 16
    assert tile.hidden >= 16
    assert tile.fields % 32 == 0
    assert all(size & (size - 1) == 0 for size in (tile.rows, tile.hidden, tile.fields))
    assert tile.hidden < 2 * hidden, "a turn for padding alone"


@pytest.mark.parametrize(
    ("rows", "fields", "width", "itemsize", "capability", "expected"),
    [
        (65_536, 200, 128, 2, 90, Tile(128, 64, 64, 8, 2)),
        (4_096, 200, 128, 2, 90, Tile(64, 64, 64, 4, 2)),
        (65_536, 512, 128, 2, 90, Tile(64, 32, 64, 4, 2)),
        (65_536, 200, 256, 2, 90, Tile(128, 32, 32, 8, 2)),
        (4_096, 200, 256, 2, 90, Tile(64, 32, 64, 8, 2)),
        (65_536, 512, 256, 2, 90, Tile(64, 16, 64, 8, 2)),
        (65_536, 200, 128, 4, 90, Tile(32, 16, 64, 8, 2)),
        (65_536, 200, 128, 2, 80, Tile(64, 32, 32, 4, 2)),
        (65_536, 201, 128, 2, 80, Tile(32, 32, 32, 4, 2)),
        (65_536, 200, 128, 2, 86, Tile(64, 32, 32, 4, 2)),
    ],
)
def test_tiles_are_those_that_were_compiled(rows, fields, width, itemsize, capability, expected):
    """What ``tiles.py`` says of registers and shared memory is said of these."""
    assert forward_tile(rows, fields, width, 512, itemsize, capability) == expected


def test_the_bound_is_what_was_compiled() -> None:
    """Read off the kernel at N = 200, Z = 128, with the hidden layer saved."""
    hopper, ampere = Tile(128, 64, 64, 8, 2), Tile(64, 32, 32, 4, 2)
    assert 229_504 <= shared_bytes(hopper, 200, 128, 2, 90) <= 229_504 + 1_024
    assert 79_936 <= shared_bytes(ampere, 200, 128, 2, 80) <= 79_936 + 1_024


def test_a_loop_has_two_turns() -> None:
    assert forward_tile(65_536, 200, 128, 32, 2, 90).hidden == 16
    assert forward_tile(65_536, 200, 128, 100, 2, 90).hidden == 64


@given(fields=st.integers(1, 512), block=st.sampled_from([32, 64, 128]))
def test_chunks_cover_the_fields(fields, block):
    sizes = [chunk_fields(fields, first, block) for first in range(0, fields, block)]
    assert sizes[:-1] == [block] * (len(sizes) - 1)
    assert sum(sizes[:-1]) < fields <= sum(sizes)
    assert sizes[-1] == 32 or sizes[-1] < 2 * (fields - sum(sizes[:-1]))


@pytest.mark.parametrize(("size", "expected"), [(1, 16), (16, 16), (17, 32), (128, 128)])
def test_columns_are_padded_to_what_a_product_takes(size, expected):
    assert padded(size) == expected


@pytest.mark.parametrize(
    ("sizes", "problem"),
    [
        ((1, 16, 32), None),
        ((512, 256, 1024), None),
        ((513, 16, 32), "its kernels take 1 to 512 fields, not 513"),
        ((1, 15, 32), "its kernels take 16 to 256 width, not 15"),
        ((1, 16, 1025), "its kernels take 32 to 1024 hidden units, not 1025"),
    ],
)
def test_sizes_out_of_range_are_named(sizes, problem):
    assert out_of_range(*sizes) == problem


def test_fp32_products_are_as_exact_as_torchs() -> None:
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("highest")
        assert input_precision(torch.float32) == "ieee"
        torch.set_float32_matmul_precision("high")
        assert input_precision(torch.float32) == "tf32"
        assert input_precision(BF16) == "ieee"
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("rows", [1, 512, 4_096, 65_536, 262_144])
def test_narrow_layers_are_for_the_kernels_and_wide_ones_for_torch(rows):
    for hidden in (256, 512):
        assert triton_is_faster(rows, 200, 128, hidden, BF16)
        assert not triton_is_faster(rows, 200, 128, hidden, torch.float32)
    assert not triton_is_faster(rows, 512, 256, 1_024, BF16)
