"""Rates from times: bytes read and written, two operations for each product."""

from __future__ import annotations

import pytest
import torch

from dropdrift.benchmarks.kernels import ceilings
from dropdrift.benchmarks.kernels.ceilings import measure_ceilings


def test_rates_are_those_of_the_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """2 MiB in 2 ms; 2 x 100^3 operations in 2 ms are 1e9 a second."""
    called = []

    def two_milliseconds(call, *_: object) -> float:
        called.append(call())
        return 2.0

    monkeypatch.setattr(ceilings, "_median_ms", two_milliseconds)
    monkeypatch.setattr(ceilings, "COPY_BYTES", {"cpu": 2**20})
    monkeypatch.setattr(ceilings, "MATMUL_SIDE", {"cpu": 100})
    found = measure_ceilings(torch.device("cpu"), ("float32", "bfloat16"), 1.0)
    assert found.copy_gb_per_s == pytest.approx(2 * 2**20 / 2e-3 / 1e9)
    assert [(rate.dtype, rate.tflops) for rate in found.matmul] == [
        ("float32", pytest.approx(1e-3)),
        ("bfloat16", pytest.approx(1e-3)),
    ]
    copied, product, half = called
    assert copied.nbytes == 2**20
    assert torch.equal(copied, torch.ones_like(copied))
    assert product.shape == half.shape == (100, 100)
    assert (product.dtype, half.dtype) == (torch.float32, torch.bfloat16)
