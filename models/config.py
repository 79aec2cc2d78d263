"""Options of the models. Needs no torch, so that the command line's help is quick."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from dropdrift.models.matching.config import ItemConfig, SASRecConfig, SoftmaxConfig
from dropdrift.models.option_checks import at_least
from dropdrift.models.t2diff.config import T2DiffConfig

ModelKind = Literal["ranking", "t2diff", "sasrec"]
ReconstructionNorm = Literal["mean", "sum"]
Serving = Literal["gated", "denoised", "plain"]
Kernels = Literal["automatic", "triton", "torch", "reference"]
# FBGEMM has no kernels for bf16 tables: see docs/numerics.md.
TablePrecision = Literal["fp32", "fp16"]


@dataclass(frozen=True)
class DCNv2Config:
    """The base model: cross network and deep network, then a projection to z.

    Attributes:
        structure: Cross and deep network side by side, or deep on top of cross.
        cross_layers: Number of cross layers; 0 leaves a plain deep network.
        cross_rank: Rank of the cross layers' weight matrices; 0: full matrices.
        deep_widths: Units of the deep layers, first to last.
        z_width: Width of the latent representation z that the head reads.
    """

    structure: Literal["parallel", "stacked"] = "parallel"
    cross_layers: int = 2
    cross_rank: int = 0
    deep_widths: tuple[int, ...] = (512, 256)
    z_width: int = 128

    def __post_init__(self) -> None:
        at_least("dcnv2.cross_layers", self.cross_layers, 0)
        at_least("dcnv2.cross_rank", self.cross_rank, 0)
        at_least("dcnv2.z_width", self.z_width, 1)
        for width in self.deep_widths:
            at_least("dcnv2.deep_widths", width, 1)
        if not self.deep_widths and not self.cross_layers:
            raise ValueError("model.dcnv2 has neither cross layers nor deep layers")


@dataclass(frozen=True)
class AsymDiffRecConfig:
    """The diffusion around the base model.

    Attributes:
        enabled: Train and serve AsymDiffRec; off: the base model alone.
        hidden_width: Units of the denoiser's hidden layer.
        reconstruction_weight: Weight of the reconstruction loss (eq. 2); 0: without it.
        auxiliary_weight: Weight of the auxiliary task loss (eq. 3); 0: without it.
        reconstruction_norm: Squared error averaged over the dimensions of z, or summed as printed.
        stop_gradient: Keep the reconstruction loss from moving its target z_0.
        max_drop_rate: Largest share of features dropped, in expectation; 1: uniform on 0..N.
        serving: How z is served. gated: mixed with the denoised z by how much is missing.
            denoised: the denoiser's output, as in the paper. plain: without the denoiser.
        gate_steepness: How quickly the gate opens with the share q of features missing beyond the
            mean training row: 1 - exp(-gate_steepness q).
        kernels: What drops features and denoises, in training and serving. automatic: Triton's
            kernels on a GPU, torch on a CPU and where those do not fit. triton, torch: that one.
            reference: the paper's equations in plain torch, slower, to compare with.
    """

    enabled: bool = True
    hidden_width: int = 256
    reconstruction_weight: float = 0.3
    auxiliary_weight: float = 0.3
    reconstruction_norm: ReconstructionNorm = "mean"
    stop_gradient: bool = False
    max_drop_rate: float = 1.0
    serving: Serving = "gated"
    gate_steepness: float = 6.0
    kernels: Kernels = "automatic"

    @property
    def backend(self) -> str:
        """``kernels`` as the operators take it."""
        return "" if self.kernels == "automatic" else self.kernels

    def __post_init__(self) -> None:
        at_least("asymdiffrec.hidden_width", self.hidden_width, 1)
        for name in ("reconstruction_weight", "auxiliary_weight", "gate_steepness"):
            at_least(f"asymdiffrec.{name}", getattr(self, name), 0)
        if self.enabled and not (self.reconstruction_weight or self.auxiliary_weight):
            raise ValueError(
                "model.asymdiffrec.reconstruction_weight and auxiliary_weight are both 0: nothing "
                "would train the denoiser; use --no-model.asymdiffrec.enabled for the base alone"
            )
        if not 0 < self.max_drop_rate <= 1:
            raise ValueError(
                f"model.asymdiffrec.max_drop_rate is {self.max_drop_rate}, must be in (0, 1]"
            )


@dataclass(frozen=True)
class ModelConfig:
    """What is trained.

    Attributes:
        kind: ranking: DCN-V2, with or without AsymDiffRec, from impressions. t2diff and sasrec:
            matching, from sequences of interactions.
        tasks: Labels to predict, one head each; empty: the first label of the data set. The first
            one is what validation and early stopping look at.
        embedding_init_std: Standard deviation of the embeddings' initial values.
        table_precision: Numbers that the embedding tables are kept in. fp16 takes half the memory;
            the optimizer's state and what is looked up stay fp32. On a CPU, updates below half of
            fp16's spacing are lost; on CUDA, FBGEMM rounds stochastically (not run so far). Not
            with optimizer.sparse 'adam'.
    """

    kind: ModelKind = "ranking"
    tasks: tuple[str, ...] = ()
    embedding_init_std: float = 0.01
    table_precision: TablePrecision = "fp32"
    dcnv2: DCNv2Config = field(default_factory=DCNv2Config)
    asymdiffrec: AsymDiffRecConfig = field(default_factory=AsymDiffRecConfig)
    item: ItemConfig = field(default_factory=ItemConfig)
    softmax: SoftmaxConfig = field(default_factory=SoftmaxConfig)
    t2diff: T2DiffConfig = field(default_factory=T2DiffConfig)
    sasrec: SASRecConfig = field(default_factory=SASRecConfig)

    def __post_init__(self) -> None:
        at_least("embedding_init_std", self.embedding_init_std, 0)
        for task in self.tasks:
            if self.tasks.count(task) > 1:
                raise ValueError(f"model.tasks lists {task!r} {self.tasks.count(task)} times")
