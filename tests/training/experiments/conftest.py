"""Results of an experiment as an evaluation writes them, made up from ranks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from dropdrift.training.experiments.matching import MatchingMeasures
from dropdrift.training.experiments.plan import Plan, Variant
from dropdrift.training.experiments.summary import Outcome, Summary, summarise
from dropdrift.training.matching.metrics import matching_metrics
from dropdrift.training.matching.result import MatchingResult
from dropdrift.training.matching.result import Variant as Scored
from dropdrift.training.provenance import provenance

USERS = 400
SEEDS = (1, 2, 3)
SKILLS = {"popularity": 0.0, "none": 0.6, "last": 0.9, "t2diff": 0.88}
METRICS = ("recall@2", "recall@20", "mrr@20", "included/hr@20")

WriteResult = Callable[..., NDArray[np.int64]]


@pytest.fixture
def plan() -> Plan:
    return Plan(
        title="What the next item <is> made of",
        about="Three towers and one that counts.",
        recipe="t2diff-paper",
        base="none",
        metrics=METRICS,
        variants={
            "none": Variant(about="mixed attention only"),
            "last": Variant(),
            "t2diff": Variant(about="as published"),
        },
        published={
            "t2diff": {"recall@2": 0.0774, "recall@20": 0.2773},
            "SASRec": {"recall@2": 0.0578, "recall@20": 0.1556, "mrr@20": 0.0572},
        },
        baselines=("popularity",),
    )


@pytest.fixture(scope="session")
def write_result() -> WriteResult:
    """Writes a result with its ranks; a higher skill ranks better. Returns the unseen ranks."""

    def write(
        path: Path, name: str, seed: int, skill: float, users: int = USERS
    ) -> NDArray[np.int64]:
        ease = np.random.default_rng(0).normal(size=users)
        noise = np.random.default_rng([seed, len(name)]).normal(size=users)
        unseen = np.exp(3.5 + 1.4 * (ease + 0.5 * noise) - skill).astype(np.int64) + 1
        table = pa.table(
            {
                "user": [str(user) for user in range(users)],
                "item": [str(7 * user) for user in range(users)],
                "rank_all": pa.array(unseen * 2, pa.int32()),
                "rank_unseen": pa.array(unseen, pa.int32()),
                "transition_weight": np.zeros(users),
                "noise_seed": np.zeros(users, np.int64),
            }
        )
        scored = Scored(0.0, 0, matching_metrics(unseen), matching_metrics(unseen * 2))
        MatchingResult(
            name=name,
            part="test",
            protocol="standard",
            order="time",
            items=3000,
            users=users,
            users_left_out=0,
            variants=(scored,),
            provenance=provenance({}, seed),
            ranks=table,
        ).save(path)
        return unseen

    return write


@pytest.fixture
def outcomes(plan: Plan, write_result: WriteResult, tmp_path: Path) -> dict[str, list[Outcome]]:
    """Three seeds of each row; ``t2diff`` failed with seed 3."""
    measures = MatchingMeasures(plan)
    rows: dict[str, list[Outcome]] = {}
    for row, skill in SKILLS.items():
        for seed in SEEDS:
            path = tmp_path / row / f"seed-{seed}" / "evaluation-test.json"
            made = write_result(path, row, 1 if row == "popularity" else seed, skill)
            steps = range(100, 1001, 100)
            curve = tuple((s, 0.2 * skill * s / (s + 150) + 0.002 * seed) for s in steps)
            trained = row != "popularity"
            training = {"steps": 1000, "best_step": 900, "seconds": 61.5 + seed}
            outcome = Outcome(
                seed,
                measures.numbers(path)[0.0],
                users=measures.users(path)[0.0],
                training={**training, "rows_per_second": 8000.0} if trained else {},
                curve=curve if trained else (),
            )
            if (row, seed) == ("t2diff", 3):
                outcome = Outcome(seed, failure="the loss is nan at step 40", curve=curve[:4])
            assert len(made) == USERS
            rows.setdefault(row, []).append(outcome)
    return rows


@pytest.fixture
def summary(plan: Plan, outcomes: dict[str, list[Outcome]]) -> Summary:
    return summarise(plan, outcomes, MatchingMeasures(plan), "recall@20")
