"""Lookups of embedding tables, timed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.distributed as dist
from fbgemm_gpu.split_embedding_configs import EmbOptimType
from fbgemm_gpu.split_table_batched_embeddings_ops_common import EmbeddingLocation, PoolingMode
from fbgemm_gpu.split_table_batched_embeddings_ops_training import (
    ComputeDevice,
    SplitTableBatchedEmbeddingBagsCodegen,
)
from torch import Tensor

from dropdrift.sharding.advance import Advance, silent
from dropdrift.sharding.calibration.config import CalibrationConfig
from dropdrift.sharding.calibration.tables import LookupTable
from dropdrift.sharding.calibration.timing import (
    WARM_UP,
    ranks_of,
    time_together,
)


@dataclass(frozen=True)
class LookupTiming:
    """The lookups of one table on the rank that would hold it as a whole.

    Attributes:
        table: that was looked up.
        rows: that it had when measured: fewer than ``table.rows`` where it was cut.
        rows_per_rank: rows of a batch on one rank.
        ranks: whose batches are looked up; all of them looked up at once.
        forward_ms: every repetition of the lookup of ``rows_per_rank * ranks`` rows, on the slowest
            rank.
        backward_ms: the same of the backward, which updates the table by row-wise Adagrad.
    """

    table: LookupTable
    rows: int
    rows_per_rank: int
    ranks: int
    forward_ms: tuple[float, ...]
    backward_ms: tuple[float, ...]

    @property
    def is_cut(self) -> bool:
        """Whether the measured table has fewer rows than the real one."""
        return self.rows < self.table.rows


def measure_lookups(
    tables: Sequence[LookupTable],
    rows_per_rank: int,
    device: torch.device,
    config: CalibrationConfig,
    *,
    group: dist.ProcessGroup | None = None,
    advance: Advance = silent,
) -> list[LookupTiming]:
    """Time lookups by the operator that TorchRec's sharded tables are made of, one by one.

    The ids are uniform over the table and new in every repetition, which is the worst case for
    caches: real ids are skewed. A table's operator is by itself here, where TorchRec puts the
    tables of a rank that have the same width and pooling into one. Tables are fp32.

    Args:
        tables: what to look up.
        rows_per_rank: rows of a batch on one rank.
        device: that the tables live on; on a GPU this has not run yet.
        config: repetitions, seed of the ids, and the rows above which a table is cut.
        group: ranks that look up at once, every one of which must call; None: this process alone.
        advance: called with the name of each table that is done.

    Raises:
        ValueError: there are no tables, or no rows.
    """
    if not tables:
        raise ValueError("there are no tables to measure")
    if rows_per_rank < 1:
        raise ValueError(f"rows per rank is {rows_per_rank}, must be at least 1")
    generator = torch.Generator().manual_seed(config.seed)
    timings = []
    for table in tables:
        rows, ranks = min(table.rows, config.max_rows), ranks_of(group)
        operator = lookup_operator(table, rows, device)
        steps = []
        for _ in range(WARM_UP + config.repeats):
            ids, offsets = random_bags(table, rows, rows_per_rank * ranks, generator)
            steps.append(_step(operator, ids.to(device), offsets.to(device), device, group))
        forward, backward = zip(*steps[WARM_UP:], strict=True)
        timings.append(LookupTiming(table, rows, rows_per_rank, ranks, forward, backward))
        advance(table.name)
    return timings


def random_bags(
    table: LookupTable, rows: int, batch_rows: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Uniform ids below ``rows``, and where each bag begins: a bag per feature and batch row.

    A bag of pooling factor 2.3 has two ids or, in 3 cases out of 10, three.
    """
    lengths = []
    for factor in table.pooling_factors:
        more = torch.rand(batch_rows, generator=generator) < factor % 1
        lengths.append(int(factor) + more.long())
    offsets = torch.cat([torch.zeros(1, dtype=torch.long), torch.cat(lengths).cumsum(0)])
    return torch.randint(rows, (int(offsets[-1]),), generator=generator), offsets


def lookup_operator(
    table: LookupTable, rows: int, device: torch.device
) -> SplitTableBatchedEmbeddingBagsCodegen:
    """The operator that TorchRec makes for the kernel ``fused``, with random values.

    Its backward updates the table by row-wise Adagrad.
    """
    place = (
        (EmbeddingLocation.DEVICE, ComputeDevice.CUDA)
        if device.type == "cuda"
        else (EmbeddingLocation.HOST, ComputeDevice.CPU)
    )
    operator = SplitTableBatchedEmbeddingBagsCodegen(
        embedding_specs=[(rows, table.width, *place)],
        feature_table_map=[0] * len(table.pooling_factors),
        optimizer=EmbOptimType.EXACT_ROWWISE_ADAGRAD,
        pooling_mode=PoolingMode.MEAN if table.pooling == "mean" else PoolingMode.SUM,
        device=device,
    )
    # Untouched memory would be one page of zeros, which is quick to read.
    operator.init_embedding_weights_uniform(-0.1, 0.1)
    return operator


def _step(
    operator: SplitTableBatchedEmbeddingBagsCodegen,
    ids: Tensor,
    offsets: Tensor,
    device: torch.device,
    group: dist.ProcessGroup | None,
) -> tuple[float, float]:
    """Milliseconds of a lookup and of its backward."""
    forward_ms, vectors = time_together(partial(operator, ids, offsets), device, group)
    gradient = torch.ones_like(vectors)
    backward_ms, _ = time_together(partial(vectors.backward, gradient), device, group)
    return forward_ms, backward_ms
