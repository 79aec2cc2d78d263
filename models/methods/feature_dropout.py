"""Plain feature dropout: the control that trains on rows with features dropped alone."""

from __future__ import annotations

from torch import Tensor

from dropdrift.models.losses import task_loss
from dropdrift.models.methods.config import FeatureDropoutConfig
from dropdrift.models.methods.forward_process import Block, ForwardProcess
from dropdrift.models.methods.method import BaseModel, Method, weighted_sum


class FeatureDropout(Method):
    """L = L_main(f(h(x_T))), served by f(h(x)).

    x_T is that of AsymDiffRec's forward process, of the same seed. The other fields are not scaled
    up: a missing one is zero at serving too, and that is what is practised.

    Args:
        widths: embedding width of each field.
        config: see ``FeatureDropoutConfig``.
        seed: seed of the masks.
        blocks: what can be dropped as a whole.
    """

    def __init__(
        self,
        widths: tuple[int, ...],
        config: FeatureDropoutConfig,
        seed: int,
        blocks: tuple[Block, ...] = (),
    ) -> None:
        super().__init__()
        self.forward_process = ForwardProcess(widths, seed, config.max_drop_rate, blocks=blocks)

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
        dropped, _ = self.forward_process.drop(embedded, missing, step, first_row)
        z = base.extract(dropped)
        return weighted_sum({"main": task_loss(base.head(z), labels)}, {}, z)
