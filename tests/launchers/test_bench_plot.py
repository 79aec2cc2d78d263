"""``dropdrift bench plot``: files in, one page out."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks.kernels.made_runs import made_measurement, made_run, made_timing

from dropdrift.benchmarks.kernels.record import append_records


def write(path: Path, provider: str) -> Path:
    append_records(path, made_run([made_measurement(made_timing(1.0), provider=provider)]))
    return path


def test_files_become_one_page(tmp_path: Path, succeed) -> None:
    files = [write(tmp_path / f"{name}.jsonl", name) for name in ("eager", "compile")]
    out = tmp_path / "new" / "page.html"
    ended = succeed("bench", "plot", *files, "--out", out)
    assert ended.output == f"Written to {out}\n"
    page = out.read_text()
    assert "<td>eager</td>" in page
    assert "<td>compile</td>" in page


def test_mistakes_are_one_line(tmp_path: Path, mistake) -> None:
    out = ("--out", tmp_path / "page.html")
    assert "bench plot needs a file" in mistake("bench", "plot", *out)
    assert "none.jsonl" in mistake("bench", "plot", tmp_path / "none.jsonl", *out)
    empty = tmp_path / "empty.jsonl"
    empty.touch()
    assert f"{empty} has no measurements" in mistake("bench", "plot", empty, *out)
    good = write(tmp_path / "good.jsonl", "eager")
    assert "is a folder" in mistake("bench", "plot", good, "--out", tmp_path)
    assert "--ot" in mistake("bench", "plot", good, "--ot", tmp_path / "page.html")
