"""The benchmark of the kernels on two revisions, in turn. Needs no torch.

Each measurement is a process of its own with this Python and its packages; only dropdrift's own
code differs. The revision is checked out into a temporary git worktree.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import dropdrift

BENCHMARK = ("bench", "kernels")
# Exit codes after which there are records: all is well, or a result failed its check.
MEASURED = (0, 1)
SHOWN_DIGITS = 10


def own_checkout() -> Path:
    """The git checkout that the running code is from.

    Raises:
        ValueError: it is from none.
    """
    checkout = Path(dropdrift.__file__).resolve().parents[2]
    if not (checkout / ".git").exists():
        raise ValueError(
            "a revision can only be measured from a git checkout of dropdrift, and this one is "
            "installed without: compare two files of measurements instead"
        )
    return checkout


@contextmanager
def worktree(checkout: Path, revision: str) -> Iterator[Path]:
    """A folder with ``revision`` checked out, which is gone after the block, however that ends.

    Raises:
        ValueError: there is no such revision.
    """
    commit = f"{revision}^{{commit}}"
    found = _git(checkout, "rev-parse", "--verify", "--quiet", "--end-of-options", commit)
    if found.returncode:
        raise ValueError(f"{revision} is no revision of {checkout}")
    with tempfile.TemporaryDirectory(prefix="dropdrift-") as parent:
        folder = Path(parent) / "checkout"
        try:
            added = _git(checkout, "worktree", "add", "--detach", folder, found.stdout.strip())
            if added.returncode:
                raise ValueError(f"git cannot check out {revision}: {_last_line(added.stderr)}")
            yield folder
        finally:
            _git(checkout, "worktree", "remove", "--force", folder)


def measure_in_turn(
    revision: str,
    checkout: Path,
    arguments: Sequence[str],
    rounds: int,
    files: tuple[Path, Path],
    tell: Callable[[str], None],
) -> None:
    """Measure ``revision`` and ``checkout`` as it is, ``rounds`` times each.

    Every second round begins with the other one, so that neither gains from a machine that becomes
    slower or faster.

    Args:
        revision: of ``checkout``, to compare it with.
        checkout: the git checkout.
        arguments: of ``dropdrift bench kernels``.
        rounds: how often each is measured.
        files: where the measurements of the revision and of the checkout are appended.
        tell: is told what is measured next.

    Raises:
        ValueError: there is no such revision, or one of the two cannot be measured.
    """
    with worktree(checkout, revision) as folder:
        _require_benchmark(folder, revision)
        sides = [(revision, folder, files[0]), ("this checkout", checkout, files[1])]
        for number in range(rounds):
            for name, root, file in reversed(sides) if number % 2 else sides:
                tell(f"round {number + 1} of {rounds}: {name}")
                _measure(name, root, arguments, file)


def _require_benchmark(root: Path, name: str) -> None:
    ended = _run(root, (*BENCHMARK, "--help"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if ended.returncode:
        line = _last_line(ended.stderr).removeprefix("dropdrift: ")
        raise ValueError(f"{name} has no 'bench kernels' to compare with: {line}")


def _measure(name: str, root: Path, arguments: Sequence[str], file: Path) -> None:
    # Its progress is seen, its table is not: that of the comparison has all times.
    ended = _run(root, (*BENCHMARK, *arguments, "--out", str(file)), stdout=subprocess.DEVNULL)
    if ended.returncode not in MEASURED or not file.exists():
        raise ValueError(f"'bench kernels' of {name} ended with exit code {ended.returncode}")


def _run(
    root: Path, arguments: Sequence[str], stdout: int, stderr: int | None = None
) -> subprocess.CompletedProcess[str]:
    """``dropdrift ARGUMENTS`` by the code of ``root``."""
    paths = [str(root / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.run(
        # -P: the current folder must not come before PYTHONPATH.
        [sys.executable, "-P", "-m", "dropdrift", *arguments],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        stdout=stdout,
        stderr=stderr,
        text=True,
        check=False,
    )


def _git(checkout: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = ["git", "-C", str(checkout), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["nothing is said"])[-1]
