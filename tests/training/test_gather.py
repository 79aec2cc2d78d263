"""Gathering over real processes: this file is also the program that each of them runs."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

import dropdrift
from dropdrift.training.gather import gather_rows_to

WORLD = 2
UNEVEN = [(5, 3), (0, 4), (7, 0), (0, 0), (1, 1)]
DTYPES = [torch.float32, torch.float64, torch.int64, torch.int8]


def rows_of(rank: int, length: int, dtype: torch.dtype, columns: tuple[int, ...]) -> Tensor:
    values = torch.arange(length * (columns[0] if columns else 1), dtype=dtype) + 50 * rank
    return values.reshape(length, *columns)


def check_uneven_lengths(rank: int) -> None:
    for lengths in UNEVEN:
        for dtype in DTYPES:
            for columns in [(), (2,)]:
                parts = [rows_of(r, n, dtype, columns) for r, n in enumerate(lengths)]
                everything = torch.cat(parts)
                case = f"rank {rank}, {lengths}, {dtype}, {columns}"
                on_last = gather_rows_to(parts[rank], rank=WORLD - 1)
                if rank == WORLD - 1:
                    assert on_last is not None, case
                    assert on_last.dtype == dtype, case
                    assert torch.equal(on_last, everything), case
                else:
                    assert on_last is None, case


def check_special_values(rank: int) -> None:
    """Codes of users have 63 bits, and a NaN is a label that is not known."""
    codes = torch.tensor([2**63 - 1, -(2**62), 7])[: 1 + 2 * rank]
    expected = torch.tensor([2**63 - 1, 2**63 - 1, -(2**62), 7])
    gathered = gather_rows_to(codes)
    assert gathered is None if rank else torch.equal(gathered, expected)
    labels = torch.tensor([float("nan"), -0.0, 1e-45])[: 3 - 2 * rank]
    gathered = gather_rows_to(labels)
    everything = torch.tensor([float("nan"), -0.0, 1e-45, float("nan")]).view(torch.int32)
    assert gathered is None if rank else torch.equal(gathered.view(torch.int32), everything)


def check_gradients_stay_out(rank: int) -> None:
    tensor = torch.ones(rank + 1, requires_grad=True)
    gathered = gather_rows_to(tensor * 2)
    assert gathered is None if rank else not gathered.requires_grad


@pytest.mark.parametrize(
    "backend",
    [
        "gloo",
        pytest.param(
            "nccl",
            marks=[
                pytest.mark.gpu,
                pytest.mark.skipif(
                    torch.cuda.device_count() < WORLD, reason=f"needs {WORLD} CUDA devices"
                ),
            ],
        ),
    ],
)
def test_two_ranks(backend: str, tmp_path: Path) -> None:
    """The functions above, on each of two processes; they meet through a file, not a port."""
    arguments = [sys.executable, __file__, backend, str(tmp_path / "meeting")]
    source = str(Path(dropdrift.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen(
            [*arguments, str(rank)], env=environment, stderr=subprocess.PIPE, text=True
        )
        for rank in range(WORLD)
    ]
    try:
        errors = [process.communicate(timeout=200)[1] for process in ranks]
    finally:
        for process in ranks:
            process.kill()
    assert [process.returncode for process in ranks] == [0] * WORLD, "\n".join(errors)


def test_without_a_process_group_nothing_moves() -> None:
    tensor = torch.arange(3.0)
    assert gather_rows_to(tensor) is tensor


def main() -> None:
    backend, meeting, rank = sys.argv[1:]
    if backend == "nccl":
        torch.cuda.set_device(int(rank))
    dist.init_process_group(
        backend,
        init_method=f"file://{meeting}",
        rank=int(rank),
        world_size=WORLD,
        timeout=timedelta(seconds=60),
    )
    check_uneven_lengths(int(rank))
    check_special_values(int(rank))
    check_gradients_stay_out(int(rank))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
