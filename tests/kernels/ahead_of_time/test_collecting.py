"""How specimens are found, in packages of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from dropdrift.kernels.ahead_of_time.collecting import all_specimens, kernel_modules

SPECIMENS = """
from dropdrift.kernels.specimen import Specimen


def specimens(capability):
    return [Specimen("{name}", None, {{}}, {{}}, (), capability, 4, 2, False)]
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Writes the modules of a package that can be imported."""
    monkeypatch.syspath_prepend(tmp_path)

    def package(name: str, **modules: str) -> str:
        (tmp_path / name / "family").mkdir(parents=True)
        for path in (tmp_path / name, tmp_path / name / "family"):
            (path / "__init__.py").write_text("")
        for module, text in modules.items():
            (tmp_path / name / "family" / f"{module}.py").write_text(text)
        return name

    return package


def test_modules_of_kernels_are_found_by_their_name(write) -> None:
    package = write(
        "found_kernels",
        triton_one=SPECIMENS.format(name="one"),
        triton_tiles="# only what other kernels call",
        plain="raise AssertionError('not a module of kernels')",
    )
    assert list(kernel_modules(package)) == [
        "found_kernels.family.triton_one",
        "found_kernels.family.triton_tiles",
    ]
    (one,) = all_specimens((90,), package)
    assert (one.name, one.capability) == ("one", 90)


def test_two_specimens_of_one_name_are_refused(write) -> None:
    text = SPECIMENS.format(name="same")
    package = write("same_names", triton_one=text, triton_two=text)
    with pytest.raises(ValueError, match="several specimens have one name: same"):
        all_specimens((90,), package)


def test_a_package_that_cannot_be_imported_is_not_passed_over(write, tmp_path: Path) -> None:
    package = write("broken_kernels", triton_one=SPECIMENS.format(name="one"))
    (tmp_path / package / "family" / "__init__.py").write_text("import no_such_module_at_all")
    with pytest.raises(ModuleNotFoundError, match="no_such_module_at_all"):
        all_specimens((90,), package)
