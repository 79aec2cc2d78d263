"""Kernels compiled for GPUs that are not there: what each takes, held to a checked-in budget."""
