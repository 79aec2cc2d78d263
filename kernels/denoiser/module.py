"""The denoiser as a module with its weights."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from dropdrift.kernels.backend import AUTOMATIC, check_backend
from dropdrift.kernels.denoiser.checks import check_activation
from dropdrift.kernels.denoiser.operators import denoise


class Denoiser(nn.Module):
    """g([s, z_T]) of AsymDiffRec (section 3.3): two layers, N + Z -> H -> Z.

    z_0' = W2 act(W1 [s, z_T] + b1) + b2, with s in packed words. Weights begin as those of
    ``nn.Linear``, uniform in +-1 / sqrt(inputs), and biases at zero.

    Example::

        words = drop_words(missing, 200, seed=1, step=step, first_row=0)
        denoiser = Denoiser(fields=200, width=128, hidden_width=256)
        completed = denoiser(words, extract(mask_features(embedded, words, widths)))

    Args:
        fields: N.
        width: Z.
        hidden_width: H.
        activation: "relu", "silu" or "gelu".
        save_hidden: keep the hidden layer [B, H] for the backward, instead of computing it again.
        backend: "triton", "torch", "reference", or "" for the best one where it is called.

    Raises:
        ValueError: a size below 1, an unknown activation or backend.
    """

    def __init__(
        self,
        fields: int,
        width: int,
        hidden_width: int,
        activation: str = "relu",
        save_hidden: bool = False,
        backend: str = AUTOMATIC,
    ) -> None:
        super().__init__()
        sizes = {"fields": fields, "width": width, "hidden_width": hidden_width}
        for name, size in sizes.items():
            if size < 1:
                raise ValueError(f"{name} is {size}, must be at least 1")
        check_activation(activation)
        check_backend(backend)
        self.fields, self.width, self.hidden_width = fields, width, hidden_width
        self.activation, self.save_hidden, self.backend = activation, save_hidden, backend
        self.weight1 = nn.Parameter(torch.empty(hidden_width, fields + width))
        self.bias1 = nn.Parameter(torch.zeros(hidden_width))
        self.weight2 = nn.Parameter(torch.empty(width, hidden_width))
        self.bias2 = nn.Parameter(torch.zeros(width))
        for weight in (self.weight1, self.weight2):
            nn.init.kaiming_uniform_(weight, a=math.sqrt(5))

    def forward(self, words: Tensor, noisy: Tensor) -> Tensor:
        """z_0' [B, Z] from s (int32 words [B, W]) and z_T [B, Z]."""
        return denoise(
            words,
            noisy,
            self.weight1,
            self.bias1,
            self.weight2,
            self.bias2,
            activation=self.activation,
            save_hidden=self.save_hidden,
            backend=self.backend,
        )

    def extra_repr(self) -> str:
        """Sizes and options, for ``print``."""
        return (
            f"fields={self.fields}, width={self.width}, hidden_width={self.hidden_width}, "
            f"activation={self.activation!r}, save_hidden={self.save_hidden}, "
            f"backend={self.backend or 'automatic'!r}"
        )
