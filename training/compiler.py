"""Whether torch.compile can work on this machine."""

from __future__ import annotations

import os
import shutil

import torch


def require_compiler(device: torch.device) -> None:
    """Make sure that torch.compile finds the compiler it needs for code on ``device``.

    Raises:
        ValueError: there is none.
    """
    variable, names, language = "CXX", ["g++"], "C++"
    if device.type == "cuda":
        variable, names, language = "CC", ["gcc", "clang"], "C"
    tried = [os.environ[variable]] if os.environ.get(variable) else names
    if not any(shutil.which(name) for name in tried):
        raise ValueError(
            f"--compile needs a {language} compiler, and {' and '.join(tried)} cannot be found: "
            f"install one, name it in {variable}, or leave --compile out"
        )
