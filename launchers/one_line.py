"""Text from files on a terminal."""

from __future__ import annotations


def one_line(text: str) -> str:
    """``text`` on one line, without the characters that would steer the terminal."""
    return "".join(sign if sign.isprintable() else "\ufffd" for sign in " ".join(text.split()))
