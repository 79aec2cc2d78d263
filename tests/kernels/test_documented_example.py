"""The Python of docs/kernels.md runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import torch

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "kernels.md"


def test_the_example_runs() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    torch.manual_seed(0)
    names: dict[str, object] = {}
    exec(compile(example, str(PAGE), "exec"), names)
    embedded, denoiser = names["embedded"], names["denoiser"]
    assert isinstance(embedded, torch.Tensor)
    assert embedded.grad is not None
    assert embedded.grad.any()
    assert isinstance(denoiser, torch.nn.Module)
    assert all(p.grad is not None and p.grad.any() for p in denoiser.parameters())
