"""DCN-V2, the base ranking model.

Wang et al., "DCN V2: Improved Deep & Cross Network", WWW 2021. Legend: B rows, D width of the
concatenated embeddings x_0, Z width of the latent representation.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dropdrift.models.config import DCNv2Config


class CrossLayer(nn.Module):
    """x_{l+1} = x_0 * (W x_l + b) + x_l, with W full (eq. 1) or W = U V^T of low rank (eq. 2)."""

    def __init__(self, width: int, rank: int) -> None:
        super().__init__()
        self.weight: nn.Module = nn.Linear(width, width)
        if rank:
            self.weight = nn.Sequential(nn.Linear(width, rank, bias=False), nn.Linear(rank, width))

    def forward(self, x0: Tensor, x: Tensor) -> Tensor:
        """[B, D] from the first and the previous layer's [B, D]."""
        return torch.addcmul(x, x0, self.weight(x))


class DCNv2(nn.Module):
    """The extractor h: embeddings x [B, D] to the latent representation z [B, Z].

    The deep layers are layer-normalised: batch statistics would shift when features are dropped.
    The embeddings are not: normalising across fields cost 0.004 AUC on KuaiRand-Pure.
    """

    def __init__(self, width: int, config: DCNv2Config) -> None:
        super().__init__()
        self.stacked = config.structure == "stacked"
        self.cross = nn.ModuleList(
            CrossLayer(width, config.cross_rank) for _ in range(config.cross_layers)
        )
        self.deep = deep_network(width, config.deep_widths)
        deep_width = config.deep_widths[-1] if config.deep_widths else width
        joined = deep_width if self.stacked or not config.cross_layers else width + deep_width
        self.project = nn.Linear(joined, config.z_width)

    def forward(self, embedded: Tensor) -> Tensor:
        """z, [B, Z]."""
        crossed = embedded
        for layer in self.cross:
            crossed = layer(embedded, crossed)
        if self.stacked:
            return self.project(self.deep(crossed))
        if not len(self.cross):
            return self.project(self.deep(embedded))
        return self.project(torch.cat([crossed, self.deep(embedded)], dim=1))


def deep_network(width: int, hidden_widths: tuple[int, ...]) -> nn.Sequential:
    """Linear layers, each with layer norm and ReLU."""
    layers: list[nn.Module] = []
    for hidden_width in hidden_widths:
        layers += [nn.Linear(width, hidden_width), nn.LayerNorm(hidden_width), nn.ReLU()]
        width = hidden_width
    return nn.Sequential(*layers)
