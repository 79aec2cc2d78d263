"""The base model alone: what every method is compared with."""

from __future__ import annotations

from torch import Tensor

from dropdrift.models.losses import task_loss
from dropdrift.models.methods.method import BaseModel, Method, weighted_sum


class BaseAlone(Method):
    """L = L_main(f(h(x))), served by f(h(x))."""

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
        del missing, step, first_row
        z = base.extract(embedded)
        return weighted_sum({"main": task_loss(base.head(z), labels)}, {}, z)
