"""Scores for a file of raw rows, as a server would give them: missing columns and all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torchrec.distributed import DistributedModelParallel

from dropdrift.data.encoding.encoder import Encoder, EncodingReport
from dropdrift.data.loading.block import ColumnBlock
from dropdrift.data.parquet_file import reading_parquet
from dropdrift.data.progress import progress_bar
from dropdrift.training.build import ranking_model
from dropdrift.training.config import PredictConfig, TrainConfig
from dropdrift.training.distributed import Ranks, process_group
from dropdrift.training.evaluation import restore_model
from dropdrift.training.provenance import check_writable
from dropdrift.training.run_folder import RunFolder
from dropdrift.training.scenarios import COMPLETE
from dropdrift.training.scoring import score_batches

READ_ROWS = 65_536
# What the names of the output's columns begin with.
SCORE = "score:"


def predict(
    options: PredictConfig, config: TrainConfig, *, show_progress: bool = True
) -> EncodingReport:
    """Score every row of ``options.source`` into ``options.out``, which appears when complete.

    The output has a column ``score:<label>``, the predicted probability, for each task.

    Returns:
        What was missing or unknown in the source, by field.

    Raises:
        ValueError: the source is no Parquet, has none of the fields or one of a wrong type, a kept
            column is not there, the output exists, or there are several ranks.
    """
    source = _open(options)
    encoder = Encoder.load(options.run_folder)
    if not set(source.schema_arrow.names) & set(encoder.schema.field_names):
        raise ValueError(
            f"{options.source} has none of the model's fields as a column; they are "
            f"{', '.join(encoder.schema.field_names[:5])}, ..."
        )
    report = EncodingReport()
    with process_group(config.loop.timeout) as ranks, _written(options.out) as partial:
        if ranks.world_size > 1:
            raise ValueError("predict runs on one process; split the source to use several")
        model = restore_model(RunFolder(options.run_folder), encoder.schema, config, ranks)
        with progress_bar(show_progress) as progress:
            bar = progress.add_task("predict", total=source.metadata.num_rows)
            writer: pq.ParquetWriter | None = None
            for rows in _batches(source, options.source):
                scored = _scored(rows, encoder, report, model, options, ranks)
                writer = writer or pq.ParquetWriter(partial, scored.schema)
                writer.write_table(scored)
                progress.update(bar, advance=rows.num_rows)
            assert writer is not None
            writer.close()
    return report


def _scored(
    rows: pa.RecordBatch,
    encoder: Encoder,
    report: EncodingReport,
    model: DistributedModelParallel,
    options: PredictConfig,
    ranks: Ranks,
) -> pa.Table:
    """The kept columns of ``rows`` and their scores."""
    try:
        encoded = encoder.encode(rows, report)
    except ValueError as error:
        raise ValueError(f"{options.source}: {error}") from error
    block = ColumnBlock.from_table(encoded, encoder.schema, options.source, require_targets=False)
    scores = score_batches(model, block.batches(options.batch_size), [COMPLETE], ranks)
    assert scores is not None
    probabilities = torch.sigmoid(torch.from_numpy(scores.logits[0])).numpy()
    columns = {name: rows.column(name) for name in options.keep}
    for index, task in enumerate(ranking_model(model).tasks):
        columns[f"{SCORE}{task}"] = pa.array(probabilities[:, index])
    return pa.table(columns)


def _open(options: PredictConfig) -> pq.ParquetFile:
    if options.out.exists():
        raise ValueError(f"{options.out} exists: choose another --out")
    check_writable(options.out)
    if not options.source.is_file():
        raise ValueError(f"{options.source} does not exist or is no file")
    with reading_parquet(options.source):
        source = pq.ParquetFile(options.source)
    if not source.metadata.num_rows:
        raise ValueError(f"{options.source} holds no rows")
    names = source.schema_arrow.names
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{options.source} has the column {name!r} more than once")
    for name in options.keep:
        if name not in names:
            raise ValueError(f"{options.source} has no column {name!r} to keep")
        if name.startswith(SCORE):
            raise ValueError(f"--keep {name}: columns that begin with {SCORE!r} are written anew")
    return source


def _batches(source: pq.ParquetFile, path: Path) -> Iterator[pa.RecordBatch]:
    with reading_parquet(path):
        yield from source.iter_batches(READ_ROWS)


@contextmanager
def _written(path: Path) -> Iterator[Path]:
    """A path to write to, renamed to ``path`` if all goes well and removed if not."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        partial.rename(path)
    finally:
        partial.unlink(missing_ok=True)
