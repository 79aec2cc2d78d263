from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path

import pytest

import dropdrift
from dropdrift.training import provenance as module
from dropdrift.training.config import TrainConfig
from dropdrift.training.provenance import plain, provenance, write_result


@dataclass(frozen=True)
class Options:
    out: Path = Path("runs") / "x"
    widths: tuple[int, ...] = (512, 256)
    rates: dict[str, float] = field(default_factory=lambda: {"a": 0.5})


def test_names_what_is_needed_to_run_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/dropdrift", "train", "--out", "a folder"])
    found = provenance(TrainConfig(), seed=7)
    assert found["command"] == "dropdrift train --out 'a folder'"
    assert found["seed"] == 7
    assert found["config"]["loop"]["seed"] == TrainConfig().loop.seed
    assert found["versions"]["dropdrift"] == dropdrift.__version__
    for name in ("torch", "torchrec", "numpy", "pyarrow"):
        assert found["versions"][name] == metadata.version(name)
    assert found["hardware"]["cpu"]
    assert 1 <= found["hardware"]["cores"] <= (os.cpu_count() or 1)
    assert found["hardware"]["memory"] > 2**28
    assert found["world_size"] == 1
    age = datetime.now(UTC) - datetime.fromisoformat(found["date"])
    assert timedelta(0) <= age < timedelta(minutes=1)
    assert json.loads(json.dumps(found)) == found


def test_command_of_a_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/x/dropdrift/__main__.py", "evaluate"])
    assert provenance({})["command"] == "python -m dropdrift evaluate"


def test_needs_no_torch() -> None:
    program = (
        "import sys; from dropdrift.training.provenance import provenance; p = provenance({});"
        "assert 'torch' not in sys.modules; assert p['hardware']['gpus'] == []"
    )
    source = str(Path(dropdrift.__file__).parents[1])
    subprocess.run(
        [sys.executable, "-c", program], check=True, env={**os.environ, "PYTHONPATH": source}
    )


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_git_tells_revision_and_changes(tmp_path: Path) -> None:
    assert module._git(tmp_path) is None
    git(tmp_path, "init", "-q")
    assert module._git(tmp_path) is None  # a checkout without a commit has no revision
    file = tmp_path / "file"
    file.write_text("1")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-q", "-m", "one")
    revision = git(tmp_path, "rev-parse", "HEAD")
    assert module._git(tmp_path) == {"revision": revision, "dirty": False}
    file.write_text("2")
    assert module._git(tmp_path) == {"revision": revision, "dirty": True}


def test_plain_values() -> None:
    assert plain(Options()) == {"out": "runs/x", "widths": [512, 256], "rates": {"a": 0.5}}
    assert plain({"list": [Options(), math.nan, None, True]}) == {
        "list": [plain(Options()), None, None, True]
    }


def test_result_is_json_with_folders_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "result.json"
    write_result(path, {"auc": 0.7, "uauc": math.nan, "options": Options(), "name": "Größe"})
    assert json.loads(path.read_text(encoding="utf-8")) == {
        "auc": 0.7,
        "uauc": None,
        "options": plain(Options()),
        "name": "Größe",
    }
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("payload", "error"), [({"loss": math.inf}, ValueError), ({"what": object()}, TypeError)]
)
def test_a_failed_write_leaves_the_old_result_alone(
    payload: object, error: type[Exception], tmp_path: Path
) -> None:
    path = tmp_path / "result.json"
    write_result(path, {"old": 1})
    with pytest.raises(error):
        write_result(path, payload)
    assert json.loads(path.read_text()) == {"old": 1}


def test_an_interrupted_write_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "result.json"
    write_result(path, {"old": 1})

    def interrupted(*_: object) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_result(path, {"new": 2})
    assert json.loads(path.read_text()) == {"old": 1}
    assert list(tmp_path.iterdir()) == [path]
