"""The smallest base model that a method can be put around, and a batch for it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from dropdrift.kernels.feature_dropout import mask_features, pack_words

WIDTHS, Z, ROWS = (2, 3, 2, 4, 1), 6, 9
# As a schema has them.
SCHEMA_WIDTHS = (4, 8, 4, 4, 8)


class Base(nn.Module):
    """h is one layer, f one map to so many tasks."""

    z_width = Z

    def __init__(self, widths: tuple[int, ...] = WIDTHS, tasks: int = 1) -> None:
        super().__init__()
        self.widths = widths
        self.extractor = nn.Linear(sum(widths), Z)
        self.tower = nn.Linear(Z, tasks)

    def extract(self, embedded: Tensor) -> Tensor:
        return torch.tanh(self.extractor(embedded))

    def head(self, z: Tensor) -> Tensor:
        return self.tower(z)


@pytest.fixture
def setting():
    """Base, embeddings, missing words, labels."""
    torch.manual_seed(0)
    embedded = torch.randn(ROWS, sum(WIDTHS), requires_grad=True)
    missing = pack_words(torch.rand(ROWS, len(WIDTHS)) < 0.2)
    labels = (torch.rand(ROWS, 1) < 0.5).float()
    return Base(), embedded, missing, labels


@pytest.fixture
def batch():
    """Base of two tasks, 32 rows as a lookup gives them (0 where missing), labels to be learned."""
    torch.manual_seed(3)
    fields, width = len(SCHEMA_WIDTHS), sum(SCHEMA_WIDTHS)
    missing = pack_words(torch.rand(32, fields) < 0.2)
    embedded = mask_features(torch.randn(32, width), missing, SCHEMA_WIDTHS).requires_grad_()
    labels = (embedded.detach() @ torch.randn(width, 2) > 0).float()
    return Base(SCHEMA_WIDTHS, tasks=2), embedded, missing, labels
