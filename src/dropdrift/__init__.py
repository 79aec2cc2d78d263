"""Dropdrift: two diffusion recommenders on TorchRec's sharded embeddings.

The rooms of the repository are the subpackages: ``dropdrift.models`` is the folder ``models/``.
``docs/design.md`` says what each room holds and which room may import which.
"""

__version__ = "0.1.0"
