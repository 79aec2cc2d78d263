"""Real jobs of several nodes on this machine, by ``dropdrift launch`` and TorchX's local_cwd."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.training.hand_made_plans import dealt, write_plan
from tests.training.small_runs import asymdiffrec, t2diff

import dropdrift
from dropdrift.data.schema import Schema
from dropdrift.launchers.options import load_config
from dropdrift.sharding.config import SHARDING_TYPES
from dropdrift.training.config import TrainConfig
from dropdrift.training.distributed import Ranks
from dropdrift.training.run_folder import save_config

pytest.importorskip("torchx")

pytestmark = pytest.mark.timeout(150)

SMALL = (
    "--data.batch-size", "64", "--data.lanes", "4", "--model.tasks", "click",
    "--model.dcnv2.deep-widths", "8", "--model.dcnv2.z-width", "4",
    "--loop.max-steps", "6", "--loop.log-every", "1",
)  # fmt: skip
# Of the log. The rest tells of a rank's own rows: means over ranks of what no sum makes.
LOSSES = ("main", "reconstruction", "auxiliary", "auc", "log_loss", "softmax", "kl", "ndcg@10")


def launch(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dropdrift", *arguments],
        cwd=cwd,
        env={
            **os.environ,
            "PYTHONPATH": str(Path(dropdrift.__file__).parents[1]),
            "CUDA_VISIBLE_DEVICES": "",
            "OMP_NUM_THREADS": "1",
        },
        capture_output=True,
        text=True,
        timeout=140,
        check=False,
    )


def losses(run: Path) -> list[dict[str, float]]:
    entries = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in entry.items() if name in LOSSES} for entry in entries]


@pytest.fixture(scope="module")
def recipes(prepared_folder, interactions_folder, tmp_path_factory) -> Mapping[str, Path]:
    """By case: table by table, by rows, in all ways that a CPU permits, and replicated."""
    folder = tmp_path_factory.mktemp("recipes")
    loop = {"max_steps": 6, "epochs": 2}
    rowwise, adagrad = (
        asymdiffrec(prepared_folder, sparse, **loop) for sparse in ("rowwise_adagrad", "adagrad")
    )
    rules = ("user_id=row_wise", "item=table_row_wise")
    matching = t2diff(interactions_folder, "adam", **loop)
    configs = {
        "2x1": replace(rowwise, sharding=replace(rowwise.sharding, tables=rules)),
        "2x2": adagrad,
        "2x2-t2diff": matching,
    }
    for case, config in configs.items():
        rows = 8 if case.endswith("t2diff") else 64
        data = replace(config.data, batch_size=rows, lanes=4)
        save_config(replace(config, data=data), folder / f"{case}.yaml")
    return {case: folder / f"{case}.yaml" for case in configs}


def plan_of_all_kinds(recipe: Path) -> Path:
    """For two nodes of two ranks: the tables cut in six ways, in turn."""
    config = load_config(TrainConfig, recipe)
    schema = Schema.load(config.data.path)
    kinds = ("table_row_wise", "row_wise", "column_wise", "table_column_wise", "grid_shard",
             "table_wise")  # fmt: skip
    dealt_to = dealt([table.name for table in schema.tables], kinds)
    ranks = Ranks(rank=0, world_size=4, ranks_per_node=2, device=torch.device("cpu"))
    return write_plan(schema, config, ranks, dealt_to, recipe.with_suffix(".json"))


@pytest.mark.parametrize("case", ["2x1", "2x2", "2x2-t2diff"])
def test_two_nodes_do_as_one_process(recipes, tmp_path, succeed, case):
    recipe, shape = recipes[case], case[:3]
    # One process cuts no table.
    succeed("train", "--recipe", recipe, "--sharding.tables", "--out", tmp_path / "one")
    options = ("--plan", plan_of_all_kinds(recipe)) if case == "2x2" else ()
    command = ("launch", "train", "--recipe", recipe, "-j", shape, "--", "--out", "run", *options)
    ended = launch(*map(str, command), cwd=tmp_path)
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    expected = losses(tmp_path / "one")
    assert len(expected) == 7 + case.endswith("t2diff")  # steps and validations
    for ours, theirs in zip(losses(tmp_path / "run"), expected, strict=True):
        assert ours
        assert ours == pytest.approx(theirs, abs=1e-5)
    last = [line for line in ended.stdout.splitlines() if "best at step" in line]
    assert len(last) == 1
    assert last[0].startswith(("[0] run: 6 steps", "[1] run: 6 steps"))
    world = json.loads((tmp_path / "run" / "provenance.json").read_text())["world_size"]
    assert world == int(shape[0]) * int(shape[2])
    plans = [json.loads(p.read_text()) for p in tmp_path.glob("run/checkpoints/*/plan.json")]
    kinds = {table["sharding_type"] for table in plans[-1]["placement"]}
    assert (
        kinds
        == {
            "2x1": {"row_wise", "table_row_wise", "table_wise"},
            "2x2": set(SHARDING_TYPES),
            "2x2-t2diff": {"data_parallel"},
        }[case]
    )


def test_a_job_that_fails_gives_its_exit_code_and_its_reason(tmp_path):
    """What only the command itself can find out, after its options were found to be good."""
    ended = launch("launch", "evaluate", "--", "--run-folder", "absent", cwd=tmp_path)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert len(ended.stderr.splitlines()) == 1
    assert "--run-folder absent holds no run" in ended.stderr


def test_nothing_runs_where_a_command_refuses_its_options(tmp_path):
    options = ("--recipe", "asymdiffrec", "-j", "2x1", "--", "--loop.epoch", "3")
    ended = launch("launch", "train", *options, cwd=tmp_path)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert len(ended.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def processes_naming(text: str) -> dict[int, str]:
    """Command lines that hold ``text``, of this system's processes that have not ended."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if text in line:
            found[int(path.parent.name)] = line
    return found


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes in /proc")
def test_a_torchrun_that_is_killed_is_named(tmp_path):
    """The other node only knows that it has waited in vain."""
    report = str(tmp_path / "report.json")
    with ThreadPoolExecutor() as pool:
        command = ("launch", "preflight", "-j", "2x1", "--join-timeout", "3", "--", "--out", report)
        job = pool.submit(launch, *command, cwd=tmp_path)
        nodes: list[int] = []
        while len(nodes) < 2 and not job.done():
            time.sleep(0.1)
            lines = processes_naming(report)
            nodes = [process for process, line in lines.items() if "launchers.torchrun" in line]
        os.kill(nodes[1], signal.SIGKILL)
        ended = job.result()
    assert ended.returncode == 128 + signal.SIGKILL
    assert re.fullmatch(r"dropdrift: node [01] has ended by SIGKILL\n", ended.stderr)


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes in /proc")
@pytest.mark.parametrize(
    ("sent", "stuck"), [(signal.SIGINT, False), (signal.SIGHUP, False), (signal.SIGTERM, True)]
)
def test_a_signal_ends_all_processes(prepared_folder, tmp_path, sent, stuck):
    """A second one meanwhile as well, and workers that do not end in the time of SIGTERM."""
    out = tmp_path / "run"
    ended = subprocess.Popen(
        [sys.executable, "-m", "dropdrift", "launch", "train", "--recipe", "asymdiffrec",
         "-j", "2x1", "--env", "TORCH_ELASTIC_SHUTDOWN_TIMEOUT=3", "--",
         "--data.path", str(prepared_folder), "--out", str(out), *SMALL,
         "--loop.max-steps", "100000", "--loop.epochs", "100000"],
        env={**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path),
             "PYTHONPATH": str(Path(dropdrift.__file__).parents[1])},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        while not (out / "log.jsonl").exists() or not (out / "log.jsonl").stat().st_size:
            assert ended.poll() is None, ended.communicate()[0][-3000:]
            time.sleep(0.1)
        lines = processes_naming(str(out))
        workers = [pid for pid, line in lines.items() if "-u -m dropdrift" in line]
        assert len(workers) == 2, lines
        for worker in workers if stuck else ():
            os.kill(worker, signal.SIGSTOP)
        for _ in range(2):
            ended.send_signal(sent)
            time.sleep(0.3)
        told = ended.communicate(timeout=30)[0]
    finally:
        ended.kill()
        left = processes_naming(str(out))
        for pid in left:
            os.kill(pid, signal.SIGKILL)
    assert not left
    assert ended.returncode == 128 + sent
    last = "ended by SIGTERM" if stuck else f"{sent.name}: ending all processes"
    assert told.splitlines()[-1] == f"dropdrift: {last}"
    assert "Traceback" not in told
    assert not list(tmp_path.glob("torchx_*"))
