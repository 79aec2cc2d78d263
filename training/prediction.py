"""Scores for a file of raw rows, as a server would give them: missing columns and all."""

from __future__ import annotations

from collections.abc import Iterator
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
from dropdrift.training.provenance import check_writable, whole_file
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
            column is not there, or the output exists.
    """
    source = _open(options)
    encoder = Encoder.load(options.run_folder)
    if not set(source.schema_arrow.names) & set(encoder.schema.field_names):
        raise ValueError(
            f"{options.source} has none of the model's fields as a column; they are "
            f"{', '.join(encoder.schema.field_names[:5])}, ..."
        )
    report = EncodingReport()
    with process_group(config.loop.timeout) as ranks, whole_file(options.out) as partial:
        model = restore_model(RunFolder(options.run_folder), encoder.schema, config, ranks)
        columns = [source.schema_arrow.field(name) for name in options.keep]
        columns += [pa.field(f"{SCORE}{t}", pa.float32()) for t in ranking_model(model).tasks]
        schema = pa.schema(columns)
        with progress_bar(show_progress) as progress, pq.ParquetWriter(partial, schema) as writer:
            bar = progress.add_task("predict", total=source.metadata.num_rows)
            for rows in _batches(source, options.source):
                scored = _scored(rows, encoder, report, model, options, ranks)
                writer.write_table(pa.Table.from_arrays(scored, schema=schema))
                progress.update(bar, advance=rows.num_rows)
    return report


def _scored(
    rows: pa.RecordBatch,
    encoder: Encoder,
    report: EncodingReport,
    model: DistributedModelParallel,
    options: PredictConfig,
    ranks: Ranks,
) -> list[pa.Array]:
    """The kept columns of ``rows``, and the scores of each task."""
    try:
        encoded = encoder.encode(rows, report)
    except ValueError as error:
        raise ValueError(f"{options.source}: {error}") from error
    block = ColumnBlock.from_table(encoded, encoder.schema, options.source, require_targets=False)
    scores = score_batches(model, block.batches(options.batch_size), [COMPLETE], ranks)
    assert scores is not None
    probabilities = torch.sigmoid(torch.from_numpy(scores.logits[0])).numpy()
    kept = [rows.column(name) for name in options.keep]
    return [*kept, *(pa.array(column) for column in probabilities.T)]


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
