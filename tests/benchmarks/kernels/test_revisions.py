"""Two revisions measured in turn: the right code runs, and nothing of it stays behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dropdrift.benchmarks.kernels.revisions import measure_in_turn, own_checkout, worktree

# A package that takes the command and says which code has run.
PROGRAM = """\
import json, pathlib, sys, time
VERSION = {version!r}
if sys.argv[1:] == ["bench", "kernels", "--help"]:
    sys.exit(0)
assert sys.argv[1:3] == ["bench", "kernels"], sys.argv
out = pathlib.Path(sys.argv[sys.argv.index("--out") + 1])
with out.open("a") as file:
    file.write(json.dumps([VERSION, __file__, sys.argv[3:-2]]) + "\\n")
with out.with_name("order").open("a") as file:
    file.write(VERSION + " ")
time.sleep({seconds})
sys.exit({code})
"""
WITHOUT = """\
import sys
sys.exit("dropdrift: unknown benchmark 'kernels'; there are: training-step")
"""


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def commit(folder: Path, program: str) -> str:
    """The new revision, whose package is ``program``."""
    package = folder / "src" / "dropdrift"
    package.mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(program)
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "change")
    return git(folder, "rev-parse", "HEAD").strip()


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository of two revisions, old and new, and a change that is not committed."""
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "-q")
    commit(folder, PROGRAM.format(version="old", seconds=0, code=0))
    git(folder, "tag", "before")
    commit(folder, PROGRAM.format(version="committed", seconds=0, code=0))
    program = folder / "src" / "dropdrift" / "__main__.py"
    program.write_text(PROGRAM.format(version="here", seconds=0, code=1))
    return folder


def assert_nothing_is_left(checkout: Path, temporary: Path) -> None:
    assert len(git(checkout, "worktree", "list").splitlines()) == 1
    assert list(temporary.iterdir()) == []


def test_each_side_runs_its_own_code_in_turn(
    checkout: Path, temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the current folder and PYTHONPATH have code of that name."""
    other = tmp_path / "other"
    (other / "dropdrift").mkdir(parents=True)
    (other / "dropdrift" / "__main__.py").write_text("raise SystemExit(7)")
    (other / "dropdrift" / "__init__.py").touch()
    monkeypatch.chdir(other)
    monkeypatch.setenv("PYTHONPATH", str(other))
    files, told = (tmp_path / "old", tmp_path / "new"), []
    measure_in_turn("before", checkout, ["--op", "denoiser"], 3, files, told.append)
    old, new = ([json.loads(line) for line in file.read_text().splitlines()] for file in files)
    assert [(version, options) for version, _, options in old] == [
        ("old", ["--op", "denoiser"])
    ] * 3
    assert [version for version, _, _ in new] == ["here"] * 3
    assert all(str(temporary) in file for _, file, _ in old)
    assert all(file == str(checkout / "src/dropdrift/__main__.py") for _, file, _ in new)
    assert (tmp_path / "order").read_text() == "old here here old old here "
    assert told[:2] == ["round 1 of 3: before", "round 1 of 3: this checkout"]
    assert len(told) == 6
    assert_nothing_is_left(checkout, temporary)


def test_a_revision_that_is_none_is_one_line(checkout: Path, temporary: Path) -> None:
    for name in ("nowhere", "before~5", "--all"):
        with (
            pytest.raises(ValueError, match=f"^{name} is no revision of {checkout}$"),
            worktree(checkout, name),
        ):
            pass
    assert_nothing_is_left(checkout, temporary)


def test_a_revision_without_the_benchmark_is_one_line(
    checkout: Path, temporary: Path, tmp_path: Path
) -> None:
    revision = commit(checkout, WITHOUT)
    message = f"^{revision} has no 'bench kernels' to compare with: unknown benchmark 'kernels'; .*"
    with pytest.raises(ValueError, match=message):
        measure_in_turn(revision, checkout, [], 1, (tmp_path / "a", tmp_path / "b"), print)
    assert_nothing_is_left(checkout, temporary)


@pytest.mark.parametrize("code", [2, -signal.SIGSEGV])
def test_a_benchmark_that_breaks_is_said_so(
    code: int, checkout: Path, temporary: Path, tmp_path: Path
) -> None:
    ending = code if code > 0 else f"__import__('os').kill(__import__('os').getpid(), {-code})"
    revision = commit(checkout, PROGRAM.format(version="broken", seconds=0, code=ending))
    with pytest.raises(ValueError, match=f"of {revision} ended with exit code {code}"):
        measure_in_turn(revision, checkout, [], 1, (tmp_path / "a", tmp_path / "b"), print)
    assert_nothing_is_left(checkout, temporary)


def test_nothing_is_left_after_an_interrupt(
    checkout: Path, temporary: Path, tmp_path: Path
) -> None:
    """Ctrl-C reaches all processes of the terminal."""
    revision = commit(checkout, PROGRAM.format(version="slow", seconds=60, code=0))
    code = (
        "import pathlib, sys\n"
        "from dropdrift.benchmarks.kernels.revisions import measure_in_turn\n"
        "revision, checkout, *files = sys.argv[1:]\n"
        "files = tuple(map(pathlib.Path, files))\n"
        "measure_in_turn(revision, pathlib.Path(checkout), [], 1, files, print)\n"
    )
    files = [tmp_path / "old", tmp_path / "new"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, revision, str(checkout), *map(str, files)],
        env=os.environ | {"TMPDIR": str(temporary)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 60
        while not files[0].exists():
            assert process.poll() is None, process.stderr and process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert list(temporary.iterdir())
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=30)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    assert process.returncode != 0
    assert_nothing_is_left(checkout, temporary)


def test_an_installed_package_has_no_revisions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site-packages" / "dropdrift" / "__init__.py"
    monkeypatch.setattr("dropdrift.__file__", str(package))
    with pytest.raises(ValueError, match="only be measured from a git checkout"):
        own_checkout()
