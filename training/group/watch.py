"""Every rank says once a second that it lives and what it does, for the others to read in need."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import NoReturn

from dropdrift.training.group.members import Member
from dropdrift.training.group.rank_store import RankStore, StoreGoneError, StoreSilentError
from dropdrift.training.group.stacks import places, stacks, waits_for_others

BEAT = 1.0  # seconds between two beats
STILL = 3.0  # seconds by which a beat is late where a process has stood still
RECENT = 60.0  # seconds for which that is worth a word
GRACE = 10.0  # seconds that a rank has to end after another has
FAILED = 1  # the exit code where another rank is to blame


@dataclass
class Activity:
    """What this rank last said it is doing."""

    step: int | None = None
    doing: str = ""

    def at(self, *, step: int | None = None, doing: str | None = None) -> None:
        """Say it anew: steps done, and what comes now. Costs two assignments."""
        self.step = self.step if step is None else step
        self.doing = self.doing if doing is None else doing


@dataclass(frozen=True)
class Beat:
    """What a rank told the others last.

    Attributes:
        count: beats before this one.
        time: seconds since 1970, by its own clock.
        step: steps done; None: it has not said.
        doing: what it said it is doing.
        places: where its threads were.
        waits: whether it was in a collective, or has given one up.
    """

    count: int
    time: float
    step: int | None
    doing: str
    places: list[str]
    waits: bool

    def __str__(self) -> str:
        step = "" if self.step is None else f"at step {self.step}"
        return ", ".join(filter(None, [step, self.doing, *self.places]))


@dataclass(frozen=True)
class Verdict:
    """Why the group ends, the same on every rank: the first reason that any of them found.

    Attributes:
        ended: whether the ranks to blame have ended, or else hang.
        ranks: those ranks.
        text: the reason.
    """

    ended: bool
    ranks: list[int]
    text: str


@dataclass
class _State:
    """What the watch's own thread and those that ask it leave for each other."""

    verdict: Verdict | None = None
    answered: float = field(default_factory=time.monotonic)
    waits_since: float | None = None
    stood_still: float = 0.0
    stood_still_until: float = -RECENT
    gave_up_in: str = ""


class Watch:
    """The beats of all ranks, and a thread for those of this one.

    Args:
        members: the processes of the group, by rank.
        rank: which of them this is.
        store: where the beats are; a connection of the watch's own.
        activity: what this rank says it is doing.
    """

    def __init__(
        self, members: Sequence[Member], rank: int, store: RankStore, activity: Activity
    ) -> None:
        self.members, self.me = members, members[rank]
        self._store, self._activity = store, activity
        self._count = 0
        self._state = _State()
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    @property
    def verdict(self) -> Verdict | None:
        """Why the group ends, as far as this rank has heard."""
        return self._state.verdict

    @property
    def others(self) -> list[Member]:
        """All members but this one."""
        return [member for member in self.members if member is not self.me]

    @property
    def silence(self) -> float:
        """Seconds since the store last answered."""
        return time.monotonic() - self._state.answered

    @property
    def stood_still(self) -> float:
        """Seconds for which this process did nothing at all, as one that is stopped; or 0."""
        now, since = time.monotonic(), self._state.waits_since
        if since is not None and now - since > BEAT + STILL:
            return now - since
        return self._state.stood_still if now - self._state.stood_still_until < RECENT else 0.0

    def hear(self) -> Verdict | None:
        """Why the group ends, if some rank has said it; raises as :meth:`beats`."""
        if self.verdict is None and (text := self._store.get("verdict")):
            self._state.verdict = Verdict(**json.loads(text))
            self._store.put(f"done/{self.me.rank}", "")
        return self.verdict

    def beats(self) -> dict[int, Beat]:
        """The last beat of every rank that has had one.

        Raises:
            StoreGoneError: the process that held the store has ended.
            StoreSilentError: it does not answer.
        """
        texts = {member.rank: self._store.get(f"beat/{member.rank}") for member in self.members}
        return {rank: Beat(**json.loads(text)) for rank, text in texts.items() if text}

    def give_up(self, place: str) -> None:
        """Say that this rank has waited for others in vain, in the function ``place``."""
        self._state.gave_up_in = place
        self._put_beat()

    def ask_for_stacks(self, ranks: Sequence[int]) -> None:
        """Have ranks write where their threads are; returns when they have, or after a while."""
        for rank in ranks:
            self._store.put(f"ask/{rank}", "")
        told = [f"told/{rank}" for rank in ranks]
        deadline = time.monotonic() + BEAT + STILL
        while time.monotonic() < deadline and not self._store.has(told):
            time.sleep(BEAT / 10)

    def conclude(self, verdict: Verdict) -> Verdict:
        """The group's verdict: this one, unless another rank was first."""
        text = self._store.put_first("verdict", json.dumps(asdict(verdict)))
        self._state.verdict = Verdict(**json.loads(text))
        self._store.put(f"done/{self.me.rank}", "")
        return self._state.verdict

    def wait_until_heard(self, seconds: float) -> None:
        """Wait until every rank that can has heard the verdict, or so long."""
        deaf = self.verdict.ranks if self.verdict and self.verdict.ended else []
        names = [f"done/{member.rank}" for member in self.members if member.rank not in deaf]
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self._store.has(names):
            time.sleep(BEAT / 10)

    def leave(self) -> None:
        """End the watch: this rank is about to leave the group."""
        self._left.set()
        with suppress(StoreSilentError, StoreGoneError):
            self._store.put(f"done/{self.me.rank}", "")
        self._store.close()
        # A thread that comes back from C++ while the interpreter ends would abort the process.
        self._thread.join(BEAT)

    def _run(self) -> None:
        heard = 0.0
        while not self._waited():
            try:
                self._beat()
                self._state.answered = time.monotonic()
            except StoreSilentError:
                pass
            except StoreGoneError:
                if self.verdict is None and not self.stood_still:
                    return  # the others have left, as they do in the end
                gone = Verdict(True, [], "the group's store, and the process that held it")
                self._state.verdict = self.verdict or gone
            if self.verdict is not None:
                heard = heard or time.monotonic()
                if time.monotonic() - heard > GRACE:
                    self._end(self.verdict)

    def _waited(self) -> bool:
        """Wait for the next beat; whether there is none."""
        self._state.waits_since = since = time.monotonic()
        left = self._left.wait(BEAT if self._count else 0.0)
        now = time.monotonic()
        if now - since > BEAT + STILL:
            self._state.stood_still, self._state.stood_still_until = now - since, now
        self._state.waits_since = None
        return left

    def _beat(self) -> None:
        asked, told = f"ask/{self.me.rank}", f"told/{self.me.rank}"
        there = self._put_beat("verdict", asked)
        if "verdict" in there:
            self.hear()
        if asked in there and not self._store.has([told]):
            for stack in stacks():
                self._say(stack)
            self._store.put(told, "")

    def _put_beat(self, *looked_for: str) -> list[str]:
        self._count += 1
        beat = json.dumps(asdict(self._this_beat()))
        return self._store.put_and_look(f"beat/{self.me.rank}", beat, looked_for)

    def _this_beat(self) -> Beat:
        activity, place = self._activity, self._state.gave_up_in
        where = [place] if place else places()
        waits = bool(place) or waits_for_others()
        return Beat(self._count, time.time(), activity.step, activity.doing, where, waits)

    def _end(self, verdict: Verdict) -> NoReturn:
        self._say(
            f"the group has ended, and this rank, {self._this_beat()}, has not noticed for "
            f"{GRACE:.0f} s: it ends too. The reason: {verdict.text}"
        )
        os._exit(FAILED)

    def _say(self, line: str) -> None:
        sys.stderr.write(f"dropdrift rank {self.me.rank}: {line}\n")
        sys.stderr.flush()
