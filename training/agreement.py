"""What the ranks tell each other in every step, so that all act on it after the same one."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.distributed as dist


class StepAgreement:
    """Before each backward, what any rank has to say becomes known to all.

    Args:
        asked_to_end: whether this process was asked to end.
        saving_has_failed: whether a checkpoint could not be written in the background.

    Attributes:
        end: whether some rank was asked to end.
        failed_saving: whether some rank's saving has failed.
    """

    def __init__(
        self,
        asked_to_end: Callable[[], bool] = lambda: False,
        saving_has_failed: Callable[[], bool] = lambda: False,
    ) -> None:
        self._asked_to_end, self._saving_has_failed = asked_to_end, saving_has_failed
        self.end = self.failed_saving = False

    def reach(self, loss_is_finite: bool) -> bool:
        """Whether the loss is finite on all ranks; every rank must call."""
        flags = torch.tensor([not loss_is_finite, self._asked_to_end(), self._saving_has_failed()])
        flags = flags.to(torch.uint8)
        dist.all_reduce(flags, dist.ReduceOp.MAX)
        not_finite, self.end, self.failed_saving = map(bool, flags.tolist())
        return not not_finite
