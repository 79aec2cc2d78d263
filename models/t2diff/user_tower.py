"""T2Diff's user tower (section 4.3): session, history, and x_hat from the diffusion of drift.

Legend: B rows, L positions, Q of them that ask (all, or only the last), K items, d width of an
item's embedding, o width of the vectors that are multiplied.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dropdrift.data.batch import SequenceBatch
from dropdrift.models.dropout import KeyedDropout
from dropdrift.models.matching.gather import gather_items
from dropdrift.models.noise import RowNoise
from dropdrift.models.t2diff.config import SessionConfig, T2DiffConfig
from dropdrift.models.t2diff.next_item import ESTIMATED, NextItem
from dropdrift.models.t2diff.session import SessionEncoder, session_lengths
from dropdrift.models.t2diff.target_attention import TargetAttention


class T2DiffTower(nn.Module):
    """e_u at every position of a sequence, or at the last.

    Args:
        config: see ``T2DiffConfig``.
        width: d.
        output_width: o.
        window: newest items that a user's vector is made from.
        item_dropout: share of the items' numbers dropped in training.
        seed: the run's, for noise and dropout.

    Raises:
        ValueError: options that contradict each other.
    """

    def __init__(
        self,
        config: T2DiffConfig,
        width: int,
        output_width: int,
        window: int,
        item_dropout: float,
        seed: int,
    ) -> None:
        super().__init__()
        _check(config, width, output_width, window)
        session = config.session
        self.config, self.window = session, window
        self.next_item = NextItem(config, width, seed)
        self.session = SessionEncoder(session, width, _goes_into(config, "session"))
        self.attention = TargetAttention(session, width, window)
        self.user = UserNetwork(session, width, _parts(config), output_width)
        self.input_norm = nn.LayerNorm(width) if session.input_norm else nn.Identity()
        self.drop_items = KeyedDropout(item_dropout, seed, "items")
        self.drop_estimate = KeyedDropout(item_dropout, seed, "x_hat")
        self.drop_user = KeyedDropout(session.dropout, seed, "user")

    def forward(
        self, x: Tensor, batch: SequenceBatch, last_only: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """User vectors [B, Q, o], and the losses to add, weighted and divided as in the batch.

        Args:
            x: [K, d], the embeddings of the batch's catalogue.
            batch: items, times and targets.
            last_only: only for the last position.
        """
        sequence, present = gather_items(x, batch.items)
        target, has_target = gather_items(x, batch.targets)
        x_hat, kl = self.next_item(sequence, present, target, has_target, batch, last_only)
        inputs = self._user_inputs(sequence, present, batch.times, x_hat, last_only, batch)
        inputs = self.drop_user(inputs, batch.step, batch.first_row)
        return self.user(inputs), {"kl": kl}

    def serve(self, x: Tensor, batch: SequenceBatch, noise_seed: int) -> Tensor:
        """[B, o] at the last position, x_hat by the reverse process.

        Args:
            x: [K, d].
            batch: items and times.
            noise_seed: seed of the reverse process's noise.
        """
        sequence, present = gather_items(x, batch.items[:, -self.window :])
        times = batch.times[:, -self.window :]
        noise = RowNoise(noise_seed, 0, batch.first_row, x.device)
        x_hat = self.next_item.serve(sequence, present, noise)
        if x_hat is not None:
            x_hat = x_hat.unsqueeze(1)
        inputs = self._user_inputs(sequence, present, times, x_hat, True, batch)
        return self.user(inputs).squeeze(1)

    def _user_inputs(
        self,
        sequence: Tensor,
        present: Tensor,
        times: Tensor,
        x_hat: Tensor | None,
        last_only: bool,
        batch: SequenceBatch,
    ) -> Tensor:
        """[h_l, h_s], and x_hat where it goes there, [B, Q, parts * d]."""
        where = batch.step, batch.first_row
        sequence = self.drop_items(self.input_norm(sequence), *where) * present.unsqueeze(2)
        completing = None
        if x_hat is not None:
            x_hat = self.drop_estimate(self.input_norm(x_hat), *where)
            completing = x_hat if self.config.next_item_into != "user" else None
        lengths = session_lengths(present, times, self.config, last_only)
        session = self.session(sequence, present, lengths, completing, last_only)
        history = self.attention(sequence, present, times, session, lengths, last_only)
        parts = [history, session]
        if x_hat is not None and self.config.next_item_into != "session":
            parts.append(x_hat)
        return torch.cat(parts, dim=2)


class UserNetwork(nn.Module):
    """Eq. 22: e_u from [h_l, h_s] or [h_l, h_s, x_hat]."""

    def __init__(self, config: SessionConfig, width: int, parts: int, output_width: int) -> None:
        super().__init__()
        inputs = parts * width
        self.layers: nn.Module = nn.Identity()
        if config.user_layers >= 0:
            modules: list[nn.Module] = []
            last = inputs
            for _ in range(config.user_layers):
                modules += [nn.Linear(last, 4 * width), nn.GELU()]
                last = 4 * width
            self.layers = nn.Sequential(*modules, nn.Linear(last, output_width))
        self.residual = nn.Linear(inputs, output_width) if config.user_residual else None
        self.norm = nn.LayerNorm(output_width) if config.output_norm else nn.Identity()

    def forward(self, inputs: Tensor) -> Tensor:
        """[..., parts * d] to [..., o]."""
        users = self.layers(inputs)
        if self.residual is not None:
            users = users + self.residual(inputs)
        return self.norm(users)


def _goes_into(config: T2DiffConfig, place: str) -> bool:
    """Whether there is an x_hat that goes into ``place``."""
    return config.next_item != "none" and config.session.next_item_into in (place, "both")


def _parts(config: T2DiffConfig) -> int:
    """Vectors of an item's width that the user network gets."""
    return 2 + _goes_into(config, "user")


def _check(config: T2DiffConfig, width: int, output_width: int, window: int) -> None:
    session = config.session
    if session.encoder == "transformer" and width % session.heads:
        raise ValueError(
            f"model.t2diff.session.heads is {session.heads}, which does not divide "
            f"model.item.width, {width}"
        )
    inputs = _parts(config) * width
    if session.user_layers < 0 and output_width != inputs:
        raise ValueError(
            f"model.t2diff.session.user_layers is {session.user_layers}, so a user's vector is "
            f"{inputs} wide and an item's {output_width}: use model.item.tower dense with "
            f"model.item.vector_width {inputs}"
        )
    if session.user_layers < 0 and session.user_residual:
        raise ValueError(
            "model.t2diff.session.user_residual is set, but user_layers -1 leaves no network to "
            "add it to: use user_layers 0 or more"
        )
    if config.next_item in ESTIMATED and config.diffusion.window > window:
        raise ValueError(
            f"model.t2diff.diffusion.window is {config.diffusion.window}, must be at most "
            f"data.sequence.window, {window}: no more is seen in serving"
        )
    if session.length > window:
        raise ValueError(
            f"model.t2diff.session.length is {session.length}, must be at most "
            f"data.sequence.window, {window}"
        )
