"""Reading JSON: what it holds, and a line that names the file where it cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from dropdrift.data.json_file import read_json


def test_what_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"a": [1, null, "\u00e9"]}', encoding="utf-8")
    assert read_json(path) == {"a": [1, None, "\u00e9"]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        (b"\xff", "cannot be read: it is no text in UTF-8"),
        (b"", "is not valid JSON: Expecting value: line 1 column 1"),
        (b"{", "is not valid JSON: Expecting property name"),
        (b"[" * 100_000, "is not valid JSON: maximum recursion depth"),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # its whole start is checked
        read_json(path)
    assert str(caught.value).startswith(f"{path} {message}")
    assert "\n" not in str(caught.value)


def test_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot be read: Is a directory$") as caught:
        read_json(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path} ")
