"""What a training step costs, with and without a method, and whether the loader keeps up."""

from __future__ import annotations

import dataclasses
import statistics
import time
from contextlib import closing
from dataclasses import dataclass

import torch

from dropdrift.benchmarks.spread import Spread
from dropdrift.data.loading.loader import Cursor, Loader
from dropdrift.data.loading.prefetch import prefetch
from dropdrift.data.schema import Schema
from dropdrift.models.methods.config import MethodKind
from dropdrift.training.build import build_model
from dropdrift.training.config import TrainConfig
from dropdrift.training.distributed import Ranks, process_group
from dropdrift.training.optimizers import Optimizers
from dropdrift.training.pipeline import GuardedPipeline

WARM_UP_STEPS = 10


@dataclass(frozen=True)
class StepCosts:
    """What was measured.

    Attributes:
        base_ms: milliseconds a step of the base model, loading included.
        method: what is trained around it.
        method_ms: the same with that method.
        ratio: the second over the first, repetition by repetition.
        loader_rows_per_second: rows a second of the loader by itself.
        loader_ratio: how many times as many rows as the faster model's training takes.
    """

    base_ms: Spread
    method: MethodKind
    method_ms: Spread
    ratio: Spread
    loader_rows_per_second: Spread
    loader_ratio: float


def measure_step_costs(
    config: TrainConfig, method: MethodKind, steps: int, repetitions: int
) -> StepCosts:
    """Time both models in turn, so that a machine whose speed drifts slows both.

    Args:
        config: data and model; its method does not matter.
        method: what is compared with the base.
        steps: steps timed together.
        repetitions: how often each is timed.

    Raises:
        ValueError: the training part has too few rows for the steps.
    """
    schema = Schema.load(config.data.path)
    with process_group(config.loop.timeout) as ranks:
        runners = [_StepRunner(schema, config, ranks, kind) for kind in ("base", method)]
        timings = [[runner.milliseconds(steps) for runner in runners] for _ in range(repetitions)]
        loading = [_loader_rate(schema, config) for _ in range(repetitions)]
    base, other = (list(column) for column in zip(*timings, strict=True))
    consumed = 1e3 * config.data.batch_size / statistics.median(base)
    return StepCosts(
        base_ms=Spread.of(base),
        method=method,
        method_ms=Spread.of(other),
        ratio=Spread.of([a / b for b, a in timings]),
        loader_rows_per_second=Spread.of(loading),
        loader_ratio=statistics.median(loading) / consumed,
    )


class _StepRunner:
    """A model that is trained on and on."""

    def __init__(
        self, schema: Schema, config: TrainConfig, ranks: Ranks, method: MethodKind
    ) -> None:
        model = dataclasses.replace(config.model, method=method)
        config = dataclasses.replace(config, model=model)
        sharded = build_model(schema, config, ranks)
        optimizers = Optimizers(sharded, config.optimizer, total_steps=1)
        optimizers.set_learning_rates(0)
        self._pipeline = GuardedPipeline(sharded, optimizers, ranks.device, config.loop.precision)
        self._device = ranks.device
        self._prefetch = config.data.prefetch
        self._loader = Loader(config.data.path, "train", schema, config.data, training=True)

    def milliseconds(self, steps: int) -> float:
        """Milliseconds a step, over ``steps`` steps after some that are not counted."""
        if steps + WARM_UP_STEPS + 2 > self._loader.steps_per_epoch:  # the pipeline runs 2 ahead
            raise ValueError(
                f"steps is {steps}, but the training part has only "
                f"{self._loader.steps_per_epoch} batches: lower steps or data.batch_size"
            )
        pin = self._device.type == "cuda"
        with closing(prefetch(self._loader.batches(Cursor()), self._prefetch, pin=pin)) as batches:
            for _ in range(WARM_UP_STEPS):
                self._pipeline.progress(batches)
            self._synchronise()
            started = time.perf_counter()
            for _ in range(steps):
                self._pipeline.progress(batches)
            self._synchronise()
            return 1e3 * (time.perf_counter() - started) / steps

    def _synchronise(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def _loader_rate(schema: Schema, config: TrainConfig) -> float:
    """Rows a second over one epoch."""
    loader = Loader(config.data.path, "train", schema, config.data, training=True)
    started = time.perf_counter()
    rows = sum(batch.size for batch in loader.batches(Cursor()))
    return rows / (time.perf_counter() - started)
