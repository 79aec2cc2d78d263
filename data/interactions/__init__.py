"""Sequences of interactions: from raw rows to what a matching model is trained on."""
