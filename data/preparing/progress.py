"""A progress bar over passes of rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import TracebackType

import pyarrow as pa

from dropdrift.data.progress import progress_bar


class RowProgress:
    """Shows one bar for each pass, on standard error.

    Args:
        total_rows: rows of a pass, where known; after the first pass it is.
        shown: whether anything is shown.
    """

    def __init__(self, total_rows: int | None, *, shown: bool = True) -> None:
        self._total_rows = total_rows
        self._progress = progress_bar(shown)

    def __enter__(self) -> RowProgress:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def track(
        self, batches: Iterable[pa.RecordBatch], description: str
    ) -> Iterator[pa.RecordBatch]:
        """Passes ``batches`` on, showing how far the pass is."""
        task = self._progress.add_task(description, total=self._total_rows)
        rows = 0
        for batch in batches:
            yield batch
            rows += batch.num_rows
            self._progress.update(task, completed=rows)
        # The total may count rows that were set aside; where there was none, there is one now.
        self._progress.update(task, completed=rows, total=rows)
        self._progress.stop_task(task)
        self._total_rows = rows
