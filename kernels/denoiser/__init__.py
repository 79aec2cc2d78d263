"""The two-layer denoiser."""

from dropdrift.kernels.denoiser.reference import denoise

__all__ = ["denoise"]
