"""Plain feature dropout: the control that trains on rows with features dropped alone."""

from __future__ import annotations

from torch import Tensor

from dropdrift.kernels.feature_dropout import drop_words, mask_features
from dropdrift.models.losses import task_loss
from dropdrift.models.methods.config import FeatureDropoutConfig
from dropdrift.models.methods.method import BaseModel, Method, weighted_sum


class FeatureDropout(Method):
    """L = L_main(f(h(x_T))), served by f(h(x)).

    x_T is that of AsymDiffRec's forward process: T of the fields, uniform on {0..N} by default, are
    set to zero, and the masks of a run are those of AsymDiffRec with its seed. So what a table
    shows between the two is not the dropping. The other fields are not scaled up: a missing one is
    zero at serving too, and that is what is practised.

    Args:
        widths: embedding width of each field.
        config: see ``FeatureDropoutConfig``.
        seed: seed of the masks.
    """

    def __init__(self, widths: tuple[int, ...], config: FeatureDropoutConfig, seed: int) -> None:
        super().__init__()
        self.widths, self.config, self.seed = widths, config, seed

    def losses(
        self,
        base: BaseModel,
        embedded: Tensor,
        missing: Tensor,
        labels: Tensor,
        step: int,
        first_row: int,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """See :meth:`Method.losses`; no pass sees the whole row."""
        words = drop_words(
            missing,
            len(self.widths),
            seed=self.seed,
            step=step,
            first_row=first_row,
            max_rate=self.config.max_drop_rate,
        )
        z = base.extract(mask_features(embedded, words, self.widths))
        return weighted_sum({"main": task_loss(base.head(z), labels)}, {}, z)
