"""Plans for many clusters and batches: which fit, which are worth their GPUs."""
