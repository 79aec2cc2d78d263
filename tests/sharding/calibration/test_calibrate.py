"""The whole calibration on real ranks of gloo."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

import dropdrift
from dropdrift.sharding.calibration.calibrate import calibrate
from dropdrift.sharding.calibration.config import CalibrationConfig
from dropdrift.sharding.calibration.tables import LookupTable
from dropdrift.sharding.cluster import make_cluster
from dropdrift.sharding.config import ShardingConfig
from dropdrift.sharding.hardware import load_hardware
from dropdrift.training.distributed import process_group

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def on_two_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """What the program wrote on each of two ranks."""
    out = tmp_path_factory.mktemp("calibration")
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(dropdrift.__file__).parents[1]),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        # The rendezvous of a torchrun that shares the workers' store can fail on gloo.
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
    }
    program = Path(__file__).parent / "calibration_program.py"
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    ended = subprocess.run(
        [sys.executable, *torchrun, str(program), str(out)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return [json.loads((out / f"{rank}.json").read_text()) for rank in range(2)]


def test_all_ranks_find_the_same(on_two_ranks):
    assert on_two_ranks[0] == on_two_ranks[1]


def test_a_rank_looks_up_the_batches_of_both(on_two_ranks):
    assert set(on_two_ranks[0]["batches"]) == {512}
    for timing in on_two_ranks[0]["lookups"]:
        assert (timing["rows_per_rank"], timing["ranks"]) == (256, 2)
        assert min(*timing["forward_ms"], *timing["backward_ms"]) > 0


def test_exchanges_take_longer_the_larger_they_are(on_two_ranks):
    timings = on_two_ranks[0]["collectives"]
    found = [(timing["collective"], timing["size"]) for timing in timings]
    sizes = [2**14, 2**18, 2**22]
    assert found == [(name, size) for name in ("all_to_all", "reduce_scatter") for size in sizes]
    for first in (0, 3):
        # The fastest repetition is the least disturbed.
        times = [min(t["times_ms"]) for t in timings[first : first + 3]]
        assert times[0] > 0
        assert times[2] > 2 * times[0]


def test_the_fit_brings_the_estimates_to_the_measurements(on_two_ranks):
    found = on_two_ranks[0]
    rates = [line["gb_per_s"] for line in found["lines"]]
    intra = found["hardware"]["intra_node_gb_per_s"]
    assert intra == pytest.approx((rates[0] * rates[1]) ** 0.5)
    logarithms = [
        torch.tensor(row["times"]["after_ms"] / row["times"]["measured_ms"]).log()
        for row in found["comparison"]["lookups"]
    ]
    assert len(logarithms) == 4
    assert float(sum(logarithms)) == pytest.approx(0, abs=1e-4)


def calibrated(hardware: str = "CPU", ranks_per_node: int = 1, **options):
    with process_group(timeout=60):
        group = dist.GroupMember.WORLD
        assert group is not None
        return calibrate(
            make_cluster(ShardingConfig(), load_hardware(hardware), 1, ranks_per_node),
            [LookupTable("one", 50, 16)],
            rows_per_rank=16,
            config=CalibrationConfig(repeats=2),
            group=group,
            device=torch.device("cpu"),
            name="here",
            machine="the test's machine",
            day=date(2026, 3, 1),
            **options,
        )


def test_one_rank_has_no_links_to_measure():
    done: list[str] = []
    found = calibrated(advance=done.append)
    assert done == ["one"]
    assert found.collectives == found.lines == found.comparison.collectives == ()
    assert found.hardware.sources["host_gb_per_s"].startswith("measured on 2026-03-01")
    assert found.hardware.sources["intra_node_gb_per_s"].startswith("not measured, from CPU")


def test_another_cluster_than_the_group_is_refused():
    with pytest.raises(ValueError, match=r"hardware H100 has device cuda, but .* has cpu"):
        calibrated("H100")
    with pytest.raises(ValueError, match="the cluster has 4 ranks, but 1 measure"):
        calibrated(ranks_per_node=4)
