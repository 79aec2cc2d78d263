"""The two-layer denoiser."""

from dropdrift.kernels.denoiser.module import Denoiser
from dropdrift.kernels.denoiser.operators import denoise, drop_and_denoise

__all__ = ["Denoiser", "denoise", "drop_and_denoise"]
