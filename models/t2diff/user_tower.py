"""T2Diff's user tower (section 4.3): session, history, and x_hat from the diffusion of drift.

Legend: B rows, L positions, Q of them that ask (all, or only the last), K items, d width of an
item's embedding, o width of the vectors that are multiplied.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dropdrift.data.batch import SequenceBatch
from dropdrift.models.matching.dropout import KeyedDropout
from dropdrift.models.matching.gather import gather_items
from dropdrift.models.matching.noise import RowNoise
from dropdrift.models.t2diff.config import T2DiffConfig
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
        self.session = SessionEncoder(session, width, config.next_item != "none")
        self.attention = TargetAttention(session, width, window)
        self.user = _user_network(2 * width, output_width, session.user_layers)
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
        if x_hat is not None:
            x_hat = self.drop_estimate(x_hat, batch.step, batch.first_row)
        sequence = self.drop_items(sequence, batch.step, batch.first_row)
        users = self._users(sequence, present, batch.times, x_hat, last_only)
        return self.user(self.drop_user(users, batch.step, batch.first_row)), {"kl": kl}

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
        return self.user(self._users(sequence, present, times, x_hat, last_only=True)).squeeze(1)

    def _users(
        self,
        sequence: Tensor,
        present: Tensor,
        times: Tensor,
        x_hat: Tensor | None,
        last_only: bool,
    ) -> Tensor:
        """[h_l, h_s] [B, Q, 2d]."""
        lengths = session_lengths(present, times, self.config, last_only)
        session = self.session(sequence, present, lengths, x_hat, last_only)
        history = self.attention(sequence, present, times, session, lengths, last_only)
        return torch.cat([history, session], dim=2)


def _user_network(width: int, output_width: int, layers: int) -> nn.Module:
    """Eq. 22's network: ``layers`` hidden ones of twice the input's width; -1: none at all."""
    if layers < 0:
        return nn.Identity()
    modules: list[nn.Module] = []
    inputs = width
    for _ in range(layers):
        modules += [nn.Linear(inputs, 2 * width), nn.GELU()]
        inputs = 2 * width
    return nn.Sequential(*modules, nn.Linear(inputs, output_width))


def _check(config: T2DiffConfig, width: int, output_width: int, window: int) -> None:
    session = config.session
    if session.encoder == "transformer" and width % session.heads:
        raise ValueError(
            f"model.t2diff.session.heads is {session.heads}, which does not divide "
            f"model.item.width, {width}"
        )
    if session.user_layers < 0 and output_width != 2 * width:
        raise ValueError(
            f"model.t2diff.session.user_layers is {session.user_layers}, so a user's vector is "
            f"{2 * width} wide and an item's {output_width}: use model.item.tower dense with "
            f"model.item.vector_width {2 * width}"
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
