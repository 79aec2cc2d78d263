from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropdrift.training.retrieval import measure as measuring
from dropdrift.training.retrieval.config import IndexConfig, IndexKind
from dropdrift.training.retrieval.measure import measure
from dropdrift.training.retrieval.search import ItemSearch, Vectors, recall

KINDS: tuple[IndexKind, ...] = ("flat", "hnsw", "ivf")
OPTIONS = IndexConfig(Path("run"), Path("out"))


def vectors(items: int, width: int = 8, seed: int = 0) -> Vectors:
    return np.random.default_rng(seed).normal(size=(items, width)).astype(np.float32)


def options(kind: IndexKind, **changes: int) -> IndexConfig:
    return dataclasses.replace(OPTIONS, kind=kind, **changes)


def by_brute_force(items: Vectors, user: Vectors, k: int, excluded: list[int]) -> list[int]:
    scores = {row: float(items[row] @ user) for row in range(len(items)) if row not in excluded}
    return sorted(scores, key=lambda row: -scores[row])[:k]


@pytest.mark.parametrize("kind", KINDS)
def test_a_thorough_search_finds_what_brute_force_does(kind: IndexKind, tmp_path: Path) -> None:
    items, users = vectors(300), vectors(20, seed=1)
    built = ItemSearch.build(items, options(kind, ef_search=300, ivf_lists=10, probes=10))
    built.save(tmp_path / "index")
    for search in (built, ItemSearch.load(tmp_path / "index", kind)):
        found = search.search(users, 7)
        wanted = [by_brute_force(items, user, 7, []) for user in users]
        assert found.rows.tolist() == wanted
        scores = np.take_along_axis(users @ items.T, np.array(wanted), axis=1)
        np.testing.assert_allclose(found.scores, scores, rtol=1e-5)
        np.testing.assert_array_equal(search.vectors, items)
        assert search.exact(users, 7).rows.tolist() == wanted


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("items", [1, 2, 5, 40])
def test_a_tiny_catalogue_and_a_long_answer(kind: IndexKind, items: int) -> None:
    search = ItemSearch.build(vectors(items), options(kind, ivf_lists=100, probes=1))
    rows = search.search(vectors(6, seed=1), 30).rows
    assert rows.shape == (6, min(30, items))
    assert all(len(set(row)) == len(row) and min(row) >= 0 for row in rows.tolist())


@given(
    kind=st.sampled_from(KINDS),
    items=st.integers(1, 150),
    k=st.integers(1, 40),
    seed=st.integers(0, 99),
    share=st.floats(0, 1),
)
def test_excluded_items_never_come_and_all_others_may(
    kind: IndexKind, items: int, k: int, seed: int, share: float
) -> None:
    catalogue, users = vectors(items, seed=seed), vectors(3, seed=seed + 1)
    generator = np.random.default_rng(seed)
    banned = [np.flatnonzero(generator.random(items) < share) for _ in users]
    banned[0] = np.repeat(banned[0], 2)  # what was seen twice
    thorough = options(kind, ef_search=200, ivf_lists=3, probes=3)
    search = ItemSearch.build(catalogue, thorough)
    found = search.search_without(users, k, banned)
    for row, user, without in zip(found.rows.tolist(), users, banned, strict=True):
        wanted = by_brute_force(catalogue, user, k, without.tolist())
        assert row == wanted + [-1] * (min(k, items) - len(wanted))


def test_a_hasty_search_is_filled_up_exactly() -> None:
    """One of many lists is looked at: it holds too few items that are not excluded."""
    items, users = vectors(200), vectors(10, seed=1)
    search = ItemSearch.build(items, options("ivf", ivf_lists=50, probes=1))
    assert (search.search(users, 60).rows >= 0).all()
    banned = [np.array(by_brute_force(items, user, 150, [])) for user in users]
    found = search.search_without(users, 50, banned)
    for row, user, without in zip(found.rows.tolist(), users, banned, strict=True):
        assert row == by_brute_force(items, user, 50, without.tolist())


def test_recall_is_the_share_of_the_exact_answers_that_is_found() -> None:
    exact = np.array([[1, 2, 3, 4], [5, 6, 7, 8]])
    assert recall(exact[:, ::-1], exact) == 1
    assert recall(np.array([[4, 9, 1, -1], [-1, -1, -1, -1]]), exact) == 2 / 8


def test_more_effort_finds_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "CALLS", 3)
    items, users = vectors(2000, 16), vectors(50, 16, seed=1)
    exact = ItemSearch.build(items, options("flat"))
    search = ItemSearch.build(items, options("ivf", ivf_lists=40, probes=1))

    def measured() -> float:
        figures = measure(search, exact, users, k=10, batch_size=32, threads=1)
        assert figures.users == 50
        assert (figures.batched.users, figures.single.users) == (32, 1)
        assert 0 < figures.single.median <= figures.single.p99
        found = search.search(users, 10).rows.tolist()
        wanted = [by_brute_force(items, user, 10, []) for user in users]
        hits = sum(len(set(a) & set(b)) for a, b in zip(found, wanted, strict=True))
        assert figures.recall == hits / 500
        return figures.recall

    hasty = measured()
    search.set_effort(probes=20)
    assert search.parameters == {"lists": 40, "probes": 20}
    assert hasty < measured() < 1
    search.set_effort(probes=100)
    assert measured() == 1
    assert measure(exact, exact, users, k=10, batch_size=8, threads=1).recall == 1


def test_lists_follow_from_the_number_of_items() -> None:
    def parameters(items: int, **changes: int) -> dict[str, int]:
        return ItemSearch.build(vectors(items), options("ivf", **changes)).parameters

    assert parameters(20) == {"lists": 1, "probes": 1}
    assert parameters(2000) == {"lists": 51, "probes": 7}
    assert parameters(20, ivf_lists=50, probes=30) == {"lists": 20, "probes": 20}
    links = ItemSearch.build(vectors(20), options("hnsw", hnsw_links=8)).parameters
    assert links == {"links": 8, "ef_construction": 200, "ef_search": 128}


@pytest.mark.parametrize(
    ("kind", "setting", "line"),
    [
        ("flat", {"ef_search": 9}, "ef_search is 9, but the index is 'flat'"),
        ("hnsw", {"probes": 2}, "probes is 2, but the index is 'hnsw'"),
    ],
)
def test_a_setting_of_another_kind_is_refused(
    kind: IndexKind, setting: dict[str, int], line: str
) -> None:
    with pytest.raises(ValueError, match=line):
        ItemSearch.build(vectors(9), options(kind)).set_effort(**setting)


@pytest.mark.parametrize(
    ("setting", "most"),
    [("hnsw_links", 512), ("ef_construction", 2**31 - 1), ("ef_search", 2**31 - 1)],
)
def test_what_faiss_does_not_take_is_refused(setting: str, most: int) -> None:
    with pytest.raises(ValueError, match=f"{setting} is {most + 1}, must be at most {most}"):
        options("hnsw", **{setting: most + 1})


def test_vectors_that_are_not_finite_are_refused() -> None:
    broken = vectors(5)
    broken[3, 2] = np.nan
    with pytest.raises(ValueError, match=r"the vector of item 3 .* is not finite"):
        ItemSearch.build(broken, OPTIONS)
    with pytest.raises(ValueError, match="no items"):
        ItemSearch.build(vectors(0), OPTIONS)


def test_a_damaged_file_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "index.faiss"
    path.write_bytes(b"nothing that FAISS wrote")
    with pytest.raises(ValueError, match=r"index\.faiss is damaged") as error:
        ItemSearch.load(path, "flat")
    assert "\n" not in str(error.value)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("order", ["faiss, torch", "torch, faiss"])
def test_faiss_and_torch_bear_each_other(order: str) -> None:
    """Each brings an OpenMP of its own: threads of both in one process, in either order."""
    code = (
        f"import {order}\n"
        "import numpy as np\n"
        "from dropdrift.training.retrieval.search import use_threads\n"
        "torch.set_num_threads(2)\n"
        "use_threads(2)\n"
        "assert faiss.omp_get_max_threads() == 2\n"
        "x = torch.randn(3000, 32)\n"
        "index = faiss.IndexFlatIP(32)\n"
        "index.add(x.numpy())\n"
        "for _ in range(3):\n"
        "    wanted = (x[:100] @ x.T).argmax(dim=1)\n"
        "    found = index.search(x[:100].numpy(), 1)[1][:, 0]\n"
        "    assert (found == wanted.numpy()).all()\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
