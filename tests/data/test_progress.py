import pyarrow as pa
import pytest

from dropdrift.data.preparing.progress import RowProgress


def batches() -> list[pa.RecordBatch]:
    return [pa.RecordBatch.from_pydict({"x": [0] * 1500})] * 2


def test_a_pass_shows_its_rows_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    with RowProgress(None) as progress:
        for description in ("first pass", "second pass"):
            assert list(progress.track(batches(), description)) == batches()
    captured = capsys.readouterr()
    assert captured.out == ""
    for description in ("first pass", "second pass"):
        (line,) = [line for line in captured.err.splitlines() if description in line]
        assert "100%" in line
        assert "3,000 rows" in line
        assert "rows/s" in line


def test_nothing_is_shown_where_nothing_is_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    with RowProgress(3000, shown=False) as progress:
        assert len(list(progress.track(batches(), "quiet"))) == 2
    assert capsys.readouterr() == ("", "")
