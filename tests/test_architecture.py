"""The architecture: which room imports which, what needs no torch, sizes and names."""

from __future__ import annotations

import ast
import importlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("benchmarks", "data", "kernels", "launchers", "models", "sharding", "training")

# Rooms that a room may import besides itself; from `data`, those without it may use SHARED_DATA.
MAY_IMPORT = {
    "kernels": set(),
    "data": set(),
    "models": {"kernels"},
    "sharding": {"models", "kernels"},
    "training": {"sharding", "models", "kernels", "data"},
    "benchmarks": {"training", "sharding", "models", "kernels", "data"},
    "launchers": {"benchmarks", "training", "sharding", "models", "kernels", "data"},
}
SHARED_DATA = {
    "dropdrift.data.schema",
    "dropdrift.data.batch",
    "dropdrift.data.config",
    # How any YAML or JSON file is read; they know nothing of data sets.
    "dropdrift.data.json_file",
    "dropdrift.data.typed_mapping",
    "dropdrift.data.yaml_file",
}

# What must start quickly or run beside torch-free tools.
WITHOUT_TORCH = (
    "*/config.py",
    "*/*/config.py",
    "benchmarks/kernels/comparison.py",
    "benchmarks/kernels/origin.py",
    "benchmarks/kernels/page.py",
    "benchmarks/kernels/plots.py",
    "benchmarks/kernels/record.py",
    "benchmarks/kernels/revisions.py",
    "benchmarks/kernels/sizes.py",
    "benchmarks/kernels/wording.py",
    "launchers/main.py",
    "launchers/options.py",
    "launchers/doctor/*.py",
    "launchers/prepare.py",
    "launchers/processes.py",
    "launchers/prepare_matching.py",
    "launchers/prepare_options.py",
    "launchers/series.py",
    "data/counter.py",
    "data/json_file.py",
    "data/ragged.py",
    "data/schema.py",
    "data/source.py",
    "data/preparing/*.py",
    "data/encoding/*.py",
    "data/adaptors/*.py",
    "data/synthetic/*.py",
    "models/option_checks.py",
    "sharding/hardware.py",
    "training/experiments/series*.py",
    "data/interactions/__init__.py",
    "data/interactions/codes.py",
    "data/interactions/layout.py",
    "data/interactions/ordering.py",
    "data/interactions/prepare.py",
    "data/interactions/reading.py",
    "data/interactions/row_checks.py",
    "data/interactions/side_items.py",
    "data/interactions/source.py",
    "data/interactions/statistics.py",
    "launchers/bench/*.py",
    "launchers/components.py",
    "launchers/launch/*.py",
    "launchers/slurm/*.py",
    "launchers/bench/*.py",
    "launchers/plan/__init__.py",
    "launchers/plan/target.py",
    "launchers/plan/calibrate.py",
    "launchers/plan/diff.py",
    "launchers/plan/explain.py",
    "launchers/plan/output.py",
    "launchers/plan/remedies.py",
    "launchers/plan/save.py",
    "launchers/plan/show.py",
    "launchers/plan/sweep.py",
    "sharding/advance.py",
    "sharding/checks.py",
    "sharding/saved/context.py",
    "sharding/summary.py",
    "sharding/wording.py",
    "training/plans/fixes/changes.py",
    "training/plans/described_tables.py",
    "training/plans/fixes/fix.py",
    "training/plans/views/grids.py",
    "training/plans/sweeps/sweep.py",
    "training/plans/sweeps/grids.py",
    "training/plans/views/terminal.py",
    "training/plans/sweeps/trial.py",
)

FILE_LINES = 400
FUNCTION_LINES = 60

# In pieces, so that this file does not name what it looks for.
FORBIDDEN_TEXT = re.compile(
    "|".join(
        [
            r"/(work|farm|root)/",
            r"\.\./sha" + "red",
            r"(files\.python" + r"hosted|pypi\.|download\.py" + r"torch\.)",
            r"--(extra-)?index" + "-url",
        ]
    )
)


@cache
def tracked_files() -> list[Path]:
    if not (shutil.which("git") and (ROOT / ".git").exists()):
        pytest.skip("not a git checkout")
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    paths = [ROOT / name for name in listing.stdout.split("\0") if name]
    return [path for path in paths if path.is_file() and not path.is_symlink()]


def sources(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of everything imported anywhere in a file."""
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def is_allowed(room: str, name: str) -> bool:
    parts = name.split(".")
    if parts[0] != "dropdrift" or len(parts) == 1 or parts[1] not in ROOMS:
        return True
    shared = room != "kernels" and ".".join(parts[:3]) in SHARED_DATA
    return shared or parts[1] == room or parts[1] in MAY_IMPORT[room]


@pytest.mark.parametrize("room", ROOMS)
def test_imports_go_one_way(room: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in sources(room)
        for line, name in imports(path)
        if not is_allowed(room, name)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("room", "name", "allowed"),
    [
        ("kernels", "dropdrift.data.schema.Schema", False),
        ("models", "dropdrift.data.schema.Schema", True),
        ("models", "dropdrift.data.loading.loader", False),
        ("sharding", "dropdrift.training", False),
        ("sharding", "dropdrift.data.yaml_file.read_yaml", True),
        ("sharding", "dropdrift.data.json_file.read_json", True),
        ("sharding", "dropdrift.data.source.Source", False),
        ("data", "dropdrift.models.config", False),
        ("launchers", "dropdrift.data.preparing.prepare", True),
        ("training", "dropdrift.launchers.options", False),
        ("models", "torch.nn", True),
    ],
)
def test_the_import_rule_is_the_designs(room: str, name: str, allowed: bool) -> None:
    assert is_allowed(room, name) == allowed


def test_kernels_need_torch_and_triton_alone() -> None:
    known = sys.stdlib_module_names | {"torch", "triton"}
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in sources("kernels")
        for line, name in imports(path)
        if name.split(".")[0] not in known and not name.startswith("dropdrift.kernels")
    ]
    assert not wrong, "\n".join(wrong)


def without_torch() -> list[str]:
    paths = {path for pattern in WITHOUT_TORCH for path in ROOT.glob(pattern)}
    inside = (path.relative_to(ROOT) for path in paths if path.parent.parent != ROOT / "src")
    return sorted("dropdrift." + ".".join(path.with_suffix("").parts) for path in inside)


def test_what_must_be_quick_imports_no_torch() -> None:
    """One process that imports them one after the other and names the first to bring torch."""
    modules = [name.removesuffix(".__init__") for name in without_torch()]
    assert "dropdrift.training.config" in modules
    code = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        "    assert 'torch' not in sys.modules, f'{name} imports torch'\n"
    )
    ended = subprocess.run([sys.executable, "-c", code, *modules], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("room", ROOMS)
def test_each_subpackage_is_its_room(room: str) -> None:
    package = importlib.import_module(f"dropdrift.{room}")
    assert package.__file__ is not None
    assert Path(package.__file__).resolve() == ROOT / room / "__init__.py"


def test_no_room_is_importable_by_its_bare_name() -> None:
    """`import data` would load a second copy of the room."""
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in tracked_files()
        if path.suffix == ".py"
        for line, name in imports(path)
        if name.split(".")[0] in ROOMS
    ]
    assert not wrong, "\n".join(wrong)


def test_every_folder_of_a_room_is_a_package() -> None:
    """One without `__init__.py` would be missing from the wheel."""
    folders = {path.parent for room in ROOMS for path in sources(room)}
    missing = [str(f.relative_to(ROOT)) for f in folders if not (f / "__init__.py").is_file()]
    assert not missing, missing


def test_files_and_functions_stay_small() -> None:
    wrong = []
    for path in (path for room in ROOMS for path in sources(room)):
        name = path.relative_to(ROOT)
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > FILE_LINES:
            wrong.append(f"{name} has {lines} lines")
        for node in ast.walk(parse(path)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                assert node.end_lineno is not None
                length = node.end_lineno - node.lineno + 1
                if length > FUNCTION_LINES:
                    wrong.append(f"{name}:{node.lineno} {node.name} has {length} lines")
    assert not wrong, "\n".join(wrong)


def test_no_tracked_file_names_a_machine_or_a_registry() -> None:
    """Only `.ci/run` may know where this project's own machines keep the data sets."""
    wrong = []
    for path in tracked_files():
        if ROOT / ".ci" in path.parents:
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            if FORBIDDEN_TEXT.search(line):
                wrong.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("room", ROOMS)
def test_public_names_have_docstrings(room: str) -> None:
    """Inner functions and the methods of private classes too, which ruff passes over."""
    without = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path in sources(room)
        for node in ast.walk(parse(path))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]
    assert not without, "\n".join(without)
