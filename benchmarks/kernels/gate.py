"""Whether what a provider computes is right: no speed is told of what is not.

Masks come from different random numbers, so what is checked of them is their distribution; outputs
are checked against float64 for the very mask that was drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dropdrift.benchmarks.kernels.cases.case import Verdict
from dropdrift.benchmarks.kernels.record import Dtype

# Largest relative error of an output or a gradient, in the Euclidean norm.
TOLERANCES: dict[Dtype, float] = {"float32": 2e-6, "bfloat16": 1e-2, "float16": 1.5e-3}
# One row may be off by so many times that, in parts of the mean row.
ROW_FACTOR = 5
# A unit next to zero may fall on either side of relu's kink, as its rounding goes. That is no
# fault, but each one changes a row's gradient by about a tenth.
KINK_TOLERANCES: dict[Dtype, float] = {"float32": 2e-2, "bfloat16": 8e-2, "float16": 3e-2}
KINK_ROW_TOLERANCE = 0.9

# The mean share dropped is this many standard deviations off at most: 2e-9 of all seeds are more.
DEVIATIONS = 6.0
# How unlikely the spread of T may be, and into how many bins it is counted.
LEAST_PROBABILITY = 1e-8
BINS = 20
LEAST_IN_A_BIN = 10

TINY = 1e-300


def check_mask(missing: Tensor, flags: Tensor) -> Verdict:
    """Whether T is uniform over the present fields of each row, and missing fields stay missing.

    Args:
        missing: bool [B, N].
        flags: bool [B, N], missing or dropped.

    Returns:
        The error is that of the mean share dropped.
    """
    if bool((missing & ~flags).any()):
        return Verdict(1.0, 0.0, "a missing field is not in the mask")
    present = (~missing).sum(dim=1)
    rows = present > 0
    if not bool(rows.any()):
        return Verdict(0.0, 0.0)
    dropped = (flags & ~missing)[rows].sum(dim=1).double()
    present = present[rows].double()
    error = abs(float((dropped / present).mean()) - 0.5)
    # T on {0..n} has the variance n (n + 2) / 12.
    deviation = float(((present + 2) / (12 * present)).mean() / len(present)) ** 0.5
    probability = uniformity(dropped, present)
    uneven = f"the numbers of dropped fields are not uniform, p = {probability:.1g}"
    return Verdict(error, DEVIATIONS * deviation, uneven if probability < LEAST_PROBABILITY else "")


def uniformity(dropped: Tensor, present: Tensor) -> float:
    """How likely numbers T, uniform on {0..n} in each row, are spread as unevenly as these.

    (T + u) / (n + 1) with u uniform in [0, 1) is uniform whatever n is; its counts in equal bins
    give a chi-square.
    """
    bins = min(BINS, len(dropped) // LEAST_IN_A_BIN)
    if bins < 2:
        return 1.0
    generator = torch.Generator().manual_seed(0)
    u = torch.rand(len(dropped), generator=generator, dtype=torch.float64).to(dropped.device)
    counts = torch.histc((dropped + u) / (present + 1), bins=bins, min=0.0, max=1.0)
    expected = len(dropped) / bins
    chi_square = ((counts - expected).square() / expected).sum()
    degrees = torch.tensor((bins - 1) / 2, dtype=torch.float64)
    return float(torch.special.gammaincc(degrees, chi_square.cpu() / 2))


@dataclass(frozen=True)
class Tolerance:
    """How far off a tensor may be.

    Attributes:
        whole: relative error in the Euclidean norm.
        row: largest error of a row over the root mean square of all rows: a few wrong rows are lost
            in the norm of all.
    """

    whole: float
    row: float


def output_tolerance(dtype: Dtype) -> Tolerance:
    """Of what is computed without a kink."""
    return Tolerance(TOLERANCES[dtype], ROW_FACTOR * TOLERANCES[dtype])


def gradient_tolerance(dtype: Dtype, activation: str) -> Tolerance:
    """Of gradients through an activation."""
    if activation == "relu":
        return Tolerance(KINK_TOLERANCES[dtype], KINK_ROW_TOLERANCE)
    return output_tolerance(dtype)


def compare(
    actual: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    tolerances: Mapping[str, Tolerance],
) -> Verdict:
    """Tensors, by name, against the same in float64.

    Returns:
        Of the first that is wrong; if none is, of the one that comes closest to it.
    """
    verdicts = []
    for name, right in expected.items():
        verdict = _compare(actual[name].detach().double(), right, tolerances[name])
        if verdict.reason:
            return replace(verdict, problem=f"{name}: {verdict.reason}")
        verdicts.append(verdict)
    return max(verdicts, key=lambda verdict: verdict.error / max(verdict.tolerance, TINY))


def _compare(actual: Tensor, expected: Tensor, tolerance: Tolerance) -> Verdict:
    errors = (actual - expected).reshape(len(expected), -1).norm(dim=1)
    rows = expected.reshape(len(expected), -1).norm(dim=1)
    error = float(errors.norm() / rows.norm().clamp(min=TINY))
    worst = float(errors.max() / rows.square().mean().sqrt().clamp(min=TINY))
    problem = ""
    if error <= tolerance.whole and expected.ndim > 1 and not worst <= tolerance.row:
        problem = f"a row is off by {worst:.2g} of the mean row, more than {tolerance.row:.2g}"
    return Verdict(error, tolerance.whole, problem)
