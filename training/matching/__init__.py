"""Training and evaluation of matching models: ranks over the catalogue, metrics, baselines."""
