"""Reading a compiled kernel: registers and stack from its headers, instructions from its code."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

# `  REG:160 STACK:0 SHARED:0 LOCAL:0 ...`, the line of the kernel in cuobjdump's answer.
_USAGE = re.compile(r"REG:(\d+) STACK:(\d+)")
# `        /*01b0*/   @!P0 LDG.E.128 R4, [R2.64] ;`: an address, maybe a predicate, the instruction.
_INSTRUCTION = re.compile(r"^\s*/\*[0-9a-f]+\*/\s+\{?\s*(?:@!?U?P\w+\s+)?([A-Z][\w.]*)", re.M)

_MMA = {"HMMA", "IMMA", "DMMA", "BMMA"}
_WGMMA = {"HGMMA", "IGMMA", "QGMMA", "BGMMA"}
_STACK = {"LDL", "STL"}
_LOADS = {"LDG", "LDGSTS"}
_TILE_LOADS = {"UTMALDG", "UBLKCP"}
_WIDTHS = {"U8": "8", "S8": "8", "U16": "16", "S16": "16", "64": "64", "128": "128"}


@dataclass(frozen=True)
class Instructions:
    """Instructions counted, as in :class:`~dropdrift.kernels.ahead_of_time.resources.Resources`."""

    total: int
    wgmma: int
    mma: int
    spills: int
    loads: dict[str, int]


def read_usage(usage: str) -> tuple[int, int]:
    """Registers and bytes of stack of a thread, from ``cuobjdump --dump-resource-usage``."""
    found = _USAGE.findall(usage)
    assert len(found) == 1, f"one kernel in a file, not {len(found)}: {usage}"
    registers, stack = found[0]
    return int(registers), int(stack)


def count_instructions(sass: str) -> Instructions:
    """Count what ``nvdisasm -c`` wrote."""
    counts: Counter[str] = Counter()
    loads: Counter[str] = Counter()
    for instruction in _INSTRUCTION.findall(sass):
        operation, *modifiers = instruction.split(".")
        counts[operation] += 1
        if operation in _LOADS:
            # Those of 32 bits do not say so.
            loads[next((_WIDTHS[word] for word in modifiers if word in _WIDTHS), "32")] += 1
        elif operation in _TILE_LOADS:
            loads["tma"] += 1
    assert counts, "code has instructions"
    return Instructions(
        total=counts.total() - counts["NOP"],
        wgmma=sum(counts[name] for name in _WGMMA),
        mma=sum(counts[name] for name in _MMA),
        spills=sum(counts[name] for name in _STACK),
        loads=dict(loads),
    )
