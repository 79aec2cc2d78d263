"""Options of a run. Needs no torch, so that the command line's help is quick."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from dropdrift.data.config import DataConfig
from dropdrift.data.schema import Schema
from dropdrift.models.config import ModelConfig
from dropdrift.sharding.config import ShardingConfig
from dropdrift.training.matching.config import DEFAULT_KS, TransitionConfig, check_ks

SparseOptimizer = Literal["rowwise_adagrad", "adagrad", "sgd", "adam"]
DecaySchedule = Literal["constant", "linear", "cosine"]
SelectionMetric = Literal["auc", "uauc", "log_loss", "recall", "mrr", "ndcg"]
Precision = Literal["fp32", "bf16"]

# The file of a run's folder that holds its TrainConfig.
CONFIG_FILE = "config.yaml"

# What torch's generator takes, and thirty years.
MAX_SEED = 2**63 - 1
MAX_TIMEOUT = 1e9


@dataclass(frozen=True)
class OptimizerConfig:
    """Optimizers and learning rates.

    Attributes:
        learning_rate: Peak learning rate of the dense parameters (Adam).
        weight_decay: Decoupled weight decay of the dense parameters.
        gradient_clip: Largest norm of the dense gradient; 0: no clipping.
        sparse: Optimizer of the embedding tables, applied inside the backward. Row-wise Adagrad
            keeps one number a row; its tables are never cut by columns. adam: two numbers for each
            of the table's, and a copy of the tables on every rank, updated after the backward: for
            small catalogues.
        sparse_learning_rate: Peak learning rate of the embedding tables.
        warmup_steps: Steps over which both learning rates rise linearly from zero.
        decay: Course of both learning rates after the warm-up, until the last step.
        final_share: Share of the peak learning rate left at the last step.
    """

    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    gradient_clip: float = 0.0
    sparse: SparseOptimizer = "rowwise_adagrad"
    sparse_learning_rate: float = 0.02
    warmup_steps: int = 0
    decay: DecaySchedule = "constant"
    final_share: float = 0.0

    def __post_init__(self) -> None:
        for name in ("learning_rate", "sparse_learning_rate"):
            if getattr(self, name) <= 0:
                raise ValueError(f"optimizer.{name} is {getattr(self, name)}, must be positive")
        for name in ("weight_decay", "gradient_clip", "warmup_steps"):
            if getattr(self, name) < 0:
                raise ValueError(f"optimizer.{name} is {getattr(self, name)}, must not be negative")
        if not 0 <= self.final_share <= 1:
            raise ValueError(f"optimizer.final_share is {self.final_share}, must be in [0, 1]")


@dataclass(frozen=True)
class LoopConfig:
    """The training loop.

    Attributes:
        epochs: Passes over the training part.
        max_steps: Stop after so many steps; 0: no limit.
        seed: Seed of initial weights, shuffling and drop masks.
        precision: Arithmetic of the dense part. bf16 is automatic mixed precision.
        validate_every: Steps between validations; 0: after each epoch.
        select_by: Validation metric that picks the best checkpoint: auc, uauc or log_loss for
            ranking; recall, mrr or ndcg for matching.
        select_at: How long the list is that recall, mrr or ndcg look at.
        patience: Validations without improvement before training stops early; 0: never.
        checkpoint_every: Steps between checkpoints besides the ones at validations; 0: none.
        keep_checkpoints: Newest checkpoints kept besides the best one.
        save_in_background: Go on training while a checkpoint is written. It is copied first: each
            rank needs its tables, weights and optimizer state once more in the host's memory.
        log_every: Steps between entries of the training log.
        timeout: Seconds that a rank waits for another one, to come and in every exchange, before it
            names it and ends; also of the commands that use the run.
    """

    epochs: int = 1
    max_steps: int = 0
    seed: int = 1
    precision: Precision = "fp32"
    validate_every: int = 0
    select_by: SelectionMetric = "auc"
    select_at: int = 10
    patience: int = 0
    checkpoint_every: int = 0
    keep_checkpoints: int = 1
    save_in_background: bool = False
    log_every: int = 50
    timeout: float = 300.0

    def __post_init__(self) -> None:
        for name in ("epochs", "select_at", "keep_checkpoints", "log_every", "timeout"):
            if getattr(self, name) <= 0:
                raise ValueError(f"loop.{name} is {getattr(self, name)}, must be positive")
        for name in ("max_steps", "seed", "validate_every", "patience", "checkpoint_every"):
            if getattr(self, name) < 0:
                raise ValueError(f"loop.{name} is {getattr(self, name)}, must not be negative")
        for name, most in (("seed", MAX_SEED), ("timeout", MAX_TIMEOUT)):
            if getattr(self, name) > most:
                raise ValueError(f"loop.{name} is {getattr(self, name)}, must be at most {most}")


@dataclass(frozen=True)
class RecipeConfig:
    """What a recipe may set: data, model, and how it is trained."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    sharding: ShardingConfig = field(default_factory=ShardingConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)

    def __post_init__(self) -> None:
        ranking = self.model.kind == "ranking"
        allowed = ("auc", "uauc", "log_loss") if ranking else ("recall", "mrr", "ndcg")
        if self.loop.select_by not in allowed:
            raise ValueError(
                f"loop.select_by is {self.loop.select_by!r}, must be one of {', '.join(allowed)} "
                f"where model.kind is {self.model.kind!r}"
            )
        if self.optimizer.sparse == "adam" and self.model.table_precision != "fp32":
            raise ValueError(
                f"model.table_precision is {self.model.table_precision!r}, must be 'fp32' where "
                "optimizer.sparse is 'adam': its moments would be of that precision too, and the "
                "squares of small gradients vanish"
            )

    def check_kind_of(self, schema: Schema) -> None:
        """Refuse data that a model of this kind does not learn from; ValueError."""
        wanted = "impressions" if self.model.kind == "ranking" else "interactions"
        if schema.kind != wanted:
            raise ValueError(
                f"{self.data.path} holds {schema.kind}, but model.kind {self.model.kind!r} learns "
                f"from {wanted}: prepare the data with --task "
                f"{'ranking' if wanted == 'impressions' else 'matching'}, or choose another recipe"
            )

    @property
    def chosen_by(self) -> str:
        """Name of the validation number that chooses the best checkpoint, such as ndcg@10."""
        ranking = self.model.kind == "ranking"
        return self.loop.select_by + ("" if ranking else f"@{self.loop.select_at}")


@dataclass(frozen=True)
class TrainConfig(RecipeConfig):
    """Everything that decides a run.

    Attributes:
        out: Folder of the run: checkpoints, logs, resolved configuration. A folder that holds a
            run is refused unless it is resumed.
        resume: Go on from the newest checkpoint in 'out', or begin again where the run was stopped
            before the first one.
        plan: A plan that 'dropdrift plan save' wrote, used instead of planning anew; refused where
            tables, ranks, hardware, batch, optimizer or versions are not those it was made for.
        preflight: Check all ranks first, as 'dropdrift preflight' does, and write preflight.json
            into 'out'.
    """

    out: Path = Path("runs/train")
    resume: bool = False
    plan: Path | None = None
    preflight: bool = False


# Options of an evaluation that a ranking model has nothing to do with.
EVALUATION_OF_MATCHING = ("noise_seeds", "ks", "transition_weights", "transition")


@dataclass(frozen=True)
class EvaluateConfig:
    """What to evaluate, and on what.

    Attributes:
        run_folder: Folder of a run.
        data: Folder of the prepared data; none: where the run was trained.
        part: Part to evaluate: train, validation or test.
        robustness: Also measure with fields dropped: shares of 10 to 90%, each side, all ids
            (ranking).
        scores: Also write the scores of all rows, under every scenario, beside the result:
            scores-PART.parquet (ranking).
        batch_size: Rows of one global batch.
        seed: Seed of the random drops (ranking) or of the noise that user vectors are made from
            (matching).
        noise_seeds: How many seeds of that noise, from 'seed' on, to measure (matching).
        ks: Lengths of the lists that Recall, MRR and NDCG look at, ascending (matching).
        transition_weights: What the logarithms of transition counts are multiplied by before they
            are added to the model's scores; each is measured, 0 is the model alone (matching).
            Choose on the validation part.
        name: Name of the model in reports; none: the run folder's name.
        out: JSON file to write; none: evaluation-PART.json in the run's folder. Of a matching run,
            the ranks of all rows go beside it: ranks-PART.parquet.
        preflight: Check all ranks first, as 'dropdrift preflight' does, and write
            preflight-PART.json beside the result.
    """

    run_folder: Path
    data: Path | None = None
    part: Literal["train", "validation", "test"] = "test"
    robustness: bool = True
    scores: bool = False
    batch_size: int = 4096
    seed: int = 0
    noise_seeds: int = 1
    ks: tuple[int, ...] = DEFAULT_KS
    transition_weights: tuple[float, ...] = (0.0,)
    transition: TransitionConfig = field(default_factory=TransitionConfig)
    name: str | None = None
    out: Path | None = None
    preflight: bool = False

    def __post_init__(self) -> None:
        _check_positive(self.batch_size)
        if not 0 <= self.seed <= MAX_SEED:
            raise ValueError(f"seed is {self.seed}, must be between 0 and {MAX_SEED}")
        if not 1 <= self.noise_seeds <= MAX_SEED - self.seed:
            raise ValueError(
                f"noise_seeds is {self.noise_seeds}, must be positive and, added to seed, at most "
                f"{MAX_SEED}"
            )
        check_ks(self.ks)
        weights = self.transition_weights
        if not weights or min(weights) < 0 or len(set(weights)) < len(weights):
            shown = " ".join(map(str, weights)) or "empty"
            raise ValueError(
                f"transition_weights is {shown}, must be different numbers that are not negative"
            )

    @property
    def result_file(self) -> Path:
        """Where the result goes."""
        return self.out or self.run_folder / f"evaluation-{self.part}.json"


@dataclass(frozen=True)
class PredictConfig:
    """What to score, and with what.

    Attributes:
        run_folder: Folder of a run.
        source: Parquet file of raw rows, its columns named as the fields; columns that are not
            there are missing features.
        out: Parquet file to write: one row for each of the source's, in order.
        keep: Columns of the source to copy in front of the scores.
        batch_size: Rows scored at once.
    """

    run_folder: Path
    source: Path
    out: Path
    keep: tuple[str, ...] = ()
    batch_size: int = 4096

    def __post_init__(self) -> None:
        _check_positive(self.batch_size)


@dataclass(frozen=True)
class ExportConfig:
    """Which weights to write, and where.

    Attributes:
        run_folder: Folder of a run; the best checkpoint by validation is taken.
        out: File to write, NAME.safetensors; NAME.json beside it says what the weights are.
    """

    run_folder: Path
    out: Path

    def __post_init__(self) -> None:
        if self.out.suffix != ".safetensors":
            raise ValueError(f"out is {self.out}, must end in .safetensors")


def _check_positive(batch_size: int) -> None:
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}, must be positive")
