"""``dropdrift plan`` before it comes to a subcommand."""

from __future__ import annotations

import subprocess
import sys

import pytest

from dropdrift.launchers.plan import SUBCOMMANDS


def test_the_help_lists_the_subcommands(succeed) -> None:
    output = succeed("plan", "--help").output
    for name, about in SUBCOMMANDS.items():
        assert f"  {name:<9}  {about}" in output


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_the_help_of_each_imports_neither_torch_nor_matplotlib(name: str) -> None:
    code = (
        "import sys\n"
        "from dropdrift.launchers.main import main\n"
        f"try:\n    main(['plan', {name!r}, '--help'])\n"
        "except SystemExit as leave:\n"
        "    assert leave.code == 0\n"
        "    assert {'torch', 'matplotlib'}.isdisjoint(sys.modules)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert f"dropdrift plan {name}" in ended.stdout


def test_an_unknown_subcommand_lists_the_known_ones(mistake) -> None:
    message = mistake("plan", "shwo")
    assert message.startswith("unknown subcommand 'shwo' of plan; did you mean show?; there are:")
    assert message.endswith(", ".join(SUBCOMMANDS))


def test_only_calibrate_runs_on_many_processes(monkeypatch) -> None:
    from dropdrift.launchers.plan import run

    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in SUBCOMMANDS.keys() - {"calibrate"}:
        with pytest.raises(ValueError, match=f"plan {name} runs on one process"):
            run([name, "mlperf-dlrm-dcnv2"])
