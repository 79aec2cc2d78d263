"""Every command of the README is run, on less data where the README's is large."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dropdrift.data.adaptors.kuairand import (
    LABELS,
    LOG_COLUMNS,
    USER_CATEGORIES,
    USER_COUNTS,
    VIDEO_CATEGORIES,
    VIDEO_NUMBERS,
)

README = Path(__file__).parent.parent / "README.md"
BIN = Path(sys.executable).parent
# What is added to a command so that it ends quickly; None: run elsewhere, and where.
QUICK = {
    "prepare": [],
    "train": ["--loop.max-steps", "12", "--data.batch-size", "64"],
    "torchrun": ["--loop.max-steps", "12", "--data.batch-size", "64"],
    "evaluate": [],
    "report": [],
    "predict": [],
    "export-weights": [],
    "baseline": [],
    "index": [],
    "retrieve": [],
    "plan": [],
    "plan save asymdiffrec-kuairand": ["--data.batch-size", "64"],
    "plan sweep": ["--workers", "1"],
    "plan calibrate": ["--calibration.repeats", "2"],
    "launch train": ["--loop.max-steps", "12", "--data.batch-size", "64"],
    "experiment": ["--seeds", "2", "--only", "base", "asymdiffrec"],
    "bench kernels": ["--sizes", "64x33x16x32", "--seconds", "0.01", "--direction", "forward"],
    "bench plot": [],
    "bench inspect": [],
    "doctor": [],
}
ELSEWHERE = {
    "make demo": "tests/launchers/test_demo.py runs what it runs, on fewer rows",
    "pip install -r requirements/cpu.txt": "the Makefile's, which CI runs in a clean clone",
    "pip install --no-deps -r requirements/torchrec.txt": "the Makefile's",
    "pip install .": "tests/test_packaging.py builds and imports the wheel",
}


def commands() -> list[str]:
    """The lines of the README's sh blocks, without comments."""
    blocks = re.findall(r"```sh\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    lines = (line.split("#")[0].strip() for block in blocks for line in block.splitlines())
    return [line for line in lines if line]


def write_kuairand(folder: Path, rows: int = 6_000, users: int = 150, videos: int = 90) -> None:
    """Random rows in KuaiRand-Pure's official layout, over its ten days."""
    generator = np.random.default_rng(0)
    data = folder / "data"
    data.mkdir(parents=True)
    user = {"user_id": np.arange(users), "is_lowactive_period": 0}
    user |= {name: generator.integers(0, 4, users) for name in (*USER_CATEGORIES, *USER_COUNTS)}
    pd.DataFrame(user).to_csv(data / "user_features_pure.csv", index=False)
    video = {"video_id": np.arange(videos), "visible_status": 0, "upload_dt": "2022-04-10"}
    names = ("author_id", "music_id", "tag", *VIDEO_CATEGORIES, *VIDEO_NUMBERS)
    video |= {n: generator.integers(1, 9, videos) for n in names if n != "upload_dt"}
    pd.DataFrame(video).to_csv(data / "video_features_basic_pure.csv", index=False)
    times = pd.Series(np.sort(generator.integers(0, 10 * 86_400_000, rows)) + 1_650_816_000_000)
    shown = pd.to_datetime(times, unit="ms") + pd.Timedelta(hours=8)
    log = {name: generator.integers(0, 2, rows) for name in LOG_COLUMNS}
    log |= {"user_id": generator.integers(0, users, rows), "time_ms": times}
    log |= {"video_id": generator.integers(0, videos, rows)}
    log |= {"date": shown.dt.strftime("%Y%m%d"), "hourmin": shown.dt.hour * 100}
    assert set(LABELS) <= set(log)
    file = data / "log_standard_4_22_to_5_08_pure.csv"
    pd.DataFrame(log)[list(LOG_COLUMNS)].to_csv(file, index=False)


def write_movielens(path: Path, users: int = 80, movies: int = 60, each: int = 12) -> None:
    """Random ratings in MovieLens-1M's official layout."""
    generator = np.random.default_rng(0)
    rated = [generator.permutation(movies)[:each] + 1 for _ in range(users)]
    times = generator.integers(956_703_932, 1_046_454_590, (users, each))
    ratings = [
        f"{user}::{movie}::{1 + movie % 5}::{time}"
        for user, (own, when) in enumerate(zip(rated, times, strict=True), 1)
        for movie, time in zip(own, when, strict=True)
    ]
    files = {
        "ratings.dat": ratings,
        "users.dat": [f"{user}::F::25::3::12345" for user in range(1, users + 1)],
        "movies.dat": [f"{m}::Film {m} (1999)::Drama|War" for m in range(1, movies + 1)],
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, lines in files.items():
            archive.writestr(f"ml-1m/{name}", "\n".join(lines).encode("latin-1"))


def kind(command: str) -> str:
    """The longest key of QUICK that the command begins with, or its first word."""
    words = command.removeprefix("dropdrift ")
    known = [key for key in QUICK if f"{words} ".startswith(f"{key} ")]
    return max(known, key=len, default=words.split()[0])


def test_every_command_is_known() -> None:
    for command in commands():
        assert command in ELSEWHERE or kind(command) in QUICK, command
    assert not set(ELSEWHERE) - set(commands())
    assert not set(QUICK) - {kind(command) for command in commands()}


@pytest.mark.timeout(500)
def test_every_command_works_from_top_to_bottom(tmp_path: Path) -> None:
    write_kuairand(tmp_path / "KuaiRand-Pure")
    write_movielens(tmp_path / "ml-1m.zip")
    for command in commands():
        if command in ELSEWHERE:
            continue
        program, *arguments = shlex.split(command)
        done = subprocess.run(
            [BIN / program, *arguments, *QUICK[kind(command)]],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
