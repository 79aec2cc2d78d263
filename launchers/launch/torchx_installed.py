"""Whether TorchX is there. It is optional, so nothing else of Dropdrift imports it."""

from __future__ import annotations

import importlib.util
import logging
import sys

REQUIREMENT = "torchx[kubernetes]>=0.7,<0.8"


def require_torchx() -> None:
    """ValueError with the command that installs it, if TorchX is not there."""
    if importlib.util.find_spec("torchx") is None:
        raise ValueError(
            "dropdrift launch needs TorchX, which is not installed: run: "
            f"{sys.executable} -m pip install '{REQUIREMENT}'"
        )
    # It warns of what it cannot find, such as an event handler that nobody has configured.
    logging.getLogger("torchx").setLevel(logging.ERROR)
