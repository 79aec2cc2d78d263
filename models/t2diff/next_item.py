"""x_hat, the next item as the session's encoder is given it, by six means (T2Diff, section 4.2).

Legend: B rows, L positions of a sequence, Q positions that are asked for (1: the newest, or L),
R windows, n items of a window, m newest entries of it that are diffused (n or 1), d width, K steps
of the reverse process.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dropdrift.data.batch import SequenceBatch
from dropdrift.models.matching.windows import windows
from dropdrift.models.noise import RowNoise
from dropdrift.models.t2diff.config import DiffusionConfig, T2DiffConfig
from dropdrift.models.t2diff.diffusion import Diffusion, Estimator, ServingStep, last_estimate
from dropdrift.models.t2diff.unet import UNet
from dropdrift.models.t2diff.window_mlp import WindowMLP

ESTIMATED = ("diffusion", "diffusion-joint", "regression")


@dataclass(frozen=True)
class Trajectory:
    """The newest drift as it is estimated in the course of the reverse process (figure 4).

    Attributes:
        steps: the steps visited, int64 [K], from T down.
        estimates: z_0_hat, [K, B, d].
        truth: z_0, [B, d].
    """

    steps: Tensor
    estimates: Tensor
    truth: Tensor


class NextItem(nn.Module):
    """x_hat, and the loss that its estimator learns from.

    Args:
        config: ``next_item`` and the diffusion's options.
        width: d.
        seed: seed of the noise in training.
    """

    def __init__(self, config: T2DiffConfig, width: int, seed: int) -> None:
        super().__init__()
        self.kind = config.next_item
        self.config = config.diffusion
        self.seed = seed
        self._compiled: dict[str, ServingStep] | None = None
        if self.kind == "constant":
            self.constant = nn.Parameter(torch.zeros(width))
        if self.kind in ESTIMATED:
            self.diffusion = Diffusion(config.diffusion)
            self.estimator = make_estimator(config.diffusion, width)

    def forward(
        self,
        sequence: Tensor,
        present: Tensor,
        target: Tensor,
        has_target: Tensor,
        batch: SequenceBatch,
        last_only: bool,
    ) -> tuple[Tensor | None, Tensor]:
        """x_hat in training, and lambda L_KL of eq. 25.

        Args:
            sequence: embeddings of the items, [B, L, d], oldest first.
            present: bool [B, L], where there is an item.
            target: embeddings of the items that came next, [B, L, d].
            has_target: bool [B, L], where one is known. Elsewhere an estimated x_hat is zero.
            batch: its ``step``, ``first_row`` and ``target_share``.
            last_only: only the newest position.

        Returns:
            x_hat [B, Q, d], or None (``none``); the loss, summed over windows with a target and
            divided by the target share.
        """
        first = -1 if last_only else 0
        if self.kind not in ESTIMATED:
            return self._unestimated(sequence[:, first:]), sequence.new_zeros(())
        if self.kind != "diffusion-joint":
            sequence, target = sequence.detach(), target.detach()
        sequence = sequence * present.unsqueeze(2)
        wanted = (has_target & present)[:, first:]
        items = windows(sequence, self.config.window, last_only)[wanted]
        there = windows(present, self.config.window, last_only)[wanted]
        noise = RowNoise(self.seed, batch.step, batch.first_row, sequence.device)
        clean = self._clean(items, target[:, first:][wanted])
        estimate, x_hat = self._estimates(clean, items, there, noise, wanted)
        loss = self._loss(clean, estimate, there) / batch.target_share
        if self.kind != "diffusion-joint":
            x_hat = x_hat.detach()
        everywhere = x_hat.new_zeros(*wanted.shape, x_hat.shape[1])
        return everywhere.index_put((wanted,), x_hat), loss

    @torch.no_grad()
    def serve(self, sequence: Tensor, present: Tensor, noise: RowNoise) -> Tensor | None:
        """x_hat [B, d] of the newest position, by the whole reverse process (algorithm 2).

        Args:
            sequence: [B, L, d].
            present: bool [B, L].
            noise: the rows' noise, on the device of ``sequence``.

        Returns:
            x_hat, zeros for an estimated one without any item; None for ``none``.
        """
        if self.kind not in ESTIMATED:
            x_hat = self._unestimated(sequence[:, -1:])
            return None if x_hat is None else x_hat[:, 0]
        items, there = self._newest_window(sequence, present)
        # On a CPU the reverse process ends for a few rows, in its cache, before others begin.
        size = self.estimator.serving_rows if items.device.type == "cpu" else max(1, len(items))
        parts = [
            self._sample(items[first : first + size], there[first : first + size], noise, first)
            for first in range(0, len(items), size)
        ]
        return torch.cat(parts) if parts else items[:, 0]

    @torch.no_grad()
    def reference(self, sequence: Tensor, present: Tensor, noise: RowNoise) -> Tensor:
        """What ``serve`` returns of an estimated x_hat, by the estimator as it is trained.

        All rows at once, nothing kept from step to step and nothing compiled: what the quicker way
        is held against.
        """
        items, there = self._newest_window(sequence, present)
        sample = last_estimate(self._reverse(self.estimator, items, there, noise))
        return self._utilise(sample, items) * there[:, -1:]

    def compile_serving(self) -> None:
        """Have torch compile the step of the reverse process when ``serve`` first takes it.

        On a GPU the step becomes a CUDA graph. A step compiles in seconds, the loop over all of
        them would take minutes and be no quicker.
        """
        self._compiled = {}

    @torch.no_grad()
    def trajectory(
        self, sequence: Tensor, present: Tensor, target: Tensor, noise: RowNoise
    ) -> Trajectory:
        """The reverse process's estimates of the newest drift, and the drift to ``target`` [B, d].

        Raises:
            ValueError: x_hat is not from a diffusion.
        """
        if self.kind not in ESTIMATED or self.kind == "regression":
            raise ValueError(
                f"model.t2diff.next_item is {self.kind}, which has no reverse process to look at"
            )
        items, there = self._newest_window(sequence, present)
        course = self._reverse(self.estimator, items, there, noise)
        estimates = torch.stack([z[:, -1].clone() for z in course])
        return Trajectory(self.diffusion.visited, estimates, self._clean(items, target)[:, -1])

    def _unestimated(self, sequence: Tensor) -> Tensor | None:
        """x_hat of the other kinds, for each position of ``sequence`` [B, Q, d]."""
        if self.kind == "none":
            return None
        if self.kind == "constant":
            return self.constant.to(sequence.dtype).expand_as(sequence)
        assert self.kind == "last"
        return sequence

    def _clean(self, items: Tensor, following: Tensor) -> Tensor:
        """z_0 [R, m, d] of X_1..X_n and X_{n+1} [R, d]: drifts (eq. 11), or X_2..X_{n+1}; scaled.

        Without an item at a position its entry means nothing.
        """
        entries = self.estimator.entries
        shifted = torch.cat([items[:, 1:], following.unsqueeze(1)], dim=1)[:, -entries:]
        clean = shifted - items[:, -entries:] if self.config.drift else shifted
        return clean * self.config.scale

    def _utilise(self, estimate: Tensor, items: Tensor) -> Tensor:
        """x_hat [R, d]: Slice(z_0 + X) (eq. 18), or the newest of the items that z_0 holds."""
        newest = estimate[:, -1] / self.config.scale
        return newest + items[:, -1] if self.config.drift else newest

    def _estimates(
        self, clean: Tensor, items: Tensor, there: Tensor, noise: RowNoise, wanted: Tensor
    ) -> tuple[Tensor, Tensor]:
        """z_0_hat [R, m, d] to be compared with ``clean``, and x_hat [R, d], in training."""
        if self.kind == "regression":
            estimate = self._from_step_last(torch.zeros_like(clean), items, there)
            return estimate, self._utilise(estimate, items)
        rows, positions = wanted.shape
        shape = (positions, *clean.shape[1:])
        # Drawn for every row and position: what one gets must not depend on the others' targets.
        step = noise.uniform_steps(rows, (positions,), self.config.steps, purpose="step")[wanted]
        epsilon = noise.normal(rows, *shape, purpose="epsilon")[wanted].to(clean.dtype)
        noisy = self.diffusion.diffuse(clean, step, epsilon)
        estimate = self.estimator(noisy, step, items, there)
        if self.config.training_estimate == "noised":
            return estimate, self._utilise(estimate, items)
        start = noise.normal(rows, *shape, purpose="start")[wanted].to(clean.dtype)
        return estimate, self._utilise(self._from_step_last(start, items, there), items)

    def _from_step_last(self, noisy: Tensor, items: Tensor, there: Tensor) -> Tensor:
        step = torch.full((items.shape[0],), self.config.steps, device=items.device)
        return self.estimator(noisy, step, items, there)

    def _loss(self, clean: Tensor, estimate: Tensor, there: Tensor) -> Tensor:
        """The mean error of a window's known drifts (eq. 23), times lambda, summed over windows."""
        error = (clean - estimate).float()
        if self.config.kl_norm == "squared":
            errors = error.square().sum(dim=2)
        else:
            errors = torch.linalg.vector_norm(error, dim=2)
        valid = there[:, -errors.shape[1] :]
        means = (errors * valid).sum(dim=1) / valid.sum(dim=1)
        return self.config.kl_weight * means.sum()

    def _newest_window(self, sequence: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        length = self.config.window
        sequence = sequence * present.unsqueeze(2)
        return windows(sequence, length, True)[:, 0], windows(present, length, True)[:, 0]

    def _sample(self, items: Tensor, there: Tensor, noise: RowNoise, first: int) -> Tensor:
        """x_hat [R, d] of the rows that begin at ``first``."""
        plain, condition = self.estimator.serving(items, there)
        take_step = self._maybe_compiled(plain, items.device)

        def estimator(noisy: Tensor, step: Tensor, items: Tensor, present: Tensor) -> Tensor:
            """The estimator with its items read beforehand, as ``Diffusion.reverse`` calls it."""
            del items, present  # they are in the condition
            if self._compiled is not None:  # a CUDA graph may use the last step's memory again
                torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
            return take_step(noisy, step, *condition)

        sample = last_estimate(self._reverse(estimator, items, there, noise.after(first)))
        return self._utilise(sample, items) * there[:, -1:]

    def _maybe_compiled(self, step: ServingStep, device: torch.device) -> ServingStep:
        if self._compiled is None:
            return step
        if step.__name__ not in self._compiled:
            mode = "reduce-overhead" if device.type == "cuda" else "default"
            self._compiled[step.__name__] = torch.compile(step, mode=mode)
        return self._compiled[step.__name__]

    def _reverse(
        self, estimator: Estimator, items: Tensor, there: Tensor, noise: RowNoise
    ) -> Iterator[Tensor]:
        """The estimates z_0_hat of the reverse process (one, from zeros, for ``regression``)."""
        rows, shape = items.shape[0], (self.estimator.entries, items.shape[2])
        if self.kind == "regression":
            last = torch.full((rows,), self.config.steps, device=items.device)
            yield estimator(items.new_zeros(rows, *shape), last, items, there)
            return
        start = noise.normal(rows, *shape, purpose="start").to(items.dtype)
        fresh = self._step_noise(rows, shape, noise, items.dtype)
        yield from self.diffusion.reverse_trajectory(estimator, start, items, there, fresh)

    def _step_noise(
        self, rows: int, shape: tuple[int, ...], noise: RowNoise, dtype: torch.dtype
    ) -> Iterator[Tensor | None]:
        """Each reverse step's noise, made when it is wanted; the last step has none."""
        for index in range(self.diffusion.count):
            if self.config.noise_in_sampling and index < self.diffusion.count - 1:
                yield noise.normal(rows, *shape, purpose=f"reverse {index}").to(dtype)
            else:
                yield None


def make_estimator(config: DiffusionConfig, width: int) -> UNet | WindowMLP:
    """The estimator that the options ask for, for embeddings of ``width``."""
    if config.estimator == "unet":
        return UNet(width, config.window, config.levels)
    return WindowMLP(width, config.window, config.hidden_width)
