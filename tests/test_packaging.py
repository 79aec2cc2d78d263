"""The built distributions: what they hold, and that they work away from the checkout."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from dropdrift.launchers.stack import MATCHED_SETS, TORCHREC_NEEDS

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("benchmarks", "data", "kernels", "launchers", "models", "sharding", "training")
BUILD_FILES = ("pyproject.toml", "setup.py", "README.md", "LICENSE")
BUILD_SDIST = "from setuptools import build_meta; import sys; build_meta.build_sdist(sys.argv[1])"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is packaged, so that the build leaves nothing in the real one."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in BUILD_FILES:
        shutil.copy(ROOT / name, copy / name)
    ignored = shutil.ignore_patterns("__pycache__", *ROOMS)
    shutil.copytree(ROOT / "src", copy / "src", ignore=ignored)
    for room in ROOMS:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / room, copy / room, ignore=ignored)
    return copy


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    options = ["--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--quiet"]
    command = [sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", str(out), "."]
    subprocess.run(command, cwd=checkout, check=True, capture_output=True)
    return next(out.glob("*.whl"))


def packaged_files() -> set[str]:
    """What an installation must hold: modules, code that is compiled there, files of options."""
    modules = (path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
    sources = (ROOT / "kernels").rglob("*.c")
    recipes = (ROOT / "launchers/recipes").glob("*.yaml")
    experiments = (ROOT / "launchers/experiments").glob("*.yaml")
    plans = (ROOT / "launchers/plan/configurations").glob("*.yaml")
    paths = (*modules, *sources, *recipes, *experiments, *plans)
    return {f"dropdrift/{path.relative_to(ROOT)}" for path in paths} | {
        "dropdrift/__init__.py",
        "dropdrift/__main__.py",
        "dropdrift/py.typed",
        "dropdrift/kernels/ahead_of_time/budgets.json",
        "dropdrift/sharding/hardware.yaml",
        "dropdrift/sharding/saved/plan.schema.json",
    }


def test_the_wheel_holds_the_rooms_the_recipes_and_the_types(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if name.startswith("dropdrift/")}
    assert held == packaged_files()


def test_the_wheel_works_away_from_the_checkout(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = (
        "import importlib, pathlib, sys\n"
        "from dropdrift.launchers.options import recipe_names\n"
        "print(*recipe_names())\n"
        "for room in sys.argv[1:]:\n"
        "    package = importlib.import_module(f'dropdrift.{room}')\n"
        "    print(pathlib.Path(package.__file__).parent)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-P", "-c", code, *ROOMS],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    recipes, *folders = ended.stdout.splitlines()
    assert recipes.split() == sorted(path.stem for path in (ROOT / "launchers/recipes").iterdir())
    assert folders == [str(tmp_path / "site" / "dropdrift" / room) for room in ROOMS]


def test_the_sdist_holds_what_the_wheel_is_built_from(checkout: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", BUILD_SDIST, str(tmp_path)]
    subprocess.run(command, cwd=checkout, check=True, capture_output=True)
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    needed = {name.removeprefix("dropdrift/") for name in packaged_files()}
    needed = {f"src/dropdrift/{name}" if "/" not in name else name for name in needed}
    assert needed | set(BUILD_FILES) <= held


def requirements(name: str) -> dict[str, str]:
    lines = (ROOT / "requirements" / name).read_text(encoding="utf-8").splitlines()
    entries = (re.fullmatch(r"([\w-]+)(.*)", line) for line in lines if not line.startswith("#"))
    return {entry[1]: entry[2] for entry in entries if entry}


def test_the_requirements_are_the_newest_matched_set() -> None:
    newest = MATCHED_SETS[0]
    for name, fbgemm in (("cpu.txt", "fbgemm-gpu-cpu"), ("cuda.txt", "fbgemm-gpu")):
        pinned = requirements(name)
        assert pinned.pop("torch").startswith(f"=={newest.torch}.")
        assert pinned.pop(fbgemm).startswith(f"=={newest.fbgemm}.")
        assert set(pinned) == {need.partition("==")[0] for need in TORCHREC_NEEDS}
    assert requirements("torchrec.txt")["torchrec"].startswith(f"=={newest.torchrec}.")


def test_links_are_left_out_where_they_would_be_copied_as_files() -> None:
    for name in (".torchxignore", ".dockerignore"):
        ignored = (ROOT / name).read_text(encoding="utf-8").splitlines()
        assert {f"src/dropdrift/{room}" for room in ROOMS} <= set(ignored)


def test_the_command_is_the_console_script() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["scripts"] == {"dropdrift": "dropdrift.launchers.main:main"}
