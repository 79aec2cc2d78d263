"""What the device reaches at best: bandwidth of a copy, rate of matrix products."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from dropdrift.benchmarks.kernels.calls import Call
from dropdrift.benchmarks.kernels.cases.case import DTYPES
from dropdrift.benchmarks.kernels.record import Ceilings, Dtype, MatmulRate
from dropdrift.benchmarks.kernels.timing import Contender, time_in_turn

# Larger than any cache, and large enough for full speed.
COPY_BYTES = {"cpu": 2**29, "cuda": 2**30}
MATMUL_SIDE = {"cpu": 2048, "cuda": 8192}


def measure_ceilings(device: torch.device, dtypes: Sequence[Dtype], seconds: float) -> Ceilings:
    """Time a copy, and a matrix product in each type, and take the median rates."""
    source = torch.ones(COPY_BYTES[device.type] // 4, device=device)
    target = torch.empty_like(source)
    copy_ms = _median_ms(lambda: target.copy_(source), device, seconds)
    rates = tuple(MatmulRate(dtype, _matmul_tflops(device, dtype, seconds)) for dtype in dtypes)
    return Ceilings(2e-6 * source.nbytes / copy_ms, rates)


def _matmul_tflops(device: torch.device, dtype: Dtype, seconds: float) -> float:
    side = MATMUL_SIDE[device.type]
    generator = torch.Generator(device).manual_seed(0)
    factor = torch.randn(side, side, generator=generator, device=device).to(DTYPES[dtype])
    product = torch.empty_like(factor)
    matmul_ms = _median_ms(lambda: torch.mm(factor, factor, out=product), device, seconds)
    return 2e-9 * side**3 / matmul_ms


def _median_ms(call: Call, device: torch.device, seconds: float) -> float:
    call()
    contender = Contender(lambda _: call)
    time_in_turn([contender], seconds, device)
    return contender.timing().median_ms
