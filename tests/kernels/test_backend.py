from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from dropdrift.kernels import backend
from dropdrift.kernels.backend import AUTOMATIC, resolve_backend


class OnCuda:
    """What the choice looks at, of a tensor on a GPU."""

    device, is_cuda = "cuda:0", True

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype

    def is_floating_point(self) -> bool:
        return self.dtype.is_floating_point


@pytest.fixture
def compiling(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)


def test_a_cpu_runs_torch_unless_told_otherwise():
    tensor = torch.zeros(3)
    assert resolve_backend(AUTOMATIC, tensor) == "torch"
    for named in ("torch", "reference", "triton"):  # the tests interpret Triton's kernels
        assert resolve_backend(named, tensor) == named


@pytest.mark.usefixtures("compiling")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.int32])
def test_a_gpu_runs_triton(dtype):
    assert resolve_backend(AUTOMATIC, OnCuda(dtype)) == "triton"


@pytest.mark.usefixtures("compiling")
@pytest.mark.parametrize(
    "why", [{"triton_is_faster": False}, {"out_of_range": "17 is too much"}, "float64", "absent"]
)
def test_a_gpu_runs_torch_where_triton_cannot_or_is_slower(monkeypatch, why):
    if why == "absent":
        monkeypatch.setattr(backend, "find_spec", lambda _: None)
    dtype = torch.float64 if why == "float64" else torch.float32
    options = why if isinstance(why, dict) else {}
    assert resolve_backend(AUTOMATIC, OnCuda(dtype), **options) == "torch"


@pytest.mark.usefixtures("compiling")
def test_explicit_triton_is_taken_where_it_is_slower():
    assert resolve_backend("triton", OnCuda(torch.float16), triton_is_faster=False) == "triton"


@pytest.mark.parametrize(
    ("tensor", "options", "message"),
    [
        (torch.zeros(1, dtype=torch.float64), {}, "float64"),
        (torch.zeros(1), {"out_of_range": "width is 300"}, "width is 300"),
        (torch.zeros(1, dtype=torch.bfloat16), {}, "bfloat16 wrongly"),
        (OnCuda(torch.bfloat16), {}, "bfloat16 wrongly"),
    ],
)
def test_explicit_triton_is_refused_where_it_cannot_run(monkeypatch, tensor, options, message):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    with pytest.raises(ValueError, match=message):
        resolve_backend("triton", tensor, **options)


@pytest.mark.usefixtures("compiling")
def test_triton_on_a_cpu_is_refused_unless_interpreted():
    with pytest.raises(ValueError, match="are on cpu"):
        resolve_backend("triton", torch.zeros(1))


def test_an_unknown_backend_is_refused_with_those_that_there_are():
    with pytest.raises(ValueError, match=r"'cuda'.*'triton', 'torch', 'reference'"):
        resolve_backend("cuda", torch.zeros(1))


def test_kernels_import_without_triton_and_bring_no_other_package():
    """On a machine that has torch alone."""
    code = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('triton', 'torchrec', 'fbgemm_gpu', 'pyarrow'):\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "import torch\n"
        "from dropdrift.kernels import denoiser, feature_dropout\n"
        "words = feature_dropout.drop_words(\n"
        "    torch.zeros(5, 1, dtype=torch.int32), 9, seed=1, step=0, first_row=0\n"
        ")\n"
        "assert denoiser.Denoiser(9, 4, 8)(words, torch.ones(5, 4)).shape == (5, 4)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr[-2000:]
