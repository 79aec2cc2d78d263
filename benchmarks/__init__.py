"""Benchmarks of kernels and of whole steps."""
