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
    logits, labels, users = _known(logits, labels, users, what)
    rows, positives = len(labels), int(np.count_nonzero(labels))
    if positives in (0, rows):
        value = int(labels[0])
        raise ValueError(
            f"{what}: all {rows:,} known labels are {value}; AUC needs rows of both classes"
        )
    by_score = np.argsort(logits)
    scores, sorted_labels = logits[by_score], labels[by_score]
    auc, _ = _auc_by_group(scores, sorted_labels, np.zeros(rows, np.int8))
    uauc, counted, left_out = float("nan"), 0, 0
    if users is not None:
        uauc, counted, left_out = _uauc(scores, sorted_labels, users[by_score])
    log_loss = _log_loss(logits, labels)
    share = positives / rows
    return RankingMetrics(
        rows=rows,
        positives=positives,
        auc=float(auc[0]),
        uauc=uauc,
        users_counted=counted,
        users_left_out=left_out,
        log_loss=log_loss,
        normalised_entropy=log_loss / _entropy(share),
        calibration=float(_sigmoid(logits).mean()) / share,
    )


def calibration_table(
    logits: Floats, labels: Floats, buckets: int = 20, what: str = "evaluation"
) -> tuple[CalibrationBucket, ...]:
    """Mean prediction and share of positives by quantiles of the prediction, ascending.

    Buckets have equal numbers of rows but for ties: rows of one prediction stay together, so that
    there can be fewer than ``buckets``. Arguments and errors as in :func:`ranking_metrics`.
    """
    logits, labels, _ = _known(logits, labels, None, what)
    edges = np.quantile(logits, np.arange(1, buckets) / buckets, method="lower")
    bucket = np.searchsorted(edges, logits, side="right")
    rows = np.bincount(bucket)
    used = rows > 0
    predictions = np.bincount(bucket, weights=_sigmoid(logits))[used] / rows[used]
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


def _known(
    logits: Floats, labels: Floats, users: Integers | None, what: str
) -> tuple[Floats, Floats, Integers | None]:
    """The rows with a known label, after a check of all rows."""
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


def _uauc(scores: Floats, labels: Floats, users: Integers) -> tuple[float, int, int]:
    """UAUC, users counted, users left out; the rows come ascending in score."""
    auc, rows = _auc_by_group(scores, labels, users)
    counted = ~np.isnan(auc)
    weights = rows[counted]
    value = float((auc[counted] * weights).sum() / weights.sum()) if len(weights) else float("nan")
    return value, len(weights), len(auc) - len(weights)


def _auc_by_group(
    scores: Floats, labels: Floats, groups: Integers
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """AUC [G], NaN where a group has one class, and rows [G]; the rows come ascending in score.

    In a tie block with p positives and n negatives, above b negatives of its group, the positives
    win p (b + n / 2) pairs. Twice that is an integer.
    """
    order = np.argsort(groups, kind="stable")
    scores, groups = scores[order], groups[order]
    positive = labels[order].astype(np.int64)
    new_group = _changes(groups)
    block_first = np.flatnonzero(new_group | _changes(scores))  # [K], in rows
    group_first = np.flatnonzero(new_group[block_first])  # [G], in blocks
    group_of_block = np.cumsum(new_group[block_first]) - 1  # [K]

    positives = np.add.reduceat(positive, block_first)
    negatives = np.diff(block_first, append=len(scores)) - positives
    below = np.cumsum(negatives) - negatives
    below -= below[group_first][group_of_block]
    twice_won = np.add.reduceat(positives * (2 * below + negatives), group_first)

    group_positives = np.add.reduceat(positives, group_first)
    group_negatives = np.add.reduceat(negatives, group_first)
    pairs = group_positives * group_negatives
    auc = np.full(len(pairs), np.nan)
    np.divide(twice_won, 2 * pairs, out=auc, where=pairs > 0)
    return auc, group_positives + group_negatives


def _changes(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether each value differs from the one before it; the first one does."""
    changes = np.ones(len(values), bool)
    np.not_equal(values[1:], values[:-1], out=changes[1:])
    return changes


def _log_loss(logits: Floats, labels: Floats) -> float:
    """Mean of log(1 + exp(-m)), m being the logit towards the label: finite without clipping."""
    margins = np.where(labels == 1, logits, -logits).astype(np.float64)
    return float(np.logaddexp(0, -margins).mean())


def _entropy(share: float) -> float:
    """Cross-entropy of always predicting ``share``, which is the share of positives."""
    return float(-share * np.log(share) - (1 - share) * np.log1p(-share))


def _sigmoid(logits: Floats) -> NDArray[np.float64]:
    """1 / (1 + exp(-x)), without overflow."""
    return np.exp(-np.logaddexp(0, -logits.astype(np.float64)))
