"""Metrics of a binary ranking task, exact over all rows. numpy alone.

A row whose label is NaN (unknown) is left out of every metric. AUC and UAUC are rank statistics:
pairs are counted in integers, and a tie counts half.

Shapes: R rows, K tie blocks (rows of one group with one score), G groups of rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class RankingMetrics:
    """How well one label is predicted on a set of rows.

    Attributes:
        rows: rows with a known label.
        positives: rows with label 1.
        auc: share of the (positive, negative) pairs of rows that are ranked rightly.
        uauc: AUC within each user's rows, averaged over users with each user's number of rows as
            the weight (AsymDiffRec, section 4). NaN without users, or if every user is left out.
        users_counted: users with rows of both classes, those that ``uauc`` is over.
        users_left_out: users with rows of one class alone, whose AUC is not defined.
        log_loss: mean cross-entropy, natural logarithm.
        normalised_entropy: ``log_loss`` over that of always predicting the share of positives (He
            et al., 2014, "Practical lessons from predicting clicks on ads at Facebook"); below 1
            is better than that.
        calibration: mean prediction over the share of positives; 1 is right.
    """

    rows: int
    positives: int
    auc: float
    uauc: float
    users_counted: int
    users_left_out: int
    log_loss: float
    normalised_entropy: float
    calibration: float


@dataclass(frozen=True)
class CalibrationBucket:
    """Rows with neighbouring predictions: a calibrated model has ``prediction`` == ``label``.

    Attributes:
        rows: number of rows.
        prediction: their mean predicted probability.
        label: their share of positives.
    """

    rows: int
    prediction: float
    label: float


def ranking_metrics(
    logits: Floats, labels: Floats, users: Integers | None = None, what: str = "evaluation"
) -> RankingMetrics:
    """All metrics of one label.

    Args:
        logits: predicted log-odds, [R].
        labels: 0, 1 or NaN (unknown), [R].
        users: a code of each row's user, [R]; None in a data set without users.
        what: names label and part in the messages, such as ``"label 'is_click' of the test part"``.

    Raises:
        ValueError: a prediction is not finite, a label is none of the three, no label is known, or
            all known labels are of one class.
    """
    logits, labels, users = known_rows(logits, labels, users, what)
    check_both_classes(labels, what)
    rows, positives = len(labels), int(np.count_nonzero(labels))
    by_score = np.argsort(logits)
    scores, sorted_labels = logits[by_score], labels[by_score]
    auc, _ = auc_by_group(scores, sorted_labels, np.zeros(rows, np.int8))
    uauc, counted, left_out = float("nan"), 0, 0
    if users is not None:
        uauc, counted, left_out = _uauc(scores, sorted_labels, users[by_score])
    log_loss = float(log_losses(logits, labels).mean())
    share = positives / rows
    return RankingMetrics(
        rows=rows,
        positives=positives,
        auc=float(auc[0]),
        uauc=uauc,
        users_counted=counted,
        users_left_out=left_out,
        log_loss=log_loss,
        normalised_entropy=log_loss / entropy(share),
        calibration=float(probabilities(logits).mean()) / share,
    )


def calibration_table(
    logits: Floats, labels: Floats, buckets: int = 20, what: str = "evaluation"
) -> tuple[CalibrationBucket, ...]:
    """Mean prediction and share of positives by quantiles of the prediction, ascending.

    Buckets have equal numbers of rows but for ties: rows of one prediction stay together, so that
    there can be fewer than ``buckets``. Arguments and errors as in :func:`ranking_metrics`.
    """
    logits, labels, _ = known_rows(logits, labels, None, what)
    edges = np.quantile(logits, np.arange(1, buckets) / buckets, method="lower")
    bucket = np.searchsorted(edges, logits, side="right")
    rows = np.bincount(bucket)
    used = rows > 0
    predictions = np.bincount(bucket, weights=probabilities(logits))[used] / rows[used]
    shares = np.bincount(bucket, weights=labels)[used] / rows[used]
    return tuple(
        CalibrationBucket(int(n), float(p), float(y))
        for n, p, y in zip(rows[used], predictions, shares, strict=True)
    )


def relative_improvement(new: float, base: float) -> float:
    """RelaImpr as AsymDiffRec reports it: ``(new - base) / base``, .001 being +.1%.

    Note that other papers take ``(new - base) / (base - 0.5)`` for the AUC. NaN for a base of 0.
    """
    return (new - base) / base if base else float("nan")


def user_groups(users: Integers) -> NDArray[np.int64]:
    """A code of each row's user, where a row without a known user (0) is a user of its own."""
    return np.where(users == 0, -1 - np.arange(len(users)), users)


def known_rows(
    logits: Floats, labels: Floats, users: Integers | None, what: str
) -> tuple[Floats, Floats, Integers | None]:
    """The rows with a known label, after a check of all rows.

    Raises:
        ValueError: a prediction is not finite, a label is none of 0, 1 and NaN, or none is known.
    """
    assert logits.shape == labels.shape == (len(labels),), (logits.shape, labels.shape)
    assert users is None or users.shape == labels.shape
    broken = len(logits) - np.count_nonzero(np.isfinite(logits))
    if broken:
        raise ValueError(
            f"{what}: {broken:,} of {len(logits):,} predictions are not finite: the model has "
            "diverged; lower the learning rate or clip the gradient"
        )
    known = ~np.isnan(labels)
    if not known.all():
        logits, labels = logits[known], labels[known]
        users = None if users is None else users[known]
    if not len(labels):
        raise ValueError(f"{what}: no row has a known label")
    wrong = labels[(labels != 0) & (labels != 1)]
    if len(wrong):
        raise ValueError(f"{what}: {len(wrong):,} labels are not 0 or 1, such as {wrong[0]:g}")
    return logits, labels, users


def check_both_classes(labels: Floats, what: str) -> None:
    """ValueError unless there are rows with label 0 and rows with label 1."""
    positives = np.count_nonzero(labels)
    if positives in (0, len(labels)):
        raise ValueError(
            f"{what}: all {len(labels):,} known labels are {int(labels[0])}; AUC needs rows of "
            "both classes"
        )


def _uauc(scores: Floats, labels: Floats, users: Integers) -> tuple[float, int, int]:
    """UAUC, users counted, users left out; the rows come ascending in score."""
    auc, rows = auc_by_group(scores, labels, users)
    counted = ~np.isnan(auc)
    weights = rows[counted]
    value = float((auc[counted] * weights).sum() / weights.sum()) if len(weights) else float("nan")
    return value, len(weights), len(auc) - len(weights)


def auc_by_group(
    scores: Floats, labels: Floats, groups: Integers
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """AUC [G], NaN where a group has one class, and rows [G], of the groups in ascending order.

    The rows come ascending in score. In a tie block with p positives and n negatives, above b
    negatives of its group, the positives win p (b + n / 2) pairs. Twice that is an integer.
    """
    order = np.argsort(groups, kind="stable")
    scores, groups, labels = scores[order], groups[order], labels[order]
    new_group = _changes(groups)
    block_first = np.flatnonzero(new_group | _changes(scores))  # [K], in rows
    group_first = np.flatnonzero(new_group[block_first])  # [G], in blocks
    group_of_block = np.cumsum(new_group[block_first]) - 1  # [K]

    positives, negatives = _class_counts(labels, block_first)
    below = np.cumsum(negatives) - negatives
    below -= below[group_first][group_of_block]
    twice_won = np.add.reduceat(positives * (2 * below + negatives), group_first)

    group_positives = np.add.reduceat(positives, group_first)
    group_negatives = np.add.reduceat(negatives, group_first)
    pairs = group_positives * group_negatives
    auc = np.full(len(pairs), np.nan)
    np.divide(twice_won, 2 * pairs, out=auc, where=pairs > 0)
    return auc, group_positives + group_negatives


def placement_values(logits: Floats, labels: Floats) -> NDArray[np.float64]:
    """The share of the rows of the other class that each row is ranked rightly against, [R].

    A tie counts half. The mean over the rows of either class is the AUC (DeLong et al., 1988,
    "Comparing the areas under two or more correlated receiver operating characteristic curves").
    There must be rows of both classes.
    """
    by_score = np.argsort(logits)
    block_first = np.flatnonzero(_changes(logits[by_score]))
    positives, negatives = _class_counts(labels[by_score], block_first)
    below = np.cumsum(negatives) - negatives
    above = positives.sum() - np.cumsum(positives)
    of_positive = (2 * below + negatives) / (2 * negatives.sum())
    of_negative = (2 * above + positives) / (2 * positives.sum())
    block = np.empty(len(labels), np.int64)
    block[by_score] = np.repeat(np.arange(len(block_first)), positives + negatives)
    return np.where(labels == 1, of_positive[block], of_negative[block])


def _class_counts(
    labels: Floats, block_first: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positives and negatives of each block of rows, [K] both."""
    positives = np.add.reduceat(labels.astype(np.int64), block_first)
    return positives, np.diff(block_first, append=len(labels)) - positives


def _changes(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether each value differs from the one before it; the first one does."""
    changes = np.ones(len(values), bool)
    np.not_equal(values[1:], values[:-1], out=changes[1:])
    return changes


def log_losses(logits: Floats, labels: Floats) -> NDArray[np.float64]:
    """log(1 + exp(-m)) of each row, m being the logit towards the label: finite, not clipped."""
    margins = np.where(labels == 1, logits, -logits).astype(np.float64)
    return np.logaddexp(0, -margins)


def entropy(share: float) -> float:
    """Cross-entropy of always predicting ``share``, which is the share of positives."""
    return float(-share * np.log(share) - (1 - share) * np.log1p(-share))


def probabilities(logits: Floats) -> NDArray[np.float64]:
    """1 / (1 + exp(-x)), without overflow."""
    return np.exp(-np.logaddexp(0, -logits.astype(np.float64)))
