"""Kernels with their references and autograd operators. Depends on torch (and triton) alone."""
