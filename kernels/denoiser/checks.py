"""What the denoiser's arguments must be: a mistake is named before anything is launched."""

from __future__ import annotations

from torch import Tensor

from dropdrift.kernels.denoiser.reference import ACTIVATIONS
from dropdrift.kernels.feature_dropout.checks import check_beside, check_words


def check_arguments(
    words_name: str,
    words: Tensor,
    noisy: Tensor,
    weight1: Tensor,
    bias1: Tensor,
    weight2: Tensor,
    bias2: Tensor,
    activation: str,
) -> None:
    """Check types, devices and shapes against those of ``noisy`` and ``weight1``.

    Args:
        words_name: what the caller calls ``words``.
        words: int32 [B, W].
        noisy: [B, Z].
        weight1: [H, N + Z].
        bias1: [H].
        weight2: [Z, H].
        bias2: [Z].
        activation: one of ``reference.ACTIVATIONS``.

    Raises:
        ValueError: an argument is another than that.
    """
    check_activation(activation)
    if noisy.dim() != 2 or not noisy.is_floating_point():
        raise ValueError(f"noisy is {_described(noisy)}, must be floating-point [rows, width]")
    width = noisy.shape[1]
    if weight1.dim() != 2 or weight1.shape[1] <= width:
        raise ValueError(
            f"weight1 is {_described(weight1)}, must be [hidden, fields + {width}] with at least "
            f"one field, as noisy is {width} wide"
        )
    hidden, columns = weight1.shape
    _check_like_noisy("weight1", weight1, noisy, (hidden, columns))
    _check_like_noisy("bias1", bias1, noisy, (hidden,))
    _check_like_noisy("weight2", weight2, noisy, (width, hidden))
    _check_like_noisy("bias2", bias2, noisy, (width,))
    check_words(words_name, words, columns - width)
    check_beside(words_name, words, "noisy", noisy)


def check_activation(activation: str) -> None:
    """ValueError unless there is such an activation."""
    if activation not in ACTIVATIONS:
        known = ", ".join(map(repr, ACTIVATIONS))
        raise ValueError(f"activation is {activation!r}, there are: {known}")


def _check_like_noisy(name: str, tensor: Tensor, noisy: Tensor, shape: tuple[int, ...]) -> None:
    if tensor.dtype != noisy.dtype or tensor.shape != shape or tensor.device != noisy.device:
        raise ValueError(
            f"{name} is {_described(tensor)}, must be {list(shape)} of noisy's type and device, "
            f"{noisy.dtype} on {noisy.device}"
        )


def _described(tensor: Tensor) -> str:
    return f"{tensor.dtype} {list(tensor.shape)} on {tensor.device}"
