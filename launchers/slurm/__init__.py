"""A TorchX scheduler for Slurm 22.05 and newer."""
