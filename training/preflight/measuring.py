"""What the ranks can do, timed: exchanges of all, links between two, work of each alone."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import torch
import torch.distributed as dist

from dropdrift.sharding.calibration.timing import time_together

Collective = Literal["all-reduce", "all-to-all"]

COLLECTIVES: tuple[Collective, ...] = get_args(Collective)
NUMBER_BYTES = 4  # of the fp32 numbers that are sent
WARM_UP = 2  # repetitions that are thrown away: they connect and allocate

# Edge of the square matrices that a rank multiplies, and bytes that it copies: some ten
# milliseconds each.
_MULTIPLY = {"cpu": 1024, "cuda": 8192}
_COPY = {"cpu": 1 << 26, "cuda": 1 << 29}


@dataclass(frozen=True)
class Exchange:
    """A collective of all ranks, with the bandwidths of NVIDIA's NCCL tests.

    Attributes:
        collective: which one.
        size: bytes of the tensor that each rank puts in; S below.
        ranks: n below.
        seconds: median over the repetitions, each of the slowest rank; t below.
    """

    collective: Collective
    size: int
    ranks: int
    seconds: float

    @property
    def algorithm_bandwidth(self) -> float:
        """Bytes a second, S / t: what a user of the collective sees."""
        return self.size / self.seconds

    @property
    def bus_bandwidth(self) -> float:
        """Bytes a second that a link carries, whatever n: what hardware can be compared with.

        S / t times 2 (n - 1) / n for all-reduce, and times (n - 1) / n for all-to-all.
        """
        passes = 2 if self.collective == "all-reduce" else 1
        return self.algorithm_bandwidth * passes * (self.ranks - 1) / self.ranks


@dataclass(frozen=True)
class Link:
    """Messages from one rank to another, one after the other, while other pairs send theirs.

    Attributes:
        source: rank that sends.
        target: rank that receives, and measures.
        size: bytes of a message.
        seconds: mean of the repetitions. They do not wait for each other as those of a collective
            do, each of which may begin at the moment a slow rank has its turn.
    """

    source: int
    target: int
    size: int
    seconds: float

    @property
    def bandwidth(self) -> float:
        """Bytes a second."""
        return self.size / self.seconds


@dataclass(frozen=True)
class Work:
    """What a rank does without the others.

    Attributes:
        rank: which one.
        multiply_seconds: median of the multiplication of two square fp32 matrices.
        multiply_flops: floating-point operations of one.
        copy_seconds: median of a copy from memory to memory.
        copy_bytes: of one, read and written.
    """

    rank: int
    multiply_seconds: float
    multiply_flops: float
    copy_seconds: float
    copy_bytes: int

    @property
    def flops(self) -> float:
        """Floating-point operations a second."""
        return self.multiply_flops / self.multiply_seconds

    @property
    def copy_bandwidth(self) -> float:
        """Bytes a second, read and written."""
        return self.copy_bytes / self.copy_seconds


def measure_exchanges(
    group: dist.ProcessGroup, device: torch.device, sizes: Sequence[int], repeats: int
) -> list[Exchange]:
    """Time the collectives; every rank of ``group`` must call, of which there are at least two.

    Args:
        group: the ranks.
        device: of the tensors.
        sizes: bytes that each rank puts in, rounded down to a whole number of fp32 numbers for
            each rank, at least one.
        repeats: timed repetitions.
    """
    ranks = dist.get_world_size(group)
    unit = NUMBER_BYTES * ranks
    whole = sorted({max(size // unit, 1) * unit for size in sizes})
    exchanges = []
    for collective in COLLECTIVES:
        for size in whole:
            action = _exchange(collective, size, group, device)
            times = [time_together(action, device, group)[0] for _ in range(WARM_UP + repeats)]
            median = statistics.median(times[WARM_UP:]) / 1e3
            exchanges.append(Exchange(collective, size, ranks, median))
    return exchanges


def measure_links(
    group: dist.ProcessGroup, device: torch.device, size: int, repeats: int
) -> list[Link]:
    """Time the links of :func:`rounds_of_links` that bring messages to this rank.

    Every rank of ``group`` must call.

    Args:
        group: all ranks.
        device: of the tensors.
        size: bytes of a message, at least four.
        repeats: timed repetitions.
    """
    rank = dist.get_rank(group)
    message = torch.ones(size // NUMBER_BYTES, device=device)
    links = []
    for together in rounds_of_links(dist.get_world_size(group)):
        source = {target: source for source, target in together}.get(rank)
        target = dict(together).get(rank)
        seconds = 0.0
        for messages in (WARM_UP, repeats):
            dist.all_reduce(torch.zeros(1), group=group)  # begin together
            if target is not None:
                _pass(dist.isend, message, target, group, messages)
            elif source is not None:
                receive = partial(_pass, dist.irecv, message, source, group, messages)
                seconds = _seconds(receive, device) / messages
        if source is not None:
            links.append(Link(source, rank, message.numel() * NUMBER_BYTES, seconds))
    return links


def measure_work(rank: int, device: torch.device, repeats: int) -> Work:
    """Time what this rank does without the others, in about a second."""
    edge, copied = _MULTIPLY[device.type], _COPY[device.type]
    matrix = torch.ones(edge, edge, device=device)
    product = torch.empty_like(matrix)
    source = torch.zeros(copied, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)

    def median(action: Callable[[], object]) -> float:
        """Of the repetitions after the first ones."""
        times = [_seconds(action, device) for _ in range(WARM_UP + repeats)]
        return statistics.median(times[WARM_UP:])

    return Work(
        rank,
        multiply_seconds=median(lambda: torch.mm(matrix, matrix, out=product)),
        multiply_flops=2.0 * edge**3,
        copy_seconds=median(lambda: target.copy_(source)),
        copy_bytes=2 * copied,
    )


def rounds_of_links(ranks: int) -> list[list[tuple[int, int]]]:
    """Links from each rank r to r + k and to it from r - k, for k = 1, 2, 4, ... below ``ranks``.

    Links of one round are measured at once. No rank is in two of them: the time of a link is then
    that of its two ends alone, and no third rank's. The powers of two bound the links of a rank,
    and reach its own host as well as others where each host has several ranks.

    Returns:
        Rounds of (source, target).
    """
    rounds: list[tuple[set[int], list[tuple[int, int]]]] = []
    shift = 1
    while shift < ranks:
        for source in range(ranks):
            link = (source, (source + shift) % ranks)
            for busy, together in rounds:
                if busy.isdisjoint(link):
                    busy.update(link)
                    together.append(link)
                    break
            else:
                rounds.append((set(link), [link]))
        shift *= 2
    return [together for _, together in rounds]


def _exchange(
    collective: Collective, size: int, group: dist.ProcessGroup, device: torch.device
) -> Callable[[], object]:
    # Zeros: sums of them stay what they are, however often.
    given = torch.zeros(size // NUMBER_BYTES, device=device)
    if collective == "all-reduce":
        return partial(dist.all_reduce, given, group=group)
    return partial(dist.all_to_all_single, torch.empty_like(given), given, group=group)


def _pass(
    operation: Callable[..., object],
    message: torch.Tensor,
    peer: int,
    group: dist.ProcessGroup,
    messages: int,
) -> None:
    """Send to ``peer``, or receive from it, one message after the other."""
    for _ in range(messages):
        for request in dist.batch_isend_irecv([dist.P2POp(operation, message, peer, group)]):
            request.wait()


def _seconds(action: Callable[[], object], device: torch.device) -> float:
    """Of this rank, whatever the others do."""
    return time_together(action, device, None)[0] / 1e3
