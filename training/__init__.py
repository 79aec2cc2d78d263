"""The loop, optimizers, checkpoints, metrics and evaluation."""
