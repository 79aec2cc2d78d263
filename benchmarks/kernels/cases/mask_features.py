"""Masking of pooled embeddings: x_0 to x_T.

B rows, N fields of one width, W mask words. The mask is given, to each in its own form.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dropdrift.benchmarks.kernels.baselines import mask_embeddings
from dropdrift.benchmarks.kernels.cases.case import (
    DTYPES,
    Case,
    Cost,
    Gradients,
    Provider,
    Result,
    Shape,
    Verdict,
    sets_needed,
)
from dropdrift.benchmarks.kernels.cases.masks import Masks
from dropdrift.benchmarks.kernels.config import ProviderName
from dropdrift.benchmarks.kernels.gate import Tolerance, compare
from dropdrift.benchmarks.kernels.providers import backend_of, compiled, is_ours
from dropdrift.benchmarks.kernels.record import Dtype
from dropdrift.benchmarks.kernels.sizes import Size
from dropdrift.kernels.feature_dropout import mask_features, unpack_words

FIELD_WIDTH = 16


def mask_features_case(size: Size, dtype: Dtype, seed: int, device: torch.device) -> Case:
    """Embeddings of dropped fields to zero: those of the others are read, and all are written."""
    rows, fields, kind = size.rows, size.fields, DTYPES[dtype]
    item, columns = kind.itemsize, size.fields * FIELD_WIDTH
    sets = sets_needed(device, 2 * rows * columns * item + Masks.bytes_of(rows, fields))
    masks = Masks(rows, fields, sets, seed, device)
    words = [masks.drop(number, "reference") for number in range(sets)]
    keep = [1 - unpack_words(word, fields, kind) for word in words]
    generator = torch.Generator(device).manual_seed(seed)

    def random() -> list[Tensor]:
        """[B, N * d], one for each set."""
        tensors = (torch.empty(rows, columns, device=device, dtype=kind) for _ in range(sets))
        return [tensor.normal_(generator=generator) for tensor in tensors]

    embedded, upstream = [tensor.requires_grad_() for tensor in random()], random()

    def provider(name: ProviderName) -> Provider:
        """How it computes the forward."""
        if is_ours(name):
            widths, backend = [FIELD_WIDTH] * fields, backend_of(name)
            return lambda n: Result(
                mask_features(embedded[n], words[n], widths, backend=backend), words[n]
            )
        mask = compiled(name, mask_embeddings)
        return lambda n: Result(mask(embedded[n], keep[n]), keep[n])

    def verdict(_: ProviderName, result: Result, gradients: tuple[Tensor, ...] | None) -> Verdict:
        """Whether a result on set 0 is right."""
        flags = unpack_words(words[0], fields).repeat_interleave(FIELD_WIDTH, dim=1)
        assert result.output is not None
        actual, expected = {"x_T": result.output}, {"x_T": embedded[0].detach().double()}
        if gradients is not None:
            actual["dx_0"], expected["dx_0"] = gradients[0], upstream[0].double()
        masked = {name: tensor.masked_fill(flags, 0) for name, tensor in expected.items()}
        return compare(actual, masked, dict.fromkeys(masked, Tolerance(0.0, 0.0)))

    kept = FIELD_WIDTH * int(torch.stack([k.sum(dtype=torch.float64) for k in keep]).mean())
    cost = Cost(item * (kept + rows * columns) + words[0].nbytes, 0)
    return Case(
        shape=Shape("mask-features", rows, fields, FIELD_WIDTH, 0, dtype, ""),
        sets=sets,
        provider=provider,
        inputs=lambda n: (embedded[n], words[n], keep[n]),
        gradients=Gradients(lambda n: (embedded[n],), lambda n: upstream[n]),
        forward_cost=cost,
        backward_cost=cost,
        verdict=verdict,
    )
