"""AsymDiffRec: asymmetric diffusion around a base ranking model.

Zhu et al., "Asymmetric Diffusion Recommendation Model", CIKM 2025. The forward process drops
features (section 3.2, ``kernels.feature_dropout``); the reverse process completes them in the
latent space (section 3.3, ``kernels.denoiser``), in training and at serving (section 3.4).

Legend: B rows, D width of the embeddings, N fields, W mask words, Z width of z, L tasks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dropdrift.kernels.backend import triton_problem
from dropdrift.kernels.denoiser import Denoiser
from dropdrift.kernels.denoiser.tiles import out_of_range
from dropdrift.kernels.feature_dropout import unpack_words
from dropdrift.models.config import ModelConfig
from dropdrift.models.losses import reconstruction_loss, task_loss
from dropdrift.models.methods.config import AsymDiffRecConfig
from dropdrift.models.methods.forward_process import Block, ForwardProcess
from dropdrift.models.methods.method import (
    BaseModel,
    Method,
    variance_over_rows,
    weighted_sum,
)

# A field missing in more than half of the training rows tells nothing when it is missing again.
USUALLY_MISSING = 0.5


class AsymDiffRec(Method):
    """Forward process, denoiser, losses and serving.

    Args:
        widths: embedding width of each field.
        z_width: Z.
        missing_rates: share of the training rows in which each field is missing; the gate counts
            only fields that are usually present, and what is missing beyond their mean rate.
        config: see ``AsymDiffRecConfig``.
        seed: seed of the drop masks.
        blocks: what the forward process can drop as a whole.
    """

    informative: Tensor

    def __init__(
        self,
        widths: tuple[int, ...],
        z_width: int,
        missing_rates: tuple[float, ...],
        config: AsymDiffRecConfig,
        seed: int,
        blocks: tuple[Block, ...] = (),
    ) -> None:
        super().__init__()
        self.widths = widths
        self.config = config
        self.backend = config.backend
        self.forward_process = ForwardProcess(
            widths,
            seed,
            max_drop_rate=config.max_drop_rate,
            drop_rate=config.drop_rate,
            blocks=blocks,
            backend=self.backend,
        )
        self.denoiser = Denoiser(
            len(widths),
            z_width,
            config.hidden_width,
            # [B, H] is little beside the embeddings, and quicker to keep than to compute again.
            save_hidden=True,
            backend=self.backend,
        )
        usual = [rate for rate in missing_rates if rate <= USUALLY_MISSING]
        self.usual_share = sum(usual) / len(usual) if usual else 0.0
        informative = torch.tensor([rate <= USUALLY_MISSING for rate in missing_rates])
        self.register_buffer("informative", informative, persistent=False)

    def losses(
        self,
        base: BaseModel,
        embedded: Tensor,
        missing: Tensor,
        labels: Tensor,
        step: int,
        first_row: int,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of section 3.4; see :meth:`Method.losses`."""
        dropped, words = self.forward_process.drop(embedded, missing, step, first_row)
        # h works row by row, so one call serves both passes.
        clean, noisy = base.extract(torch.cat([embedded, dropped])).chunk(2)
        reconstructed = self.denoiser(words, noisy)
        target = clean.detach() if self.config.stop_gradient else clean
        losses = {"main": task_loss(base.head(clean), labels)}
        if self.config.reconstruction_weight:
            losses["reconstruction"] = reconstruction_loss(
                reconstructed, target, self.config.reconstruction_norm
            )
        if self.config.auxiliary_weight:
            losses["auxiliary"] = task_loss(base.head(reconstructed), labels)
        weights = {
            "reconstruction": self.config.reconstruction_weight,
            "auxiliary": self.config.auxiliary_weight,
        }
        total, parts = weighted_sum(losses, weights, clean)
        return total, parts | _collapse_signs(clean, reconstructed, parts["z_variance"])

    def serve(self, z: Tensor, missing: Tensor) -> Tensor:
        """The representation that the head reads at serving, [B, Z].

        ``denoised`` is the paper's g([s, z]). ``gated`` is z + a (g([s, z]) - z) with a of
        :meth:`gate`, which grows with what is missing. f is linear, so that its logit is that of z
        and that of g([s, z]), mixed.
        """
        if self.config.serving == "plain":
            return z
        denoised = self.denoiser(missing, z)
        if self.config.serving == "denoised":
            return denoised
        return torch.lerp(z, denoised, self.gate(missing).to(z.dtype))

    def gate(self, missing: Tensor) -> Tensor:
        """The share a = a_0 + (1 - a_0)(1 - exp(-k q)), [B, 1]; a_0 the floor, k the steepness.

        q in [0, 1] is the share missing of the fields that are usually there, beyond the share
        missing in the mean training row: 0 at or below that, 1 where all of them are missing.
        """
        flags = unpack_words(missing, len(self.widths)) & self.informative
        share = flags.sum(dim=1, keepdim=True) / self.informative.sum().clamp(min=1)
        q = ((share - self.usual_share) / (1 - self.usual_share)).clamp(min=0)
        return 1 - (1 - self.config.gate_floor) * torch.exp(-self.config.gate_steepness * q)


def check_kernels(config: ModelConfig, fields: int, device: torch.device) -> None:
    """Check that the kernels which the options ask for can run, before a batch finds out.

    Args:
        config: the model's options.
        fields: N.
        device: where it will run.

    Raises:
        ValueError: they cannot, and why.
    """
    if config.method == "asymdiffrec" and config.asymdiffrec.kernels == "triton":
        sizes = (fields, config.dcnv2.z_width, config.asymdiffrec.hidden_width)
        problem = triton_problem(torch.empty(0, device=device)) or out_of_range(*sizes)
        if problem:
            raise ValueError(
                f"model.asymdiffrec.kernels is 'triton', but {problem}; "
                "'automatic' takes what can run"
            )


def _collapse_signs(clean: Tensor, reconstructed: Tensor, z_variance: Tensor) -> dict[str, Tensor]:
    """What a low reconstruction loss hides: z can shrink, and a constant g is a collapse."""
    with torch.no_grad():
        error = (reconstructed - clean).float().square().mean()
        return {
            "denoised_variance": variance_over_rows(reconstructed),
            "relative_reconstruction_error": error / z_variance.clamp(min=1e-12),
        }
