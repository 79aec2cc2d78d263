"""Options of the methods around the base ranking model. Needs no torch.

A method's equations, and why its defaults are what they are, are in its module's docstring.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from dropdrift.models.option_checks import (
    at_least,
    between_0_and_1,
    positive,
    positive_share,
    share,
    share_or_all,
)

MethodKind = Literal[
    "base",
    "asymdiffrec",
    "cdae",
    "multivae",
    "ssl",
    "diffrec",
    "feature_mask",
    "feature_dropout",
]
ReconstructionNorm = Literal["mean", "sum"]
Serving = Literal["gated", "denoised", "plain"]
Kernels = Literal["automatic", "triton", "torch", "reference"]


@dataclass(frozen=True)
class BlockDropConfig:
    """Rows of the training that lose a whole block of features, and nothing else.

    Attributes:
        user: Probability with which a row loses all user fields; 0: never.
        item: Probability with which a row loses all item fields.
        identifiers: Probability with which a row loses the ids of users, items and authors.
    """

    user: float = 0.0
    item: float = 0.0
    identifiers: float = 0.0

    def __post_init__(self) -> None:
        for name in ("user", "item", "identifiers"):
            share(f"blocks.{name}", getattr(self, name))


@dataclass(frozen=True)
class AsymDiffRecConfig:
    """AsymDiffRec, the diffusion around the base model.

    Attributes:
        hidden_width: Units of the denoiser's hidden layer.
        reconstruction_weight: Weight of the reconstruction loss (eq. 2); 0: without it.
        auxiliary_weight: Weight of the auxiliary task loss (eq. 3); 0: without it.
        reconstruction_norm: Squared error averaged over the dimensions of z, or summed as printed.
        stop_gradient: Keep the reconstruction loss from moving its target z_0.
        max_drop_rate: Largest share of features dropped, in expectation; 1: uniform on 0..N.
        drop_rate: A fixed share of features dropped instead, in expectation; none: max_drop_rate.
        serving: How z is served. gated: mixed with the denoised z by how much is missing.
            denoised: the denoiser's output, as in the paper. plain: without the denoiser.
        gate_floor: Share of the denoised z in rows as complete as the mean training row.
        gate_steepness: How quickly the gate opens from there with the share q of features missing
            beyond the mean training row: gate_floor + (1 - gate_floor)(1 - exp(-gate_steepness q)).
        kernels: What drops features and denoises, in training and serving. automatic: Triton's
            kernels on a GPU, torch on a CPU and where those do not fit. triton, torch: that one.
            reference: the paper's equations in plain torch, slower, to compare with.
    """

    hidden_width: int = 256
    reconstruction_weight: float = 0.1
    auxiliary_weight: float = 0.1
    reconstruction_norm: ReconstructionNorm = "mean"
    stop_gradient: bool = False
    max_drop_rate: float = 1.0
    drop_rate: float | None = None
    serving: Serving = "gated"
    gate_floor: float = 0.1
    gate_steepness: float = 6.0
    kernels: Kernels = "automatic"
    blocks: BlockDropConfig = field(
        default_factory=lambda: BlockDropConfig(user=0.1, item=0.1, identifiers=0.1)
    )

    @property
    def backend(self) -> str:
        """``kernels`` as the operators take it."""
        return "" if self.kernels == "automatic" else self.kernels

    def __post_init__(self) -> None:
        at_least("asymdiffrec.hidden_width", self.hidden_width, 1)
        for name in ("reconstruction_weight", "auxiliary_weight", "gate_steepness"):
            at_least(f"asymdiffrec.{name}", getattr(self, name), 0)
        if not (self.reconstruction_weight or self.auxiliary_weight):
            raise ValueError(
                "model.asymdiffrec.reconstruction_weight and auxiliary_weight are both 0: nothing "
                "would train the denoiser; use --model.method base for the base alone"
            )
        positive_share("asymdiffrec.max_drop_rate", self.max_drop_rate)
        if self.drop_rate is not None:
            positive_share("asymdiffrec.drop_rate", self.drop_rate)
            if self.max_drop_rate != 1:
                raise ValueError(
                    f"model.asymdiffrec.drop_rate is {self.drop_rate} and max_drop_rate "
                    f"{self.max_drop_rate}: a fixed rate has no largest one, give only one of them"
                )
        share_or_all("asymdiffrec.gate_floor", self.gate_floor)


@dataclass(frozen=True)
class CDAEConfig:
    """CDAE, a denoising autoencoder of the concatenated embeddings.

    Attributes:
        weight: Weight of the reconstruction loss.
        corruption: Share q of an embedding's numbers set to zero; the others are divided by 1 - q.
    """

    weight: float = 0.03
    corruption: float = 0.2

    def __post_init__(self) -> None:
        positive("cdae.weight", self.weight)
        share("cdae.corruption", self.corruption)


@dataclass(frozen=True)
class MultiVAEConfig:
    """MultiVAE, a variational autoencoder whose latent vector the head reads.

    Attributes:
        weight: Weight of the reconstruction loss, and of the divergence beside it.
        kl_weight: beta, the weight of the divergence once it is annealed.
        anneal_steps: Optimizer steps in which beta rises from 0; 0: it is there at once.
        hidden_width: Units of the decoder's hidden layer.
    """

    weight: float = 0.03
    kl_weight: float = 0.2
    anneal_steps: int = 200
    hidden_width: int = 256

    def __post_init__(self) -> None:
        positive("multivae.weight", self.weight)
        at_least("multivae.kl_weight", self.kl_weight, 0)
        at_least("multivae.anneal_steps", self.anneal_steps, 0)
        at_least("multivae.hidden_width", self.hidden_width, 1)


@dataclass(frozen=True)
class SSLConfig:
    """Self-supervised learning from two masked views of a row.

    Attributes:
        weight: alpha, the weight of the contrastive loss.
        temperature: tau, what similarities are divided by.
        projection_width: Width of the vectors that are compared.
        block_rows: Rows of the global batch among which a row must find its other view. Where each
            rank has a multiple of them, the number of ranks changes no loss.
    """

    weight: float = 0.03
    temperature: float = 0.1
    projection_width: int = 64
    block_rows: int = 128

    def __post_init__(self) -> None:
        positive("ssl.weight", self.weight)
        positive("ssl.temperature", self.temperature)
        at_least("ssl.projection_width", self.projection_width, 1)
        at_least("ssl.block_rows", self.block_rows, 2)


@dataclass(frozen=True)
class DiffRecConfig:
    """DiffRec, a Gaussian diffusion of z beside the task.

    Attributes:
        weight: Weight of the diffusion's loss.
        steps: T, the number of diffusion steps.
        noise_first: Variance of the noise after the first step, of 1 in all.
        noise_last: Variance of the noise after the last step.
        hidden_width: Units of the denoiser's hidden layer.
        step_width: Numbers that tell the denoiser the step; even.
    """

    weight: float = 0.1
    steps: int = 50
    noise_first: float = 0.01
    noise_last: float = 0.5
    hidden_width: int = 256
    step_width: int = 16

    def __post_init__(self) -> None:
        positive("diffrec.weight", self.weight)
        for name in ("noise_first", "noise_last"):
            between_0_and_1(f"diffrec.{name}", getattr(self, name))
        if self.noise_last < self.noise_first:
            raise ValueError(
                f"model.diffrec.noise_last is {self.noise_last}, must not be less than "
                f"noise_first, {self.noise_first}"
            )
        for name in ("steps", "hidden_width"):
            at_least(f"diffrec.{name}", getattr(self, name), 1)
        at_least("diffrec.step_width", self.step_width, 2)
        if self.step_width % 2:
            raise ValueError(f"model.diffrec.step_width is {self.step_width}, must be even")


@dataclass(frozen=True)
class FeatureMaskConfig:
    """Training on a row and on the same row with features masked, as in AdaF2M2.

    Attributes:
        weight: Weight of the masked row's loss.
        max_drop_rate: Largest share of features masked, in expectation; 1: uniform on 0..N.
    """

    weight: float = 0.1
    max_drop_rate: float = 1.0
    blocks: BlockDropConfig = field(default_factory=BlockDropConfig)

    def __post_init__(self) -> None:
        positive("feature_mask.weight", self.weight)
        positive_share("feature_mask.max_drop_rate", self.max_drop_rate)


@dataclass(frozen=True)
class FeatureDropoutConfig:
    """Training on rows with features dropped, and on nothing else.

    Attributes:
        max_drop_rate: Largest share of features dropped, in expectation; 1: uniform on 0..N.
    """

    max_drop_rate: float = 0.3
    blocks: BlockDropConfig = field(default_factory=BlockDropConfig)

    def __post_init__(self) -> None:
        positive_share("feature_dropout.max_drop_rate", self.max_drop_rate)
