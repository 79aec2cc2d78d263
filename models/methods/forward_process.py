"""AsymDiffRec's forward process, which its controls share (section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from dropdrift.kernels.backend import AUTOMATIC
from dropdrift.kernels.feature_dropout import drop_words, mask_features


@dataclass(frozen=True)
class ForwardProcess:
    """Sets T fields of a row to zero, T uniform on {0..N} by default.

    Methods of one seed drop the same fields of the same rows: what a table shows between them is
    not the dropping.

    Attributes:
        widths: embedding width of each of the N fields.
        seed: of the masks.
        max_drop_rate: largest share of the fields dropped, in expectation.
        backend: of the operators, see ``kernels.feature_dropout``.
    """

    widths: tuple[int, ...]
    seed: int
    max_drop_rate: float
    backend: str = AUTOMATIC

    def drop(
        self, embedded: Tensor, missing: Tensor, step: int, first_row: int
    ) -> tuple[Tensor, Tensor]:
        """x_T, [B, D], and the fields that it lacks, int32 [B, W].

        Args:
            embedded: x, [B, D].
            missing: int32 [B, W], naturally missing fields.
            step: optimizer steps taken before this batch.
            first_row: position of row 0 in the global batch.
        """
        words = drop_words(
            missing,
            len(self.widths),
            seed=self.seed,
            step=step,
            first_row=first_row,
            max_rate=self.max_drop_rate,
            backend=self.backend,
        )
        return mask_features(embedded, words, self.widths, backend=self.backend), words
