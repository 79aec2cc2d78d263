"""A rank that hangs, has ended or never comes is named on every rank that waits for it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import dropdrift
from dropdrift.training.distributed import process_group
from dropdrift.training.group.members import Member, this_process, why_silent

PROGRAM = Path(__file__).parent / "watch_program.py"
MISTAKE = 2

pytestmark = pytest.mark.timeout(300)


@dataclass(frozen=True)
class Group:
    """What the ranks of one group said, and how they ended."""

    said: dict[int, list[str]]
    codes: dict[int, int]

    def reason(self, rank: int) -> str:
        """The one line of a rank that ends by a mistake, without the rank."""
        assert self.codes[rank] == MISTAKE, self.said
        (line,) = self.said[rank]
        assert line.startswith(f"rank {rank}: ")
        return line.removeprefix(f"rank {rank}: ")


@pytest.fixture(scope="module")
def groups(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Group]:
    """All groups of the program, which run at once."""
    folder = tmp_path_factory.mktemp("watch")
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(dropdrift.__file__).parents[1]),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        # Of a name that the network does not know, on the way to the store.
        "TORCH_CPP_LOG_LEVEL": "ERROR",
    }
    subprocess.run([sys.executable, PROGRAM, folder], env=environment, check=True, timeout=280)
    found: dict[str, Group] = {}
    for name, rank, code in json.loads((folder / "ends.json").read_text(encoding="utf-8")):
        group = found.setdefault(name, Group({}, {}))
        group.codes[rank] = code
        group.said[rank] = (folder / f"{name}-{rank}.txt").read_text("utf-8").splitlines()
    return found


def test_ranks_that_do_not_hang_say_nothing(groups):
    assert groups["undisturbed"] == Group({0: [], 1: []}, {0: 0, 1: 0})


@pytest.mark.parametrize("name", ["stopped", "stopped-first", "torchruns-store"])
def test_a_stopped_rank_is_named_and_ends_when_it_goes_on(groups, name):
    """Also the one that holds the store by which the ranks know of each other."""
    group, hung = groups[name], int(name == "stopped")
    for rank in group.codes.keys() - {hung}:
        said = group.reason(rank)
        assert re.match(
            rf"rank {hung} \(host \S+, process \d+\) has not answered for \d+ s: ", said
        )
        assert "it is stopped (SIGSTOP)" in said
        if name != "stopped-first":
            assert re.search(r"; it was at step \d+, training, MainThread in train \(", said)
    assert re.match(
        r"this process stood still for \d+ s, as one that is stopped, and ", group.reason(hung)
    )


def test_a_rank_that_waits_for_its_loader_shows_its_stacks_and_ends(groups):
    group = groups["reads"]
    for rank in (0, 2):
        assert re.match(
            r"rank 1 \(host \S+, process \d+\) is at step 30, training, MainThread in "
            r"read_a_dead_file \(group/watch_program.py:\d+\), reader in reads_for_ever "
            r"\(group/watch_program.py:\d+\); rank [02] waits for it at step 30, training, ",
            group.reason(rank),
        )
    main, reader, end = group.said[1]
    assert re.match(r"dropdrift rank 1: MainThread: read_a_dead_file \(.*\) < train \(", main)
    assert re.match(r"dropdrift rank 1: reader: reads_for_ever \(", reader)
    assert end.startswith("dropdrift rank 1: the group has ended, and this rank, at step 30, ")
    assert group.codes[1] == 1  # no mistake of the user: a scheduler may start it again


def test_a_rank_whose_interpreter_stands_still(groups):
    said = groups["holds"].reason(0)
    assert re.match(r"rank 1 \(host \S+, process \d+\) has not answered for \d+ s: ", said)
    assert "some function holds the interpreter" in said


def test_ranks_that_wait_for_each_other(groups):
    for rank in (0, 1):
        assert re.match(
            r"all ranks wait, and not for the same: rank 0 at step 30, training, train \(.*\) and "
            r"rank 1 at step 30, training, wait_for_something_else \(",
            groups["waits"].reason(rank),
        )


@pytest.mark.parametrize(("name", "ended"), [("killed", 1), ("killed-first", 0)])
def test_a_killed_rank_is_named(groups, name, ended):
    assert groups[name].codes[ended] == -9
    assert re.match(
        rf"another rank has ended: rank {ended} \(host \S+, process \d+\)",
        groups[name].reason(1 - ended),
    )


@pytest.mark.parametrize(("name", "first"), [("mistaken", 1), ("mistaken-first", 0)])
def test_the_first_mistake_is_told_by_every_rank(groups, name, first):
    mistake = "part-00007.parquet holds no rows"
    for rank in groups[name].codes:
        said = groups[name].reason(rank)
        if rank == first:
            assert said == mistake
        else:
            assert re.fullmatch(
                rf"another rank has ended: rank {first} \(host \S+, process \d+\): {mistake}", said
            )


def test_a_rank_that_never_comes_is_named(groups):
    named = "rank 1 has not come within 20 s; of 3 ranks there are 0 on "
    assert groups["absent"].reason(0).startswith(named)
    # It may find that the first rank, which waits no longer than it does, has given up.
    assert (
        groups["absent"]
        .reason(2)
        .startswith(
            (named, "what held the group's store, rank 0, has ended while the ranks gathered: see ")
        )
    )


def test_the_first_rank_never_comes(groups):
    said = groups["absent-first"].reason(1)
    assert said.startswith("rank 0 has not come within 20 s: nothing answers at localhost:")


@pytest.mark.parametrize(
    ("variable", "value", "mistake"),
    [
        ("LOCAL_RANK", "first", "LOCAL_RANK is 'first', must be a number"),
        ("WORLD_SIZE", "", "WORLD_SIZE is not set, but RANK is"),
        ("WORLD_SIZE", "1", "RANK is 1, must be less than WORLD_SIZE, which is 1"),
        ("MASTER_PORT", "http", "MASTER_PORT is 'http', must be a number"),
        ("MASTER_ADDR", "", "MASTER_ADDR is not set, but RANK is"),
    ],
)
def test_variables_that_are_wrong(monkeypatch, variable, value, mistake):
    variables = {
        "RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "localhost",
        "MASTER_PORT": "29500", variable: value,
    }  # fmt: skip
    for name, text in variables.items():
        monkeypatch.setenv(name, text)
    with pytest.raises(ValueError, match=mistake), process_group(timeout=10):
        pass


def test_what_is_known_of_a_process():
    here = this_process(3)
    assert str(here) == f"rank 3 (host {here.host}, process {os.getpid()})"
    assert here.state(here.space) in ("R", "S")
    assert here.state("another machine") == ""
    assert Member(1, here.host, 2**22 + 1, here.space).state(here.space) == "X"
    assert "a disk or a network file does not answer" in why_silent("D")
    assert "network" in why_silent("")
