"""Options of the index and of retrieval. Needs no torch, so that the help is quick."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from dropdrift.training.matching.config import TransitionConfig

IndexKind = Literal["flat", "hnsw", "ivf"]

# What FAISS takes, and four kilobytes an item.
_MAX_EFFORT = 2**31 - 1
_MAX_LINKS = 512

REQUEST_SUFFIXES = (".csv", ".tsv", ".parquet", ".pq")


@dataclass(frozen=True)
class IndexConfig:
    """What to build an index from, which one, and how it is measured.

    Attributes:
        run_folder: Folder of a run of a matching model; its best checkpoint is used.
        out: Folder to write; it may not be there yet.
        data: Folder of the prepared data; none: where the run was trained.
        kind: flat: exact, every item is compared. hnsw: a graph of near items is walked. ivf: the
            items are clustered into lists, and the nearest lists are compared.
        hnsw_links: Links of an item in the graph (hnsw), and twice as many on its lowest level; a
            link takes 4 bytes.
        ef_construction: Candidates held while an item is put into the graph (hnsw).
        ef_search: Candidates held while the graph is walked (hnsw): more find more and take longer.
        ivf_lists: Lists (ivf); 0: four times the root of the number of items, and at least 39
            items a list. Never more than items.
        probes: Lists compared for a user (ivf): more find more and take longer; 0: one in eight.
        transitions: Also keep counts of which item followed which in the training part, for
            'dropdrift retrieve --transition-weight'.
        k: Items of an answer in the measurements.
        sample: Users of the data that recall and latency are measured with, drawn at random.
        batch_size: Users of a batch.
        seed: Seed of the clustering, of the sample and of the model's noise.
    """

    run_folder: Path
    out: Path
    data: Path | None = None
    kind: IndexKind = "flat"
    hnsw_links: int = 32
    ef_construction: int = 200
    ef_search: int = 128
    ivf_lists: int = 0
    probes: int = 0
    transitions: bool = False
    k: int = 10
    sample: int = 1000
    batch_size: int = 256
    seed: int = 0
    transition: TransitionConfig = field(default_factory=TransitionConfig)

    def __post_init__(self) -> None:
        least = {"hnsw_links": 2, "ivf_lists": 0, "probes": 0, "seed": 0}
        positive = ("ef_construction", "ef_search", "k", "sample", "batch_size")
        _check(self, least | dict.fromkeys(positive, 1))
        _check_most(self, {"ef_construction": _MAX_EFFORT, "ef_search": _MAX_EFFORT})
        _check_most(self, {"hnsw_links": _MAX_LINKS})
        if self.probes > self.ivf_lists > 0:
            raise ValueError(
                f"probes is {self.probes}, must be at most ivf_lists, which is {self.ivf_lists}"
            )


@dataclass(frozen=True)
class RetrieveConfig:
    """Whom to answer, with what, and how.

    Attributes:
        run_folder: Folder of a run of a matching model; its best checkpoint is used.
        index: Folder made by 'dropdrift index' from that run.
        source: Requests, a CSV, TSV or Parquet file with a user a row. Without a column of items,
            the users are those of the prepared data and their whole history is used.
        out: Parquet file to write, k rows for each request, in order; counts go into a JSON file
            beside it.
        data: Folder of the prepared data, for requests without items; none: where the run was
            trained.
        k: Items of an answer.
        exclude_seen: Answer only with items that are not in the history.
        transition_weight: What the logarithm of the transition counts is multiplied by before it
            is added to the model's score; 0: the model alone. The index must hold the counts.
        user_column: Column of the source with the user.
        items_column: Column of the source with the history, oldest first: a list, or text.
        times_column: Column of the source with when each of them was, in the unit of the prepared
            data; it may be absent.
        separator: What separates items and times in text.
        batch_size: Users answered at once.
        ef_search: Candidates held while a graph is walked (hnsw); 0: as the index was built.
        probes: Lists compared for a user (ivf); 0: as the index was built.
        show: Requests whose answers are printed.
        compile: Have torch compile the steps of T2Diff's reverse process; on a GPU they become CUDA
            graphs. Takes a minute or so before the first answer, and needs a compiler.
        seed: Seed of the model's noise.
    """

    run_folder: Path
    index: Path
    source: Path
    out: Path
    data: Path | None = None
    k: int = 10
    exclude_seen: bool = False
    transition_weight: float = 0.0
    user_column: str = "user"
    items_column: str = "items"
    times_column: str = "times"
    separator: str = " "
    batch_size: int = 256
    ef_search: int = 0
    probes: int = 0
    show: int = 3
    compile: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        least = dict.fromkeys(("ef_search", "probes", "show", "seed", "transition_weight"), 0)
        _check(self, {"k": 1, "batch_size": 1, **least})
        _check_most(self, {"ef_search": _MAX_EFFORT})
        if not self.separator:
            raise ValueError("separator is empty, must be at least one character")
        if self.out.suffix.lower() not in (".parquet", ".pq"):
            raise ValueError(f"out is {self.out}, must end in .parquet: the answers are a table")
        columns = (self.user_column, self.items_column, self.times_column)
        for name in columns:
            if columns.count(name) > 1:
                raise ValueError(f"the column {name!r} cannot be two of user, items and times")


def _check(options: IndexConfig | RetrieveConfig, least: dict[str, int]) -> None:
    for name, lowest in least.items():
        if getattr(options, name) < lowest:
            raise ValueError(f"{name} is {getattr(options, name)}, must be at least {lowest}")


def _check_most(options: IndexConfig | RetrieveConfig, most: dict[str, int]) -> None:
    for name, highest in most.items():
        if getattr(options, name) > highest:
            raise ValueError(f"{name} is {getattr(options, name)}, must be at most {highest}")
