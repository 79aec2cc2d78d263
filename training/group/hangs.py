"""Which rank it is when a rank waits for others in vain, and why."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence

from dropdrift.training.group.members import Member, why_silent
from dropdrift.training.group.rank_store import StoreGoneError, StoreSilentError
from dropdrift.training.group.stacks import raised_in
from dropdrift.training.group.watch import Beat, Verdict, Watch

# What gloo says of a process that is no longer there, and of one that does not answer.
_LOST = re.compile(r"(closed|reset) by peer|remote server shutdown|Broken pipe")
_TIMED_OUT = re.compile(r"Timed out waiting|Application timeout|Wait timeout")

_SETTLE = 5.0  # seconds in which a rank that lives has a beat, however busy its machine is
_LOOK = 0.25  # seconds between two looks
_LENGTH = 400  # characters of a reason that other ranks repeat
_MOST = 8  # ranks that are named
_STOPPED = ("T", "t")
_ENDED = "X"


class LostRankError(ValueError):
    """Another rank has ended."""


class HungRankError(ValueError):
    """Another rank does not answer, or does not come to where this one waits for it."""


def is_of_another(error: Exception) -> bool:
    """Whether ``error`` says that another rank has ended, or does not answer."""
    return isinstance(error, (StoreGoneError, StoreSilentError)) or (
        isinstance(error, RuntimeError)
        and bool(_LOST.search(str(error)) or _TIMED_OUT.search(str(error)))
    )


def reason(watch: Watch, error: Exception, holder: Member | None) -> Exception:
    """What this rank says of ``error``, which is ``error`` itself where it is its own.

    Args:
        watch: of this rank.
        error: what has ended this rank's part; a :class:`LostRankError` that the block itself
            raises is known to all ranks.
        holder: the rank that holds the store; None: torchrun does.
    """
    if isinstance(error, LostRankError):
        return error
    if not is_of_another(error):
        _tell_own(watch, error)
        return error
    timed_out = bool(_TIMED_OUT.search(str(error)))
    still = watch.stood_still
    try:
        if not timed_out:
            time.sleep(_LOOK)  # what ends does not lose all of its connections at once
        watch.give_up(raised_in(error))
        verdict = watch.hear() or _found(watch, timed_out)
    except (StoreSilentError, StoreGoneError) as missing:
        verdict = watch.verdict or _of_the_store(watch, holder, missing)
    return _in_words(verdict, watch.me.rank, still)


def _in_words(verdict: Verdict, rank: int, still: float) -> ValueError:
    text = f"another rank has ended: {verdict.text}" if verdict.ended else verdict.text
    if still:
        ended = "the other ranks have ended" if rank in verdict.ranks else f"now {text}"
        text = f"this process stood still for {still:.0f} s, as one that is stopped, and {ended}"
    return LostRankError(text) if verdict.ended else HungRankError(text)


def _tell_own(watch: Watch, error: Exception) -> None:
    """Let the others know what ends this rank."""
    text = " ".join(str(error).split())[:_LENGTH]
    if not isinstance(error, (ValueError, OSError)):
        text = f"{type(error).__name__}: {text}"
    try:
        watch.conclude(Verdict(True, [watch.me.rank], f"{watch.me}: {text}"))
    except (StoreSilentError, StoreGoneError):
        return  # nobody is there to be told


def _found(watch: Watch, timed_out: bool) -> Verdict:
    """Look at all ranks until one is to blame, or all live."""
    deadline = time.monotonic() + _SETTLE
    before = beats = watch.beats()
    while True:
        if verdict := watch.verdict or _of_processes(watch, beats):
            return watch.conclude(verdict)
        waiting = [
            member
            for member in watch.others
            if not _has_moved(before.get(member.rank), beats.get(member.rank))
        ]
        if time.monotonic() > deadline or (timed_out and not waiting):
            break
        time.sleep(_LOOK)
        beats = watch.beats()
    if waiting:
        return watch.conclude(_of_silent(watch, waiting, beats))
    if not timed_out:
        text = "a connection between the ranks has ended, though all live: look at the network"
        return watch.conclude(Verdict(True, [], text))
    return watch.conclude(_of_living(watch, beats))


def _has_moved(before: Beat | None, now: Beat | None) -> bool:
    return now is not None and (before is None or now.count > before.count)


def _of_processes(watch: Watch, beats: dict[int, Beat]) -> Verdict | None:
    """What this machine's own processes show at once."""
    states = {member: member.state(watch.me.space) for member in watch.others}
    ended = [member for member, state in states.items() if state == _ENDED]
    if ended:
        texts = [f"{member}{_last(beats.get(member.rank))}" for member in ended]
        text = f"{_in_a_sentence(texts)}: see what it says, or what has killed it"
        return Verdict(True, [member.rank for member in ended], text)
    stopped = [member for member, state in states.items() if state in _STOPPED]
    return _of_silent(watch, stopped, beats) if stopped else None


def _of_silent(watch: Watch, members: list[Member], beats: dict[int, Beat]) -> Verdict:
    texts = []
    for member in members:
        beat = beats.get(member.rank)
        since = f" for {max(0.0, time.time() - beat.time):.0f} s" if beat else ""
        why = why_silent(member.state(watch.me.space))
        texts.append(f"{member} has not answered{since}: {why}{_last(beat)}")
    return Verdict(False, [member.rank for member in members], "; ".join(texts))


def _of_living(watch: Watch, beats: dict[int, Beat]) -> Verdict:
    """All live: those that are not where the others wait are to blame."""
    elsewhere = [member for member in watch.others if not beats[member.rank].waits]
    if not elsewhere:
        texts = [f"rank {member.rank} {beats[member.rank]}" for member in watch.members]
        return Verdict(False, [], f"all ranks wait, and not for the same: {_in_a_sentence(texts)}")
    steps = {member.rank: beats[member.rank].step or 0 for member in elsewhere}
    behind = [member for member in elsewhere if steps[member.rank] == min(steps.values())]
    watch.ask_for_stacks([member.rank for member in behind])
    texts = [f"{member} is {beats[member.rank]}" for member in behind]
    text = (
        f"{_in_a_sentence(texts)}; rank {watch.me.rank} waits for it {beats[watch.me.rank]}. "
        "If it is only slow, raise loop.timeout"
    )
    return Verdict(False, [member.rank for member in behind], text)


def _of_the_store(watch: Watch, holder: Member | None, missing: Exception) -> Verdict:
    """The store is out of reach, and with it what the other ranks do."""
    name = str(holder) if holder else "torchrun, which holds the group's store,"
    ranks = [holder.rank] if holder else []
    state = holder.state(watch.me.space) if holder else ""
    if isinstance(missing, StoreGoneError) or state == _ENDED:
        return Verdict(True, ranks, f"{name}: see what it says, or what has killed it")
    return Verdict(
        False, ranks, f"{name} has not answered for {watch.silence:.0f} s: {why_silent(state)}"
    )


def _last(beat: Beat | None) -> str:
    return f"; it was {beat}" if beat else ""


def _in_a_sentence(texts: Sequence[str]) -> str:
    shown = list(texts[:_MOST])
    if len(texts) > _MOST:
        shown.append(f"{len(texts) - _MOST} more")
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)
