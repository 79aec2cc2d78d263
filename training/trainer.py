"""The training loop, for one rank or many."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import torch
from rich.progress import Progress
from safetensors import SafetensorError

from dropdrift.data.batch import Batch, SequenceBatch
from dropdrift.data.loading.loader import Cursor
from dropdrift.data.loading.prefetch import prefetch
from dropdrift.data.progress import progress_bar
from dropdrift.data.schema import Schema
from dropdrift.training.agreement import StepAgreement
from dropdrift.training.build import build_model
from dropdrift.training.checkpoint import TrainingState, load_all
from dropdrift.training.config import TrainConfig
from dropdrift.training.distributed import Ranks, on_first_rank, process_group
from dropdrift.training.failed_batch import write_failed_batch
from dropdrift.training.log import RunLog
from dropdrift.training.loss_sums import LossSums
from dropdrift.training.matching.task import MatchingTask
from dropdrift.training.optimizers import Optimizers
from dropdrift.training.pipeline import GuardedPipeline
from dropdrift.training.placement import place_tables
from dropdrift.training.preflight.check import check_ranks
from dropdrift.training.preflight.config import PreflightConfig
from dropdrift.training.ranking_task import RankingTask
from dropdrift.training.run_folder import RunFolder
from dropdrift.training.saver import Saver
from dropdrift.training.signals import EndedBySignal, EndRequest, sigterm_noted
from dropdrift.training.task import Task


def train(config: TrainConfig, *, show_progress: bool = True) -> dict[str, Any] | None:
    """Train a model into ``config.out``.

    Returns:
        On the first rank the outcome that ``result.json`` holds: steps, seconds, rows per second,
        best validation. None on the others.

    Raises:
        ValueError: a mistake in options or data, or a loss that is not finite.
    """
    schema = Schema.load(config.data.path)
    with process_group(config.loop.timeout) as ranks:
        run = RunFolder(config.out)
        # torchrun and the scheduler start a job that failed again with the same command.
        resume = on_first_rank(lambda: config.resume or run.is_of_this_job())
        first_state = run.resumable_state if resume else run.new_state
        state = on_first_rank(lambda: first_state(config, schema))
        if resume and on_first_rank(run.is_complete):
            return run.outcome() if ranks.is_first else None
        preflight = check_ranks(ranks, PreflightConfig()) if config.preflight else None
        # A run keeps the lanes that it began with: they decide which rows make a batch.
        state.lanes = state.lanes or config.data.lanes or ranks.world_size
        config_here = replace(config, data=replace(config.data, lanes=state.lanes))
        trainer = Trainer(config_here, schema, ranks, run, state)
        if not resume:
            on_first_rank(lambda: run.create(config))
        if preflight is not None:
            on_first_rank(lambda: preflight.save(run.preflight_file))
        return trainer.fit(show_progress and ranks.is_first)


class Trainer:
    """One run: model, data, optimizers and where it stands.

    Args:
        config: the run's options.
        schema: of the prepared data.
        ranks: this process among all.
        run: where checkpoints and logs go.
        state: a new state, or that of the run's newest checkpoint, which is then loaded.
    """

    def __init__(
        self,
        config: TrainConfig,
        schema: Schema,
        ranks: Ranks,
        run: RunFolder,
        state: TrainingState,
    ) -> None:
        self.config, self.schema, self.ranks = config, schema, ranks
        self.run, self.state = run, state
        self.task = make_task(config, schema, ranks)
        self.steps_per_epoch = self.task.data.steps_per_epoch
        self.total_steps = config.loop.epochs * self.steps_per_epoch
        if config.loop.max_steps:
            self.total_steps = min(self.total_steps, config.loop.max_steps)
        self.placement = place_tables(schema, config, ranks, self.task.lookup_rows, config.plan)
        self.model = build_model(schema, config, ranks, self.placement.plan)
        self.optimizers = Optimizers(self.model, config.optimizer, self.total_steps)
        self.saver = Saver(run.checkpoints, self.model, self.optimizers, config.loop)
        self._end_request = EndRequest()
        self._agreement = StepAgreement(self._end_request.is_noted, self.saver.has_failed)
        self.pipeline = GuardedPipeline(
            self.model,
            self.optimizers,
            ranks.device,
            config.loop.precision,
            self._agreement,
            self._keep_failed,
        )
        self._losses = LossSums(ranks, state.unlogged, state.unlogged_steps)
        if state.step:
            load_all(run.checkpoints, state.step, self.model, self.optimizers)

    def fit(self, show_progress: bool) -> dict[str, Any] | None:
        """Train until the last step, until validation stops improving, or until SIGTERM.

        Raises:
            EndedBySignal: a rank was asked to end; a checkpoint is saved.
        """
        first_step, started = self.state.step, time.monotonic()
        with (
            sigterm_noted(self._end_request),
            progress_bar(show_progress) as progress,
            self.saver,
        ):
            if self.ranks.is_first:
                self.run.trim_log(first_step)
                with RunLog(self.run.log_file, self.run.tensorboard, first_step) as log:
                    self._epochs(progress, log)
            else:
                self._epochs(progress, None)
            self.saver.finish(self.state)
        if not self.ranks.is_first:
            return None
        seconds = time.monotonic() - started
        rows = (self.state.step - first_step) * self.config.data.batch_size
        outcome = {
            "steps": self.state.step,
            "best_step": self.state.best_step,
            "seconds": round(seconds, 2),
            "rows_per_second": round(rows / max(seconds, 1e-9), 1),
            "validation": self.state.best_metrics,
        }
        self.run.write_outcome(outcome)
        return outcome

    def _epochs(self, progress: Progress, log: RunLog | None) -> None:
        task = progress.add_task(
            "train",
            total=self.total_steps * self.config.data.batch_size,
            completed=self.state.step * self.config.data.batch_size,
        )
        if self._is_at_its_end() and self.state.best_step >= 0:
            return  # its last checkpoint was saved with its validation
        while not self._is_at_its_end():
            self.model.train()
            with closing(self._prefetched(self._cursor())) as batches:
                for parts in self._steps(batches):
                    if self._agreement.failed_saving:
                        self.saver.wait()
                    self._after_step(parts, log)
                    progress.update(task, advance=self.config.data.batch_size)
                    if self._is_at_its_end():
                        break
                    if self._agreement.end:
                        self._save()
                        self.saver.wait()
                        raise EndedBySignal(self.state.step, self.run.path)
        if self.state.best_step < 0 or self.state.step % self._validation_interval():
            self._validate(log)

    def _cursor(self) -> Cursor:
        return Cursor(epoch=self.state.epoch, batch=self.state.batch, step=self.state.step)

    def _prefetched(self, cursor: Cursor) -> Generator[Any, None, None]:
        return prefetch(
            self.task.data.batches(cursor),
            self.config.data.prefetch,
            pin=self.ranks.device.type == "cuda",
        )

    def _steps(self, batches: Iterator[Any]) -> Iterator[dict[str, torch.Tensor]]:
        """Take optimizer steps until the epoch's batches are used up."""
        self.optimizers.set_learning_rates(self.state.step)
        while True:
            self.ranks.activity.at(step=self.state.step, doing="training")
            try:
                parts = self.pipeline.progress(batches)
            except StopIteration:
                return
            done = self._cursor().after(self.steps_per_epoch)
            self.state.epoch, self.state.batch, self.state.step = done.epoch, done.batch, done.step
            yield parts
            self.optimizers.set_learning_rates(self.state.step)

    def _after_step(self, parts: dict[str, torch.Tensor], log: RunLog | None) -> None:
        loop, step, last = self.config.loop, self.state.step, self.total_steps
        self._losses.add(parts)
        if step % loop.log_every == 0 or step == last:
            self._log_losses(log)
        if step % self._validation_interval() == 0:
            self._validate(log)
        elif loop.checkpoint_every and step % loop.checkpoint_every == 0 and step < last:
            self._save()  # the last step's is saved with its validation

    def _log_losses(self, log: RunLog | None) -> None:
        """Log the means over steps since the last entry and over ranks."""
        means = self._losses.means()
        if log is not None:
            means["epoch"] = self.state.step / self.steps_per_epoch
            log.write("train", self.state.step, means)

    def _validation_interval(self) -> int:
        return self.config.loop.validate_every or self.steps_per_epoch

    def _validate(self, log: RunLog | None) -> None:
        """Measure the validation part, remember whether it is the best, and save."""
        self.ranks.activity.at(doing="validation")
        self.pipeline.detach()
        metrics = self.task.validate(self.model)
        if log is not None:
            log.write("validation", self.state.step, metrics)
        self._remember(metrics)
        self._save()

    def _remember(self, metrics: dict[str, float]) -> None:
        value, best = metrics[self.task.chosen_by], self.state.best_value
        improved = value < best if self.task.lower_is_better else value > best
        if improved or self.state.best_step < 0:
            self.state.best_step, self.state.best_value = self.state.step, value
            self.state.bad_validations = 0
            self.state.best_metrics = metrics
        else:
            self.state.bad_validations += 1

    def _is_at_its_end(self) -> bool:
        patience = self.config.loop.patience
        has_stopped_improving = patience > 0 and self.state.bad_validations >= patience
        return self.state.step >= self.total_steps or has_stopped_improving

    def _save(self) -> None:
        self.ranks.activity.at(doing="saving")
        self.state.unlogged, self.state.unlogged_steps = self._losses.by_rank(), self._losses.steps
        self.saver.save(self.state, self.placement.document)

    def _keep_failed(self, batch: Batch | SequenceBatch, loss: float) -> str:
        """Keep a batch whose loss is not finite; where it is, or why it is nowhere."""
        parameters = self.model.named_parameters()
        try:
            kept = write_failed_batch(self.run.path, batch, self.ranks.rank, loss, parameters)
        except (OSError, SafetensorError) as error:
            return f"its batch could not be kept: {error}"
        return f"its batch is {kept}"


def make_task(config: TrainConfig, schema: Schema, ranks: Ranks) -> Task:
    """What the model's kind adds to the loop; ValueError if the data is of another kind."""
    config.check_kind_of(schema)
    if config.model.kind == "ranking":
        return RankingTask(config, schema, ranks)
    return MatchingTask(config, schema, ranks)
