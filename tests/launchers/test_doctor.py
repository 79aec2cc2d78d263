"""The doctor and the judgement of installed versions."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from dropdrift.launchers import doctor, stack
from dropdrift.launchers.doctor import check as doctor_check
from dropdrift.launchers.doctor.check import check_import
from dropdrift.launchers.doctor.packages import check_stack
from dropdrift.launchers.stack import stack_problem


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same answers on every machine."""
    monkeypatch.setattr(stack, "gpu_names", list)
    monkeypatch.setattr(doctor, "gpu_names", list)


def versions(torch: str, torchrec: str, **fbgemm: str) -> dict[str, str]:
    named = {name.replace("_", "-"): version for name, version in fbgemm.items()}
    return {"torch": torch, "torchrec": torchrec, **named}


@pytest.mark.parametrize(
    "matched",
    [
        versions("2.13.0+cpu", "1.8.0", fbgemm_gpu_cpu="1.8.0"),
        versions("2.13.0", "1.8.0", fbgemm_gpu_cpu="1.8.0"),
        versions("2.13.1+cu130", "1.8.2", fbgemm_gpu="1.8.0"),
        versions("2.11.0", "1.6.1", fbgemm_gpu="1.6.0"),
    ],
)
def test_a_matched_set_has_no_problem(matched: dict[str, str]) -> None:
    assert stack_problem(matched) == ""


@pytest.mark.parametrize(
    ("mixed", "found", "command"),
    [
        (
            versions("2.13.0", "1.9.2", fbgemm_gpu="1.8.0"),
            "torch 2.13.0, torchrec 1.9.2, fbgemm-gpu 1.8.0",
            "pip install 'torch==2.13.*' 'fbgemm-gpu==1.8.*' "
            "&& pip install --no-deps 'torchrec==1.8.*'",
        ),
        (
            versions("2.11.0+cpu", "1.8.0", fbgemm_gpu_cpu="1.8.0"),
            "torch 2.11.0+cpu",
            "pip install 'torch==2.11.*' 'fbgemm-gpu-cpu==1.6.*' "
            "&& pip install --no-deps 'torchrec==1.6.*'",
        ),
        (
            versions("2.13.0+cpu", "1.8.0", fbgemm_gpu="1.8.0"),
            "fbgemm-gpu needs a CUDA build of torch",
            "pip uninstall -y fbgemm-gpu && pip install 'torch==2.13.*' 'fbgemm-gpu-cpu==1.8.*'",
        ),
        (
            versions("2.13.0", "1.8.0", fbgemm_gpu="1.8.0", fbgemm_gpu_cpu="1.8.0"),
            "share one folder",
            "pip uninstall -y fbgemm-gpu fbgemm-gpu-cpu && pip install",
        ),
        (
            versions("2.15.0", "1.9.2", fbgemm_gpu_cpu="1.9.0"),
            "known to match are torch 2.13, torchrec 1.8 and fbgemm 1.8",
            "pip install 'torch==2.13.*' 'fbgemm-gpu-cpu==1.8.*'",
        ),
        ({"torch": "2.13.0"}, "torchrec (none), fbgemm (none)", "'torchmetrics==1.0.3'"),
        ({}, "torch (none)", "pip install 'torch==2.13.*'"),
    ],
)
def test_a_mixed_set_is_one_line_with_its_remedy(
    mixed: dict[str, str], found: str, command: str
) -> None:
    problem = stack_problem(mixed)
    assert found in problem
    assert command in problem.split("; run: ")[1]
    assert "\n" not in problem


def test_every_matched_set_is_its_own_remedy() -> None:
    for known in stack.MATCHED_SETS:
        exact = versions(f"{known.torch}.0", f"{known.torchrec}.0", fbgemm_gpu=f"{known.fbgemm}.0")
        assert stack_problem(exact) == ""


def test_the_remedy_follows_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "gpu_names", lambda: ["H200"])
    assert "'fbgemm-gpu==1.8.*'" in stack_problem({})
    assert "'fbgemm-gpu-cpu==1.8.*'" in stack_problem({"torch": "2.13.0+cpu"})


def test_a_gpu_without_its_fbgemm_is_a_warning() -> None:
    found = versions("2.13.0", "1.8.0", fbgemm_gpu_cpu="1.8.0")
    check = check_stack(found, ["H200"])
    assert check.status == "warning"
    assert "there is a GPU (H200)" in check.detail
    assert "make venv STACK=cuda" in check.remedy
    assert check_stack(found, []).status == "ok"


def test_a_mixed_set_is_an_error_with_its_remedy() -> None:
    check = check_stack({"torch": "2.12.0"}, [])
    assert check.status == "error"
    assert check.detail.startswith("installed: torch 2.12.0, torchrec (none), fbgemm (none);")
    assert check.remedy.startswith("run: pip install 'torch==2.13.*'")


def test_the_installed_set_matches() -> None:
    stack.require_matched_stack()


def test_a_mixed_set_stops_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "installed_versions", lambda: {"torch": "2.12.0"})
    with pytest.raises(ValueError, match=r"installed: torch 2\.12\.0, torchrec \(none\)"):
        stack.require_matched_stack()


@pytest.mark.parametrize(
    ("code", "status", "detail"),
    [
        ("print('noise'); print('1.2')", "ok", "1.2"),
        ("raise ImportError('x.so: undefined symbol: _ZN3c10')", "error", "undefined symbol"),
        ("import dropdrift_is_not_there", "error", "No module named"),
        (f"import os; os.kill(os.getpid(), {int(signal.SIGSEGV)})", "error", "crashed (SIGSEGV)"),
        ("import sys; sys.exit(3)", "error", "exit code 3"),
    ],
)
def test_an_import_that_fails_or_crashes_is_a_line(code: str, status: str, detail: str) -> None:
    check = check_import("torch", code, "reinstall it")
    assert check.status == status
    assert check.remedy == ("" if status == "ok" else "reinstall it")
    assert detail in check.detail
    assert "\n" not in check.detail


def test_an_import_that_hangs_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_check, "IMPORT_TIMEOUT", 0.2)
    check = check_import("torch", "import time; time.sleep(60)", "reinstall it")
    assert (check.status, check.detail) == ("error", "took longer than 0.2 seconds")


def test_a_module_in_the_current_folder_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyarrow.py").write_text("raise RuntimeError('the wrong one')")
    monkeypatch.chdir(tmp_path)
    assert check_import("pyarrow", "import pyarrow", "reinstall it").status == "ok"


def test_a_mixed_set_is_said_once_and_not_imported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "installed_versions", lambda _: {"torch": "2.12.0"})
    assert doctor.run([]) == 2
    lines = capsys.readouterr().out.splitlines()
    errors = [line for line in lines if line.startswith("error")]
    assert len(errors) == 1
    assert "matched set" in errors[0]
    assert not any(line.split()[1] == "torchrec" for line in lines)


def test_the_whole_table_as_json(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The only test that imports the whole stack; about ten seconds."""
    assert doctor.run(["--json", "--folder", str(tmp_path)]) == 0
    listed = json.loads(capsys.readouterr().out)
    checks = {check["name"]: check for check in listed}
    assert list(checks) == [
        "Python", "matched set", "triton", "torchx", "pyarrow", "torch", "fbgemm", "torchrec",
        "gloo", "C compiler", "GPU", "disk", "memory", "shared memory", "host name", "TCP port",
    ]  # fmt: skip
    assert checks["gloo"]["detail"] == "all-reduce works"
    assert str(tmp_path) in checks["disk"]["detail"]
    for check in listed:
        assert check.keys() == {"name", "status", "detail", "remedy"}
        assert (check["status"] == "ok") == (check["remedy"] == "")
