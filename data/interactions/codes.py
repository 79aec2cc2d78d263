"""Numbers for texts, in the order in which the texts are met first."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dropdrift.data.encoding.values import Texts

# Values that wait to be merged, at the least.
_PENDING = 1 << 16


class CodeCollector:
    """Gives each distinct text of a stream of columns a code, from 0.

    Batches wait until their distinct values are as many as the merged ones, so that each value is
    merged a logarithmic number of times. Holds 4 bytes a row and the distinct texts.
    """

    def __init__(self) -> None:
        self._values: pa.Array = pa.array([], pa.large_string())
        self._codes: list[NDArray[np.int32]] = []
        self._pending: list[pa.DictionaryArray] = []
        self._pending_values = 0

    def add(self, texts: Texts, kept: NDArray[np.bool_]) -> None:
        """Take the next rows [R] that are ``kept``, none of which is missing."""
        values, codes = texts.values, texts.codes[kept]
        if not kept.all():
            # A value of other rows alone has no code.
            used, codes = np.unique(codes, return_inverse=True)
            values = values.take(pa.array(used))
        assert len(codes) == 0 or codes.min() >= 0
        self._pending.append(
            pa.DictionaryArray.from_arrays(
                pa.array(codes.astype(np.int32)), values.cast(pa.large_string())
            )
        )
        self._pending_values += len(values)
        if self._pending_values > max(_PENDING, len(self._values)):
            self._merge()

    def collected(self) -> tuple[pa.Array, NDArray[np.int32]]:
        """The distinct texts [U], large_string, and the code of each row [R]; ends the stream."""
        self._merge()
        codes = np.concatenate(self._codes) if self._codes else np.zeros(0, np.int32)
        self._codes = []
        return self._values, codes

    def _merge(self) -> None:
        if not self._pending:
            return
        # The merged values come first, so they keep their codes.
        merged = pa.DictionaryArray.from_arrays(pa.array([], pa.int32()), self._values)
        unified = pa.chunked_array([merged, *self._pending]).unify_dictionaries()
        self._values = unified.chunk(0).dictionary
        self._codes += [chunk.indices.to_numpy() for chunk in unified.chunks[1:]]
        self._pending, self._pending_values = [], 0
