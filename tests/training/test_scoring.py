from __future__ import annotations

import dataclasses

import numpy as np

from dropdrift.data.schema import Encoding, Field, Schema, Table
from dropdrift.training.metrics import ranking_metrics
from dropdrift.training.scoring import Scores

SCHEMA = Schema(
    name="small",
    fields=(Field("x", "categorical", "x"),),
    tables=(Table("x", 5, 4, Encoding("hash")),),
    labels=("click",),
    has_user=True,
)


def test_rows_without_a_user_are_not_taken_for_rows_of_one_user() -> None:
    logits = np.array([2.0, 1.0, 0.5, 0.0, -1.0], np.float32)
    labels = np.array([0, 1, 1, 0, 1], np.float32)
    scores = Scores(
        logits=logits.reshape(1, 5, 1),
        labels=labels.reshape(5, 1),
        users=np.array([0, 0, 7, 7, 0]),
        missing=np.zeros(1, np.int64),
    )
    metrics = ranking_metrics(logits, labels, scores.user_groups(SCHEMA))
    assert (metrics.uauc, metrics.users_counted) == (1.0, 1)
    assert scores.user_groups(dataclasses.replace(SCHEMA, has_user=False)) is None
