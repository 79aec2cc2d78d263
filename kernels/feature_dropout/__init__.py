"""Feature dropout: mask words, the discrete forward process, masking of embeddings."""

from dropdrift.kernels.feature_dropout.operators import drop_words, mask_features
from dropdrift.kernels.feature_dropout.words import pack_words, unpack_words, word_count

__all__ = ["drop_words", "mask_features", "pack_words", "unpack_words", "word_count"]
