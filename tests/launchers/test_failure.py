"""What a process leaves of its failure, and which of several is the first."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from dropdrift.launchers.failure import FILE, TELLER, Failure, Kind, find, leave, parent_tells


def failure(kind: Kind, time: float, message: str = "why") -> Failure:
    return Failure(kind, message, 2, rank=1, ranks=2, host="a", process=7, time=time)


def test_a_cause_comes_before_what_it_causes_whatever_the_clocks_say():
    kinds = [Kind.LOST, Kind.ENDED, Kind.HUNG, Kind.SILENT, Kind.BUG, Kind.KILLED, Kind.MISTAKE]
    failures = [failure(kind, time) for time, kind in enumerate(kinds)]
    found = sorted(failures, key=lambda failure: failure.order)
    assert [failure.kind for failure in found] == kinds[::-1]
    twice = [failure(Kind.BUG, 2.5), failure(Kind.BUG, 2.25)]
    assert min(twice, key=lambda failure: failure.order).time == 2.25


def test_what_is_left_is_found_and_torch_reads_it(tmp_path: Path, monkeypatch):
    path = tmp_path / "error.json"
    monkeypatch.setenv(FILE, str(path))
    assert leave(failure(Kind.MISTAKE, 5.5, "ü\x1b[31m"))
    assert list(tmp_path.iterdir()) == [path]
    left = find(path)
    assert left == failure(Kind.MISTAKE, 5.5, "ü\x1b[31m")
    assert left.line() == "rank 1 on host a failed first (process 7, exit code 2): ü\ufffd[31m"
    read = ProcessFailure(local_rank=0, pid=7, exitcode=2, error_file=str(path))
    assert read.timestamp == 5
    assert Failure.from_mapping(read.error_file_data) == left
    # torchrun's own choice is by whole seconds, and must not fall on a rank that lost another.
    assert leave(failure(Kind.LOST, 5.25))
    assert ProcessFailure(0, 7, 2, str(path)).timestamp == 6


@pytest.mark.parametrize("text", ["", "{", "[]", '{"message": "of another program"}'])
def test_of_other_programs_nothing_is_known(tmp_path: Path, text: str):
    path = tmp_path / "error.json"
    path.write_text(text)
    assert find(path) is None
    assert find(tmp_path / "absent") is None


def test_nothing_is_left_where_it_cannot_be(tmp_path: Path, monkeypatch):
    monkeypatch.setenv(FILE, str(tmp_path / "absent" / "error.json"))
    assert not leave(failure(Kind.BUG, 1.0))
    monkeypatch.setenv(FILE, "")
    assert not leave(failure(Kind.BUG, 1.0))


def test_only_the_process_that_started_this_one_tells_for_it(monkeypatch):
    monkeypatch.setenv(FILE, "error.json")
    monkeypatch.delenv(TELLER, raising=False)
    assert not parent_tells()
    monkeypatch.setenv(TELLER, str(os.getppid()))
    assert parent_tells()
    monkeypatch.setenv(TELLER, str(os.getpid()))  # it is gone, and others were started by others
    assert not parent_tells()


def test_the_record_is_plain_json():
    assert json.loads(json.dumps(failure(Kind.BUG, 1.5).as_mapping()))["dropdrift"]["kind"] == 2
