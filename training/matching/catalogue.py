"""Embeddings and vectors of the whole catalogue, as evaluation and serving need them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dropdrift.data.interactions.catalogue import Catalogue
from dropdrift.models.matching.model import MatchingModel

# Items of one lookup.
LOOKUP_ITEMS = 65_536


@torch.no_grad()
def catalogue_vectors(
    model: MatchingModel, catalogue: Catalogue, device: torch.device, rows: int = LOOKUP_ITEMS
) -> tuple[Tensor, Tensor]:
    """Embeddings x [M, D] and vectors [M, O] of all M items, in the catalogue's order.

    A lookup of sharded tables takes all ranks: every rank must call, and each gets everything.

    Args:
        model: in evaluation mode.
        catalogue: the items.
        device: of the model.
        rows: items of one lookup, which bounds its memory.
    """
    embedded, vectors = [], []
    for start in range(0, len(catalogue), rows):
        chosen = np.arange(start, min(start + rows, len(catalogue)))
        x = model.embed(catalogue.features(chosen).to(device))
        embedded.append(x)
        vectors.append(model.item_vectors(x))
    return torch.cat(embedded), torch.cat(vectors)
