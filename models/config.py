"""Options of the models. Needs no torch, so that the command line's help is quick."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from dropdrift.models.matching.config import ItemConfig, SASRecConfig, SoftmaxConfig
from dropdrift.models.methods.config import (
    AsymDiffRecConfig,
    CDAEConfig,
    DiffRecConfig,
    FeatureDropoutConfig,
    FeatureMaskConfig,
    MethodKind,
    MultiVAEConfig,
    SSLConfig,
)
from dropdrift.models.option_checks import at_least
from dropdrift.models.t2diff.config import T2DiffConfig

ModelKind = Literal["ranking", "t2diff", "sasrec"]
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
class ModelConfig:
    """What is trained.

    Attributes:
        kind: ranking: DCN-V2 and a method around it, from impressions. t2diff and sasrec: matching,
            from sequences of interactions.
        method: What is trained around a ranking model's base. base: nothing. asymdiffrec: the
            diffusion that drops features and completes them. cdae, multivae, ssl, diffrec: what its
            paper compares it with. feature_mask, feature_dropout: dropped features alone.
        tasks: Labels to predict, one head each; empty: the first label of the data set. The first
            one is what validation and early stopping look at.
        embedding_init_std: Standard deviation of the embeddings' initial values.
        table_precision: Numbers that the embedding tables are kept in. fp16 takes half the memory;
            the optimizer's state and what is looked up stay fp32. On a CPU, updates below half of
            fp16's spacing are lost; on CUDA, FBGEMM rounds stochastically (not run so far). Not
            with optimizer.sparse 'adam'.
    """

    kind: ModelKind = "ranking"
    method: MethodKind = "asymdiffrec"
    tasks: tuple[str, ...] = ()
    embedding_init_std: float = 0.01
    table_precision: TablePrecision = "fp32"
    dcnv2: DCNv2Config = field(default_factory=DCNv2Config)
    asymdiffrec: AsymDiffRecConfig = field(default_factory=AsymDiffRecConfig)
    cdae: CDAEConfig = field(default_factory=CDAEConfig)
    multivae: MultiVAEConfig = field(default_factory=MultiVAEConfig)
    ssl: SSLConfig = field(default_factory=SSLConfig)
    diffrec: DiffRecConfig = field(default_factory=DiffRecConfig)
    feature_mask: FeatureMaskConfig = field(default_factory=FeatureMaskConfig)
    feature_dropout: FeatureDropoutConfig = field(default_factory=FeatureDropoutConfig)
    item: ItemConfig = field(default_factory=ItemConfig)
    softmax: SoftmaxConfig = field(default_factory=SoftmaxConfig)
    t2diff: T2DiffConfig = field(default_factory=T2DiffConfig)
    sasrec: SASRecConfig = field(default_factory=SASRecConfig)

    def __post_init__(self) -> None:
        at_least("embedding_init_std", self.embedding_init_std, 0)
        for task in self.tasks:
            if self.tasks.count(task) > 1:
                raise ValueError(f"model.tasks lists {task!r} {self.tasks.count(task)} times")
