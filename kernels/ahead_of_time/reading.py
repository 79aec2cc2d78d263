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
_LOADS, _TILE_LOADS = {"LDG", "LDGSTS"}, {"UTMALDG"}
_STORES, _TILE_STORES = {"STG"}, {"UTMASTG"}
_WIDTHS = {"U8": "8", "S8": "8", "U16": "16", "S16": "16", "64": "64", "128": "128"}


@dataclass(frozen=True)
class Instructions:
    """Instructions counted, as in :class:`~dropdrift.kernels.ahead_of_time.resources.Resources`."""

    total: int
    wgmma: int
    mma: int
    spills: int
    loads: dict[str, int]
    stores: dict[str, int]


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
    stores: Counter[str] = Counter()
    for instruction in _INSTRUCTION.findall(sass):
        operation, *modifiers = instruction.split(".")
        counts[operation] += 1
        # Those of 32 bits do not say so.
        bits = next((_WIDTHS[word] for word in modifiers if word in _WIDTHS), "32")
        loads[bits] += operation in _LOADS
        stores[bits] += operation in _STORES
        loads["tma"] += operation in _TILE_LOADS
        stores["tma"] += operation in _TILE_STORES
    assert counts, "code has instructions"
    return Instructions(
        total=counts.total() - counts["NOP"],
        wgmma=sum(counts[name] for name in _WGMMA),
        mma=sum(counts[name] for name in _MMA),
        spills=sum(counts[name] for name in _STACK),
        loads=dict(+loads),
        stores=dict(+stores),
    )
