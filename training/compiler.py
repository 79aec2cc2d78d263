"""Whether torch.compile can work on this machine."""

from __future__ import annotations

import os
import shutil

import torch


def missing_compiler(device: torch.device) -> str:
    """What torch.compile needs for code on ``device`` and does not find; empty if it finds all.

    The text goes on after the name of what needs it.
    """
    variable, names, language = "CXX", ["g++"], "C++"
    if device.type == "cuda":
        variable, names, language = "CC", ["gcc", "clang"], "C"
    tried = [os.environ[variable]] if os.environ.get(variable) else names
    if any(shutil.which(name) for name in tried):
        return ""
    return (
        f"needs a {language} compiler, and {' and '.join(tried)} cannot be found: "
        f"install one or name it in {variable}"
    )


def require_compiler(device: torch.device) -> None:
    """Make sure that torch.compile finds the compiler it needs for code on ``device``.

    Raises:
        ValueError: there is none.
    """
    missing = missing_compiler(device)
    if missing:
        raise ValueError(f"--compile {missing}, or leave --compile out")
