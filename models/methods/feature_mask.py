"""Feature-mask training, a control after AdaF2M2.

Zhu et al., "AdaF^2M^2: Comprehensive Learning and Responsive Leveraging Features in Recommendation
System", DASFAA 2025, learns "via multi-forward training with augmented samples", in which features
are masked, and puts an adapter in front that weighs the features by the state of user and item.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dropdrift.models.losses import task_loss
from dropdrift.models.methods.config import FeatureMaskConfig
from dropdrift.models.methods.forward_process import Block, ForwardProcess
from dropdrift.models.methods.method import BaseModel, Method, weighted_sum


class FeatureMask(Method):
    """L = L_main(f(h(x))) + w L_main(f(h(x_T))), served by f(h(x)).

    Of the framework the multi-forward training alone, with one masked forward beside the clean one;
    not the adapter, which is another base model. The mask is AsymDiffRec's forward process, of the
    same seed, and w is its weight of the auxiliary loss. So it is AsymDiffRec without a denoiser,
    and tells what the denoiser is good for.

    Args:
        widths: embedding width of each field.
        config: see ``FeatureMaskConfig``.
        seed: seed of the masks.
        blocks: what can be dropped as a whole.
    """

    def __init__(
        self,
        widths: tuple[int, ...],
        config: FeatureMaskConfig,
        seed: int,
        blocks: tuple[Block, ...] = (),
    ) -> None:
        super().__init__()
        self.forward_process = ForwardProcess(widths, seed, config.max_drop_rate, blocks=blocks)
        self.weight = config.weight

    def losses(
        self,
        base: BaseModel,
        embedded: Tensor,
        missing: Tensor,
        labels: Tensor,
        step: int,
        first_row: int,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """See :meth:`Method.losses`."""
        masked_row, _ = self.forward_process.drop(embedded, missing, step, first_row)
        clean, masked = base.extract(torch.cat([embedded, masked_row])).chunk(2)
        losses = {
            "main": task_loss(base.head(clean), labels),
            "masked": task_loss(base.head(masked), labels),
        }
        return weighted_sum(losses, {"masked": self.weight}, clean)
