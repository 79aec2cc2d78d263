"""For tests of kernels that write their outputs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture
def poisoned() -> Iterator[None]:
    """New tensors hold NaN or the largest integer, so that what is not written is seen."""
    torch.use_deterministic_algorithms(True)
    assert torch.utils.deterministic.fill_uninitialized_memory
    assert torch.empty(1).isnan()
    assert torch.zeros(1, dtype=torch.int32).new_empty(1) == 2**31 - 1
    yield
    torch.use_deterministic_algorithms(False)
