"""Options of T2Diff. Needs no torch, so that the command line's help is quick."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from dropdrift.models.option_checks import at_least, between_0_and_1, positive, share

NextItemKind = Literal["diffusion", "diffusion-joint", "regression", "last", "constant", "none"]
ScheduleKind = Literal["exponential", "linear", "logarithmic"]
EstimatorKind = Literal["unet", "mlp"]
SessionEncoderKind = Literal["transformer", "mean"]
SessionSplit = Literal["count", "gap"]
NextItemInto = Literal["session", "user", "both"]
TrainingEstimate = Literal["noised", "noise"]
KlNorm = Literal["squared", "plain"]

# What a difference of times can be.
MAX_GAP = 2**63 - 1


@dataclass(frozen=True)
class DiffusionConfig:
    """The diffusion of interest drift (T2Diff, section 4.2).

    Attributes:
        steps: T, the number of diffusion steps.
        schedule: Course of the noise beta over the steps (eq. 13 and section 5.1.5).
        beta_first: Noise of the first step.
        beta_last: Noise of the last step.
        drift: Diffuse the drift between adjacent items (drift preparation); off: the items.
        scale: What is diffused is multiplied by this first: embeddings far smaller than the noise,
            whose numbers have variance 1, leave nothing to be recovered from it.
        estimator: unet: 1-D U-Net over the window, as published. mlp: one step for the newest drift
            from the last items, which is cheap enough for every position.
        window: Newest items that the estimator sees.
        levels: Levels of the U-Net, the input's included; the window is halved levels - 1 times.
        hidden_width: Hidden units of the MLP.
        kl_weight: lambda, the weight of the diffusion's loss (eq. 25).
        kl_norm: Norm of the estimate's error: squared (eq. 23) or plain, as in the published code.
        training_estimate: What x_hat is in training: noised: one step from the noised true drift,
            as published. noise: one step from pure noise, which has not seen the target.
        sampling_steps: Steps of the reverse process in serving; 0: all. Fewer are skipped evenly
            (DDIM).
        noise_in_sampling: Add noise in the reverse process (DDPM); off: none (DDIM, eta 0).
    """

    steps: int = 50
    schedule: ScheduleKind = "exponential"
    beta_first: float = 0.011
    beta_last: float = 0.9
    drift: bool = True
    scale: float = 1.0
    estimator: EstimatorKind = "unet"
    window: int = 50
    levels: int = 4
    hidden_width: int = 256
    kl_weight: float = 0.1
    kl_norm: KlNorm = "squared"
    training_estimate: TrainingEstimate = "noised"
    sampling_steps: int = 0
    noise_in_sampling: bool = True

    def __post_init__(self) -> None:
        for name in ("steps", "window", "levels", "hidden_width"):
            at_least(f"t2diff.diffusion.{name}", getattr(self, name), 1)
        for name in ("sampling_steps", "kl_weight"):
            at_least(f"t2diff.diffusion.{name}", getattr(self, name), 0)
        positive("t2diff.diffusion.scale", self.scale)
        for name in ("beta_first", "beta_last"):
            between_0_and_1(f"t2diff.diffusion.{name}", getattr(self, name))
        if self.beta_last < self.beta_first:
            raise ValueError(
                f"model.t2diff.diffusion.beta_last is {self.beta_last}, must not be less than "
                f"beta_first, {self.beta_first}"
            )
        if self.sampling_steps > self.steps:
            raise ValueError(
                f"model.t2diff.diffusion.sampling_steps is {self.sampling_steps}, must be at most "
                f"steps, {self.steps}"
            )
        if self.estimator == "unet" and self.window < 2 ** (self.levels - 1):
            raise ValueError(
                f"model.t2diff.diffusion.window is {self.window}, which cannot be halved "
                f"{self.levels - 1} times: give at least {2 ** (self.levels - 1)}, or fewer levels"
            )


@dataclass(frozen=True)
class SessionConfig:
    """The mixed-attention module: the session, and the history that it attends to (section 4.3).

    Attributes:
        split: count: the session is the last items. gap: it begins after the last pause.
        length: Most items of the session.
        gap: Shortest pause between two sessions, in the unit of the data's times (gap).
        encoder: transformer, as published, or the mean of the session's items.
        heads: Attention heads of the transformer; must divide the item's width.
        feed_forward: Units of its hidden layer.
        recency_bias: Learn a weight for each position, in the session's mean and in the attention
            to the history; off: order-blind, as published.
        attention_hidden: Hidden units of the attention to the history.
        time_lag: Learn a bias for each power of two of the time between an item and the newest one
            in the attention to the history.
        next_item_into: Where x_hat goes. session: into the session, as published. user: into eq.
            22's network, beside h_l and h_s. both: into both.
        input_norm: Layer norm on the items, and on x_hat, before session and history.
        user_layers: Hidden layers of eq. 22's network, each of 4 times the item's width; -1: none
            at all, as in the published code, where the user's vector is its input [h_l, h_s].
        user_residual: Add a linear map of that network's input to its output.
        output_norm: Layer norm on the user's vector.
        dropout: Share of the user network's input dropped in training.
    """

    split: SessionSplit = "count"
    length: int = 10
    gap: int = 1800
    encoder: SessionEncoderKind = "transformer"
    heads: int = 2
    feed_forward: int = 64
    recency_bias: bool = False
    attention_hidden: int = 4
    time_lag: bool = False
    next_item_into: NextItemInto = "session"
    input_norm: bool = False
    user_layers: int = 0
    user_residual: bool = False
    output_norm: bool = False
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("length", "gap", "heads", "feed_forward", "attention_hidden"):
            at_least(f"t2diff.session.{name}", getattr(self, name), 1)
        at_least("t2diff.session.user_layers", self.user_layers, -1)
        if self.gap > MAX_GAP:
            raise ValueError(f"model.t2diff.session.gap is {self.gap}, must be at most {MAX_GAP}")
        share("t2diff.session.dropout", self.dropout)

    @property
    def looks_at_times(self) -> bool:
        """Whether a user's vector depends on when something was, besides on the order."""
        return self.time_lag or self.split == "gap"


@dataclass(frozen=True)
class T2DiffConfig:
    """T2Diff's user tower.

    Attributes:
        next_item: What the session is completed with, x_hat. diffusion: as published, with
            gradients stopped on the way in and out. diffusion-joint: without the stops. regression:
            the estimator without noise, trained to predict the drift. last: the newest item.
            constant: a learned vector. none: nothing (mixed attention only).
    """

    next_item: NextItemKind = "diffusion"
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    session: SessionConfig = field(default_factory=SessionConfig)
