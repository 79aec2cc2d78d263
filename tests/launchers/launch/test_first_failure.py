"""Real trainings on two local nodes that fail, or are asked to end: what is said last, and how."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import dropdrift
from dropdrift.training.checkpoint import committed_steps

pytest.importorskip("torchx")

pytestmark = pytest.mark.timeout(240)

SMALL = (
    "--data.batch-size", "64", "--model.tasks", "click", "--model.dcnv2.deep-widths", "8",
    "--model.dcnv2.z-width", "4", "--loop.log-every", "1", "--out", "run",
)  # fmt: skip


def start(folder: Path, data: Path, *options: str) -> subprocess.Popen[str]:
    """A training on two nodes of one process."""
    launch = ["launch", "train", "--recipe", "asymdiffrec", "-j", "2x1", "--"]
    return subprocess.Popen(
        [sys.executable, "-m", "dropdrift", *launch, "--data.path", str(data), *SMALL, *options],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(Path(dropdrift.__file__).parents[1]),
            "CUDA_VISIBLE_DEVICES": "",
            "OMP_NUM_THREADS": "1",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_row_that_only_the_second_node_reads(prepared_folder, tmp_path):
    data = shutil.copytree(prepared_folder, tmp_path / "data")
    part = data / "validation" / "part-00000.parquet"
    table = pq.read_table(part)
    ids = pa.array([*table.column("item_id").to_pylist()[:-1], 10**6], pa.int32())
    table = table.set_column(table.schema.get_field_index("item_id"), "item_id", ids)
    pq.write_table(table, part, row_group_size=600)
    job = start(tmp_path, data, "--loop.max-steps", "2")
    said = job.communicate(timeout=220)[0]
    assert job.returncode == 2, said
    assert "Traceback" not in said
    lines = [line for line in said.splitlines() if "id 1000000" in line]
    assert lines == said.splitlines()[-1:]
    assert lines[0].startswith("dropdrift: rank 1 on host ")
    assert "exit code 2): " in lines[0]
    assert "part-00000.parquet: field 'item_id'" in lines[0]


def test_sigterm_gives_the_processes_time_to_save(prepared_folder, tmp_path):
    job = start(tmp_path, prepared_folder, "--loop.epochs", "100000")
    log = tmp_path / "run" / "log.jsonl"
    while not (log.exists() and log.stat().st_size):
        assert job.poll() is None, job.communicate()[0]
        time.sleep(0.1)
    job.send_signal(signal.SIGTERM)
    said = job.communicate(timeout=120)[0]
    assert job.returncode == 143, said
    (step,) = committed_steps(tmp_path / "run" / "checkpoints")
    last = f"dropdrift: run ended by SIGTERM: saved step {step}; go on with --resume"
    assert [line for line in said.splitlines() if "saved step" in line] == [last]
    assert said.splitlines()[-1] == last
