"""Ranking metrics as sums over users, which is what a bootstrap of users needs.

Each metric is a ratio sum(values) / sum(weights) over users. Drawing users with replacement and
taking the ratio again is then the bootstrap of the metric over users, at the price of a few
additions. Models that are compared on the same rows have the same weights, so that the difference
is a ratio, too; and so is RelaImpr = (new - base) / base: the differences of the values over the
values of the base.

UAUC, log loss and calibration are such ratios. AUC and normalised entropy are not, and are taken to
first order around all users: metric + U influence_u, where the influences of the U users sum to 0.
That is the infinitesimal jackknife. Of AUC the influence of a user is the sum over the user's rows
of (placement value - AUC) / rows of the class (DeLong et al., 1988, by row; Obuchowski, 1997,
"Nonparametric analysis of clustered ROC curve data", by cluster). What it leaves out is of second
order in the share of the rows that one user has.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from dropdrift.training.metrics import (
    Floats,
    Integers,
    auc_by_group,
    check_both_classes,
    entropy,
    known_rows,
    log_losses,
    placement_values,
    probabilities,
    user_groups,
)

Measure = Literal["auc", "uauc", "log_loss", "normalised_entropy", "calibration"]
MEASURES: tuple[Measure, ...] = get_args(Measure)

Sums = NDArray[np.float64]


class UserSums(NamedTuple):
    """A metric by user: it is ``values.sum() / weights.sum()``.

    Attributes:
        users: their codes, ascending, [U]; a row without a known user is one of its own, whose
            code is -1 - row.
        values: [U].
        weights: [U]; 0 for a user that does not count, all 1 where the metric is linearised.
    """

    users: NDArray[np.int64]
    values: Sums
    weights: Sums


def user_values(
    measure: Measure, logits: Floats, labels: Floats, users: Integers, what: str = "evaluation"
) -> UserSums:
    """One of :class:`~dropdrift.training.metrics.RankingMetrics` by user.

    Users follow from ``users`` alone, so that all measures and labels of the same rows have the
    same. Weights of UAUC: rows of the users with both classes; of log loss: rows; of calibration:
    positives.

    Args:
        measure: which metric.
        logits: predicted log-odds, [R].
        labels: 0, 1 or NaN (unknown), [R].
        users: a code of each row's user, 0 where it is not known, [R].
        what: names label and part in the messages.

    Raises:
        ValueError: as :func:`~dropdrift.training.metrics.ranking_metrics`.
    """
    names, codes = np.unique(user_groups(users), return_inverse=True)
    logits, labels, known = known_rows(logits, labels, codes, what)
    check_both_classes(labels, what)
    assert known is not None
    return UserSums(names, *_SUMS[measure](_Rows(logits, labels, known, len(names))))


@dataclass(frozen=True)
class _Rows:
    """Rows with a known label, of both classes; ``codes`` are places among ``count`` users."""

    logits: Floats
    labels: Floats
    codes: Integers
    count: int

    def summed(self, values: Floats) -> Sums:
        """The sum over each user's rows, [U]."""
        sums = np.bincount(self.codes, weights=values, minlength=self.count)
        return sums.astype(np.float64, copy=False)

    def rows_by_user(self) -> Sums:
        """[U]."""
        return np.bincount(self.codes, minlength=self.count).astype(np.float64)

    def linearised(self, metric: float, influences: Sums) -> tuple[Sums, Sums]:
        """Values and weights of a metric that is no ratio; ``influences`` [U] sum to 0."""
        return metric + self.count * influences, np.ones(self.count)


def _auc(rows: _Rows) -> tuple[Sums, Sums]:
    placements = placement_values(rows.logits, rows.labels)
    positive = rows.labels == 1
    positives = np.count_nonzero(positive)
    auc = float(placements[positive].mean())
    class_rows = np.where(positive, positives, len(positive) - positives)
    return rows.linearised(auc, rows.summed((placements - auc) / class_rows))


def _uauc(rows: _Rows) -> tuple[Sums, Sums]:
    by_score = np.argsort(rows.logits)
    auc, _ = auc_by_group(rows.logits[by_score], rows.labels[by_score], rows.codes[by_score])
    weights = rows.rows_by_user()
    by_user = np.full(rows.count, np.nan)
    by_user[weights > 0] = auc
    weights[np.isnan(by_user)] = 0
    return np.nan_to_num(by_user) * weights, weights


def _log_loss(rows: _Rows) -> tuple[Sums, Sums]:
    return rows.summed(log_losses(rows.logits, rows.labels)), rows.rows_by_user()


def _normalised_entropy(rows: _Rows) -> tuple[Sums, Sums]:
    """L / H(p): its derivatives are 1 / H by the mean loss L, and -L H'(p) / H^2 by the share p."""
    losses, labels = log_losses(rows.logits, rows.labels), rows.labels.astype(np.float64)
    loss, share = float(losses.mean()), float(labels.mean())
    scale = entropy(share)
    slope = np.log1p(-share) - np.log(share)
    influences = (losses - loss) / scale - loss * slope * (labels - share) / scale**2
    return rows.linearised(loss / scale, rows.summed(influences / len(labels)))


def _calibration(rows: _Rows) -> tuple[Sums, Sums]:
    return rows.summed(probabilities(rows.logits)), rows.summed(rows.labels)


_SUMS: dict[Measure, Callable[[_Rows], tuple[Sums, Sums]]] = {
    "auc": _auc,
    "uauc": _uauc,
    "log_loss": _log_loss,
    "normalised_entropy": _normalised_entropy,
    "calibration": _calibration,
}
