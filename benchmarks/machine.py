"""The machine that a benchmark runs on: where, and how busy it is."""

from __future__ import annotations

import os

import torch


def choose_device(chosen: str) -> torch.device:
    """``cpu``, ``cuda``, or for ``auto`` a GPU if there is one.

    Raises:
        ValueError: a GPU that is not there.
    """
    there = torch.cuda.is_available()
    if chosen == "cuda" and not there:
        raise ValueError("device is cuda, but torch finds no GPU: use --device cpu")
    return torch.device("cuda" if there and chosen != "cpu" else "cpu")


def device_name(device: torch.device) -> str:
    """The GPU's name, or cpu."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def load_average() -> float:
    """Processes that ran or waited to, over the last minute."""
    return round(os.getloadavg()[0], 2)
