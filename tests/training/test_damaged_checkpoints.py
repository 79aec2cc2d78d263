"""A run goes on from the newest checkpoint that is as it was written, and says so."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.training.small_runs import on_one_rank

from dropdrift.data.schema import Schema
from dropdrift.training.checkpoint import (
    checkpoint_path,
    committed_steps,
    read_state,
    verify_checkpoint,
)
from dropdrift.training.config import EvaluateConfig, TrainConfig
from dropdrift.training.evaluation import evaluate
from dropdrift.training.run_folder import RunFolder
from dropdrift.training.trainer import train

pytestmark = pytest.mark.timeout(120)

STEPS = [4, 8, 12]
SHARD = "__0_0.distcp"


@pytest.fixture(scope="module")
def trained(prepared_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    config = on_one_rank(
        prepared_folder,
        tmp_path_factory.mktemp("trained") / "run",
        max_steps=12,
        checkpoint_every=4,
        log_every=1,
        keep_checkpoints=9,
    )
    train(config, show_progress=False)
    return config


@pytest.fixture
def stopped(trained: TrainConfig, tmp_path: Path) -> TrainConfig:
    """What is left of a run that was stopped after its last checkpoint; it may be damaged."""
    shutil.copytree(trained.out, tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    return replace(trained, out=tmp_path / "run", resume=True)


def remove(checkpoint: Path) -> str:
    (checkpoint / SHARD).unlink()
    return f"{checkpoint / SHARD} is missing"


def truncate(checkpoint: Path) -> str:
    content = (checkpoint / SHARD).read_bytes()
    (checkpoint / SHARD).write_bytes(content[:-1000])
    return f"{checkpoint / SHARD} is damaged"


def flip_a_bit(checkpoint: Path) -> str:
    content = bytearray((checkpoint / SHARD).read_bytes())
    content[len(content) // 3] ^= 8
    (checkpoint / SHARD).write_bytes(content)
    return f"{checkpoint / SHARD} is damaged"


def make_stale(checkpoint: Path) -> str:
    """The shard of the checkpoint before it: as long, and every tensor where it should be."""
    before = checkpoint_path(checkpoint.parent, int(checkpoint.name.removeprefix("step-")) - 4)
    assert (before / SHARD).stat().st_size == (checkpoint / SHARD).stat().st_size
    shutil.copy(before / SHARD, checkpoint / SHARD)
    return f"{checkpoint / SHARD} is damaged"


def spoil_the_manifest(checkpoint: Path) -> str:
    marker = checkpoint / "COMMITTED"
    marker.write_text("[}")
    return f"{marker} is not valid JSON: Expecting value: line 1 column 2 (char 1)"


def lead_the_manifest_elsewhere(checkpoint: Path) -> str:
    marker = checkpoint / "COMMITTED"
    manifest = json.loads(marker.read_text())
    marker.write_text(json.dumps(manifest | {"\x1b[2J/etc/passwd": "0"}))
    return f"{marker} is damaged"


DAMAGES = [
    remove,
    truncate,
    flip_a_bit,
    make_stale,
    spoil_the_manifest,
    lead_the_manifest_elsewhere,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_resuming_falls_back_to_the_newest_good_checkpoint(
    trained, stopped, damage: Callable[[Path], str], capsys
):
    checkpoints = stopped.out / "checkpoints"
    last = checkpoint_path(checkpoints, 12)
    problem = damage(last)
    content = {path.name: path.read_bytes() for path in last.iterdir()}
    outcome = train(stopped, show_progress=False)
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("dropdrift")]
    assert told == [
        f"dropdrift: {problem}: set aside as step-000000012.damaged; going on from step 8"
    ]
    assert outcome is not None
    assert outcome["steps"] == 12
    # The checkpoint is written again, and what was found is kept, but counts as none.
    assert committed_steps(checkpoints) == STEPS
    verify_checkpoint(checkpoints, 12)
    aside = checkpoints / "step-000000012.damaged"
    assert {path.name: path.read_bytes() for path in aside.iterdir()} == content
    # As if nothing had happened, bit by bit.
    for name in (SHARD, "state.json"):
        expected = checkpoint_path(trained.out / "checkpoints", 12) / name
        assert (last / name).read_bytes() == expected.read_bytes(), name
    assert (stopped.out / "log.jsonl").read_text() == (trained.out / "log.jsonl").read_text()


def before_the_renaming(checkpoint: Path) -> None:
    (checkpoint / "COMMITTED").unlink()
    checkpoint.rename(checkpoint.with_name(f"{checkpoint.name}.partial"))


def among_the_shards(checkpoint: Path) -> None:
    (checkpoint / ".metadata").unlink()
    truncate(checkpoint)
    before_the_renaming(checkpoint)


def before_the_marker(checkpoint: Path) -> None:
    (checkpoint / "COMMITTED").unlink()


def within_the_marker(checkpoint: Path) -> None:
    marker = checkpoint / "COMMITTED"
    marker.rename(marker.with_name("COMMITTED.partial")).write_text('{"__0_')


def and_a_file_of_such_a_name(checkpoint: Path) -> None:
    before_the_marker(checkpoint)
    checkpoint.with_name("step-000000099").touch()


@pytest.mark.parametrize(
    "killed",
    [among_the_shards, before_the_renaming, and_a_file_of_such_a_name, within_the_marker],
)
def test_what_a_killed_writer_leaves_is_no_checkpoint(
    trained, stopped, killed: Callable[[Path], None], capsys
):
    checkpoints = stopped.out / "checkpoints"
    killed(checkpoint_path(checkpoints, 12))
    assert committed_steps(checkpoints) == [4, 8]
    train(stopped, show_progress=False)
    assert "set aside" not in capsys.readouterr().err
    assert sorted(path.name for path in checkpoints.iterdir()) == [
        checkpoint_path(checkpoints, step).name for step in STEPS
    ]
    expected = checkpoint_path(trained.out / "checkpoints", 12) / SHARD
    assert (checkpoint_path(checkpoints, 12) / SHARD).read_bytes() == expected.read_bytes()


def test_two_damaged_ones_and_one_that_was_set_aside_before(stopped, capsys):
    checkpoints = stopped.out / "checkpoints"
    (checkpoints / "step-000000008.damaged").mkdir()
    problems = [
        flip_a_bit(checkpoint_path(checkpoints, 12)),
        remove(checkpoint_path(checkpoints, 8)),
    ]
    state = RunFolder(stopped.out).resumable_state(stopped, _schema_of(stopped))
    assert state.step == 4
    assert capsys.readouterr().err == (
        f"dropdrift: {problems[0]}, {problems[1]}: set aside as step-000000012.damaged, "
        "step-000000008.2.damaged; going on from step 4\n"
    )
    assert committed_steps(checkpoints) == [4]


def test_none_that_is_good_is_an_error_and_nothing_is_moved(stopped, capsys):
    checkpoints = stopped.out / "checkpoints"
    problems = [flip_a_bit(checkpoint_path(checkpoints, step)) for step in STEPS]
    with pytest.raises(ValueError, match=problems[-1]):
        train(stopped, show_progress=False)
    assert committed_steps(checkpoints) == STEPS
    assert "set aside" not in capsys.readouterr().err


def test_a_run_that_has_ended_is_refused_and_nothing_is_moved(trained, tmp_path):
    config = replace(trained, out=tmp_path / "ended", resume=True)
    shutil.copytree(trained.out, config.out)
    problem = flip_a_bit(checkpoint_path(config.out / "checkpoints", 12))
    with pytest.raises(ValueError, match=problem):
        train(config, show_progress=False)
    assert committed_steps(config.out / "checkpoints") == STEPS


def test_evaluation_names_a_step_and_takes_no_other(stopped):
    checkpoints = stopped.out / "checkpoints"
    best = read_state(checkpoints, 12).best_step
    problem = flip_a_bit(checkpoint_path(checkpoints, best))
    with pytest.raises(ValueError, match=problem):
        evaluate(EvaluateConfig(run_folder=stopped.out), stopped, show_progress=False)
    assert committed_steps(checkpoints) == STEPS


def test_a_best_checkpoint_that_is_gone_is_not_promised(stopped):
    """It made room for the better one that is damaged."""
    checkpoints = stopped.out / "checkpoints"
    flip_a_bit(checkpoint_path(checkpoints, 12))
    _claim_best(checkpoint_path(checkpoints, 8), 2)
    state = RunFolder(stopped.out).resumable_state(stopped, _schema_of(stopped))
    assert (state.step, state.best_step, state.best_metrics) == (8, -1, {})


def _claim_best(checkpoint: Path, step: int) -> None:
    """Rewrite a state as one of a run whose best validation was at ``step``."""
    file, marker = checkpoint / "state.json", checkpoint / "COMMITTED"
    state = json.loads(file.read_text())
    file.write_text(json.dumps(state | {"best_step": step, "best_metrics": {"auc": 0.9}}))
    manifest = json.loads(marker.read_text())
    manifest["state.json"] = hashlib.sha256(file.read_bytes()).hexdigest()
    marker.write_text(json.dumps(manifest))


def _schema_of(config: TrainConfig) -> Schema:
    return Schema.load(config.data.path)
