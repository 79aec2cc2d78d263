from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dropdrift.training.matching.target_ranks import Seen, target_ranks


def brute_force(
    scores: list[list[float]], targets: list[int], seen: list[list[int]]
) -> tuple[list[int], list[int]]:
    """One item after the other."""
    ranks, unseen = [], []
    for row, target, had in zip(scores, targets, seen, strict=True):
        rank = rank_unseen = 1
        for item, score in enumerate(row):
            if item != target and score >= row[target]:
                rank += 1
                rank_unseen += item not in had
        ranks.append(rank)
        unseen.append(rank_unseen)
    return ranks, unseen


def seen_of(lists: list[list[int]]) -> Seen:
    offsets = np.cumsum([0, *map(len, lists)])
    items = [item for items in lists for item in items]
    return Seen(torch.tensor(offsets), torch.tensor(items, dtype=torch.int64))


@given(st.data())
def test_ranks_are_those_of_the_definition(data: st.DataObject) -> None:
    """Small whole numbers, so that there are many ties; seen items repeat and hold the target."""
    rows, items, width = (data.draw(st.integers(1, most)) for most in (6, 9, 3))
    seed = data.draw(st.integers(0, 10_000))
    generator = np.random.default_rng(seed)
    users = torch.tensor(generator.integers(-2, 3, (rows, width)), dtype=torch.float32)
    vectors = torch.tensor(generator.integers(-2, 3, (items, width)), dtype=torch.float32)
    added = torch.tensor(generator.integers(0, 3, (rows, items)), dtype=torch.float32)
    targets = generator.integers(0, items, rows).tolist()
    seen = [generator.integers(0, items, generator.integers(0, 8)).tolist() for _ in range(rows)]
    prior = data.draw(st.sampled_from([None, lambda start, stop: added[start:stop]]))
    scores = users @ vectors.T + (added if prior else 0)
    found = target_ranks(
        users,
        vectors,
        torch.tensor(targets),
        seen_of(seen),
        prior,
        block_bytes=data.draw(st.sampled_from([1, 4 * items * 2, 2**20])),
    )
    expected = brute_force(scores.tolist(), targets, seen)
    assert (found[0].tolist(), found[1].tolist()) == expected


@pytest.mark.parametrize("items", [63, 500, 1001])
@pytest.mark.parametrize("rows", [1, 5, 64])
def test_items_of_one_vector_tie_wherever_they_are(items: int, rows: int) -> None:
    """A model that scores everything alike gains nothing by it."""
    generator = torch.Generator().manual_seed(1)
    users = torch.randn(rows, 64, generator=generator)
    vectors = torch.randn(1, 64, generator=generator).expand(items, 64).contiguous()
    targets = torch.randint(items, (rows,), generator=generator)
    had = [[int(target), (int(target) + 1) % items] for target in targets]
    ranks, unseen = target_ranks(users, vectors, targets, seen_of(had))
    assert ranks.tolist() == [items] * rows
    assert unseen.tolist() == [items - 1] * rows


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("where", ["users", "items", "prior"])
def test_scores_that_are_not_finite_are_an_error(value: float, where: str) -> None:
    tensors = {"users": torch.ones(3, 2), "items": torch.ones(5, 2), "prior": torch.ones(3, 5)}
    tensors[where][-1, -1] = value
    with pytest.raises(ValueError, match="scores are not all finite"):
        target_ranks(
            tensors["users"],
            tensors["items"],
            torch.tensor([0, 1, 2]),
            seen_of([[], [], []]),
            lambda start, stop: tensors["prior"][start:stop],
            block_bytes=1,
        )


def test_no_rows_have_no_ranks() -> None:
    none = torch.empty(0, dtype=torch.int64)
    ranks, unseen = target_ranks(torch.empty(0, 2), torch.ones(4, 2), none, seen_of([]))
    assert ranks.tolist() == unseen.tolist() == []


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_ranks_on_a_gpu_are_those_of_the_cpu() -> None:
    """Whole numbers, so that products are exact on both."""
    generator = torch.Generator().manual_seed(5)
    users = torch.randint(-3, 4, (300, 8), generator=generator).float()
    vectors = torch.randint(-3, 4, (1001, 8), generator=generator).float()
    targets = torch.randint(1001, (300,), generator=generator)
    seen = seen_of(torch.randint(1001, (300, 20), generator=generator).tolist())
    expected = target_ranks(users, vectors, targets, seen)
    on_gpu = Seen(seen.offsets.cuda(), seen.items.cuda())
    found = target_ranks(users.cuda(), vectors.cuda(), targets.cuda(), on_gpu)
    assert [ranks.tolist() for ranks in found] == [ranks.tolist() for ranks in expected]
