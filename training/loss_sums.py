"""Losses between two entries of the log: summed on every rank, saved with the run."""

from __future__ import annotations

import torch
import torch.distributed as dist

from dropdrift.training.distributed import Ranks


class LossSums:
    """Sums of each loss over the steps since the last entry of the log, on this rank.

    Args:
        ranks: this process among all.
        saved: as :meth:`by_rank` gave them, when the run was saved; of other ranks, this one goes
            on from their mean.
        steps: how many steps those are.
    """

    def __init__(self, ranks: Ranks, saved: dict[str, list[float]], steps: int) -> None:
        self._world_size = ranks.world_size
        self._before = {
            name: sums[ranks.rank] if len(sums) == ranks.world_size else sum(sums) / len(sums)
            for name, sums in saved.items()
        }
        self._sums: dict[str, torch.Tensor] = {}
        self.steps = steps

    def add(self, losses: dict[str, torch.Tensor]) -> None:
        """Count a step's losses."""
        for name, loss in losses.items():
            before = self._before.pop(name, 0.0)
            self._sums[name] = self._sums.get(name, torch.full_like(loss, before)) + loss
        self.steps += 1

    def means(self) -> dict[str, float]:
        """The means over these steps and over ranks, and begin anew; every rank must call."""
        means = torch.stack(list(self._sums.values())) / self.steps
        dist.all_reduce(means)
        means /= self._world_size
        named = dict(zip(self._sums, means.tolist(), strict=True))
        self._sums, self.steps = {}, 0
        return named

    def by_rank(self) -> dict[str, list[float]]:
        """The sums of all ranks, in their order; every rank must call."""
        if not self._sums:
            return {}
        mine = torch.stack(list(self._sums.values())).cpu()
        everyone = [torch.empty_like(mine) for _ in range(self._world_size)]
        dist.all_gather(everyone, mine)
        return dict(zip(self._sums, torch.stack(everyone, dim=1).tolist(), strict=True))
