"""``dropdrift retrieve``: answers for the requests of a file, none of them lost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from dropdrift.data.interactions.sequences import Sequences
from dropdrift.data.progress import progress_bar
from dropdrift.data.schema import Schema
from dropdrift.training.config import TrainConfig
from dropdrift.training.evaluation import prepared_data
from dropdrift.training.provenance import check_writable, provenance, whole_file, write_result
from dropdrift.training.retrieval.config import RetrieveConfig
from dropdrift.training.retrieval.histories import Histories
from dropdrift.training.retrieval.measure import Latency, repeated
from dropdrift.training.retrieval.requests import RawHistories, RequestFile, Requests
from dropdrift.training.retrieval.retriever import Answers, Retriever
from dropdrift.training.retrieval.search import Rows

RESULT_KIND = "matching-retrieval"
COLUMNS = pa.schema(
    {
        "request": pa.int64(),
        "user": pa.string(),
        "rank": pa.int32(),
        "item": pa.string(),
        "title": pa.string(),
        "score": pa.float32(),
        "source": pa.string(),
    }
)

# Requests answered again, one by one, to say how long one takes.
_TIMED_ALONE = 50


@dataclass
class Counts:
    """What was in the requests, and how they were answered.

    Attributes:
        requests: rows of the file.
        by_model: answered by the model.
        unknown_users: not in the prepared data, so answered by the most popular items.
        empty_histories: without items, so answered by the most popular items.
        histories_of_unknown_items: with items none of which is in the catalogue, likewise.
        histories_without_times: with items but no times, where the model looks at times: taken as
            if all were at once.
        repeated_users: requests whose user came before in the file; each is answered.
        items: items of all histories.
        unknown_items: of those, not in the catalogue and skipped.
        older_items: of the others, older than the window, so not looked at by the model.
        short_answers: requests with fewer items than asked for.
        answers: rows of the output.
    """

    requests: int = 0
    by_model: int = 0
    unknown_users: int = 0
    empty_histories: int = 0
    histories_of_unknown_items: int = 0
    histories_without_times: int = 0
    repeated_users: int = 0
    items: int = 0
    unknown_items: int = 0
    older_items: int = 0
    short_answers: int = 0
    answers: int = 0


@dataclass(frozen=True)
class Shown:
    """A request for people to look at.

    Attributes:
        user: raw id.
        newest: titles, or raw ids, of the newest items of its history, newest first.
        answer: those of the answer, best first, with their scores.
        source: ``model`` or ``popular``.
    """

    user: str | None
    newest: list[str]
    answer: list[tuple[str, float]]
    source: str


@dataclass
class Retrieved:
    """What ``dropdrift retrieve`` has done.

    Attributes:
        counts: see there.
        batched: time of a user's vector and search, as many at once as ``batch_size``.
        alone: the same, one user at once.
        shown: the first requests.
    """

    counts: Counts = field(default_factory=Counts)
    batched: Latency | None = None
    alone: Latency | None = None
    shown: list[Shown] = field(default_factory=list)


def retrieve(
    options: RetrieveConfig, config: TrainConfig, *, show_progress: bool = True
) -> Retrieved:
    """Answer every request of ``options.source`` into ``options.out``.

    Returns:
        Counts and times, which are also in the JSON file beside the output.

    Raises:
        ValueError: a file cannot be read, the index is of another run, or an output exists.
    """
    beside = options.out.with_suffix(".json")
    for path in (options.out, beside):
        if path.exists():
            raise ValueError(f"{path} exists: choose another --out")
        check_writable(path)
    file = RequestFile(options)
    retriever = Retriever.load(options.run_folder, options.index, config)
    if options.compile:
        retriever.towers.compile()
    retriever.search.set_effort(ef_search=options.ef_search, probes=options.probes)
    retriever.check_weight(options.transition_weight)
    people = None if file.has_histories else _people(options, config, retriever)
    run = _Run(options, retriever, people)
    with whole_file(options.out) as partial:
        with progress_bar(show_progress) as progress, pq.ParquetWriter(partial, COLUMNS) as writer:
            bar = progress.add_task("retrieve", total=None)
            for requests in file.batches():
                for table in run.answers(requests):
                    writer.write_table(table)
                progress.update(bar, advance=len(requests))
        if not run.result.counts.requests:
            raise ValueError(f"{options.source} holds no requests")
        retrieved = run.finished()
        write_result(beside, _about(retrieved, options, config))
    return retrieved


class _Run:
    """Answers requests and keeps the counts."""

    def __init__(
        self, options: RetrieveConfig, retriever: Retriever, people: Sequences | None
    ) -> None:
        self._options, self._retriever, self._people = options, retriever, people
        self._users: set[str | None] = set()
        self._some: Histories | None = None
        self.result = Retrieved()

    def answers(self, requests: Requests) -> Iterator[pa.Table]:
        """The rows of the output for ``requests``, a batch of users at a time."""
        self._count_users(requests)
        histories = self._histories(requests)
        if self._some is None:
            known = np.flatnonzero(histories.lengths > 0)
            self._some = histories.take(known[: max(self._options.batch_size, _TIMED_ALONE)])
        size = self._options.batch_size
        for start in range(0, len(requests), size):
            chosen = np.arange(start, min(start + size, len(requests)))
            part, first = histories.take(chosen), requests.first + start
            answers = self._answer(part, first)
            users = requests.users.take(pa.array(chosen))
            yield self._table(answers, users, first)
            self._show(answers, users, part)

    def finished(self) -> Retrieved:
        """The result, with the times of answering some of the first requests again."""
        if self._some is None or not len(self._some):
            return self.result
        many = self._some.take(np.arange(min(self._options.batch_size, len(self._some))))
        each = [self._some.take(np.array([u])) for u in range(min(_TIMED_ALONE, len(self._some)))]
        self.result.batched = repeated(self._answer, [many], len)
        self.result.alone = repeated(self._answer, each, len)
        return self.result

    def _answer(self, histories: Histories, first: int = 0) -> Answers:
        return self._retriever.answer(
            histories,
            self._options.k,
            exclude_seen=self._options.exclude_seen,
            transition_weight=self._options.transition_weight,
            noise_seed=self._options.seed,
            first_row=first,
        )

    def _count_users(self, requests: Requests) -> None:
        counts = self.result.counts
        counts.requests += len(requests)
        for user in requests.users.to_pylist():
            if user is not None:
                counts.repeated_users += user in self._users
                self._users.add(user)

    def _histories(self, requests: Requests) -> Histories:
        counts = self.result.counts
        if requests.histories is not None:
            histories = self._given(requests.histories)
        else:
            assert self._people is not None
            found = pc.index_in(requests.users, value_set=self._people.users)
            # A null user would be found where the data holds one, but it holds none.
            people = found.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
            histories = Histories.of(self._people, people)
            counts.unknown_users += int((people < 0).sum())
            counts.items += len(histories.rows)
        lengths = histories.lengths
        counts.by_model += int((lengths > 0).sum())
        window = self._retriever.towers.window
        counts.older_items += int(np.maximum(lengths - window, 0).sum())
        return histories

    def _given(self, raw: RawHistories) -> Histories:
        """What the file says, as rows of the catalogue, with the counts of what is not there."""
        counts, retriever = self.result.counts, self._retriever
        # One more entry than there are values, so that code -1 (missing) finds -1.
        rows: Rows = np.append(retriever.rows_of(raw.items.values), -1)[raw.items.codes]
        histories = retriever.known(raw.offsets, rows, raw.times)
        given = np.diff(raw.offsets)
        counts.items += len(rows)
        counts.unknown_items += int((rows < 0).sum())
        counts.empty_histories += int((given == 0).sum())
        if retriever.towers.looks_at_times:
            counts.histories_without_times += int(((given > 0) & ~raw.timed).sum())
        counts.histories_of_unknown_items += int(((given > 0) & (histories.lengths == 0)).sum())
        return histories

    def _table(self, answers: Answers, users: pa.Array, first: int) -> pa.Table:
        """The rows of the output: none is written for an item that there is not."""
        there = answers.rows >= 0
        user, rank = np.nonzero(there)
        rows = pa.array(answers.rows[there])
        counts, catalogue = self.result.counts, self._retriever.catalogue
        counts.answers += len(rows)
        counts.short_answers += int((there.sum(axis=1) < self._options.k).sum())
        source = pa.array(["popular", "model"]).take(pa.array(answers.by_model[user].astype(int)))
        columns = [
            pa.array(first + user),
            users.take(pa.array(user)),
            pa.array((rank + 1).astype(np.int32)),
            catalogue.items.take(rows),
            catalogue.titles.take(rows),
            pa.array(answers.scores[there]),
            source,
        ]
        return pa.Table.from_arrays(columns, schema=COLUMNS)

    def _show(self, answers: Answers, users: pa.Array, histories: Histories) -> None:
        """Keep the first requests, with titles."""
        shown = self.result.shown
        each = histories.of_each()
        for place in range(min(len(users), self._options.show - len(shown))):
            rows = answers.rows[place][answers.rows[place] >= 0].tolist()
            newest = each[place][::-1][: self._options.k].tolist()
            scores = answers.scores[place].tolist()
            shown.append(
                Shown(
                    user=users[place].as_py(),
                    newest=[self._named(row) for row in newest],
                    answer=[
                        (self._named(row), score) for row, score in zip(rows, scores, strict=False)
                    ],
                    source="model" if answers.by_model[place] else "popular",
                )
            )

    def _named(self, row: int) -> str:
        catalogue = self._retriever.catalogue
        title: str = catalogue.titles[row].as_py() or catalogue.items[row].as_py()
        return title


def _people(options: RetrieveConfig, config: TrainConfig, retriever: Retriever) -> Sequences:
    """Everybody in the prepared data, however few interactions they have.

    Raises:
        ValueError: the data is not the run's, or its catalogue not the index's.
    """
    schema = Schema.load(options.run_folder)
    data = prepared_data(options.data, config, schema)
    retriever.check_catalogue(data, schema)
    sequences = Sequences.load(data, schema, config.data.sequence.order)
    retriever.catalogue.check(sequences, data)
    return sequences


def _about(retrieved: Retrieved, options: RetrieveConfig, config: TrainConfig) -> dict[str, object]:
    return {
        "kind": RESULT_KIND,
        "counts": retrieved.counts,
        "milliseconds_a_user": {"batched": retrieved.batched, "alone": retrieved.alone},
        "threads": torch.get_num_threads(),
        "provenance": provenance({"retrieve": options, "training": config}, options.seed),
    }
