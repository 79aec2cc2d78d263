"""Mask words on a CPU, quickly: ``mask_words.c``, compiled when a process first needs it.

Milliseconds on 2 cores with AVX-512, the best of 30 calls (of later versions:
``dropdrift bench kernels --op mask-words --device cpu``):

| rows x fields | C | eager reference | torch.rand and compare |
|---|---|---|---|
| 32,768 x 200 | 1.5 (one thread: 2.8) | 45 | 23 |
| 2,048 x 45 | 0.06 | 1.9 | 0.30 |
| 100 x 33 | 0.01 | 1.1 | 0.014 |

The compiler takes 0.2 s, so that it pays after 5 batches of the first size and 100 of the second.
``torch.compile`` of the same arithmetic was no quicker (1.9 ms at the first size) and took 5 s with
a warm cache, 21 s with an empty one.

The code is compiled for this very processor, in a temporary folder that does not outlive the
loading: there is no cache that could be stale, shared with another machine or written by another
user. Without a working C compiler the eager reference makes the same words, so nothing is said.
"""

from __future__ import annotations

import ctypes
import os
import shlex
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dropdrift.kernels.feature_dropout import forward_process
from dropdrift.kernels.philox import MASK32, signed_seed

_SOURCE = Path(__file__).with_name("mask_words.c")
_COMPILERS = ("cc", "gcc", "clang")
# Not every compiler knows the processor by this name.
_TUNING: tuple[list[str], ...] = (["-march=native"], [])
_COMPILE_SECONDS = 60

# A call of the reference takes 1 ms, however few the rows: below this, a handful, a program is not
# made to start a compiler. From here on it has paid after 200 calls.
WORTH_COMPILING = 128  # words
# 0.4 ms of work; starting and joining a thread takes 0.05 ms.
WORDS_OF_THREAD = 32 * 1024


def make_words(
    missing: Tensor,
    fields: int,
    seed: int,
    step: int,
    first_row: int,
    max_rate: float,
    rate: float | None,
) -> Tensor:
    """The words of ``forward_process.make_words``, whose arguments these are, for CPU tensors."""
    library = compiled_library() if missing.numel() >= WORTH_COMPILING else None
    if library is None:
        return forward_process.make_words(missing, fields, seed, step, first_row, max_rate, rate)
    missing = missing.contiguous()
    words = torch.empty_like(missing)
    rows, words_of_row = missing.shape

    def make_rows(first: int, last: int) -> None:
        """One thread's part; the interpreter's lock is released meanwhile."""
        library.drop_words(
            missing.data_ptr(),
            words.data_ptr(),
            first,
            last,
            words_of_row,
            fields,
            signed_seed(seed),
            step,
            first_row & MASK32,
            forward_process.rate_levels(max_rate, rate),
            rate is not None,
        )

    parts = min(torch.get_num_threads(), max(missing.numel() // WORDS_OF_THREAD, 1))
    bounds = [rows * part // parts for part in range(parts + 1)]
    if parts == 1:
        make_rows(0, rows)
    else:
        with ThreadPoolExecutor(parts) as threads:
            list(threads.map(make_rows, bounds, bounds[1:]))
    return words


@cache
def compiled_library() -> ctypes.CDLL | None:
    """The compiled code; None where it cannot be compiled or loaded.

    Once a process, or once for each thread that asks before the first has it: a lock would be held
    for ever in what is forked meanwhile.
    """
    compiler = _compiler()
    if compiler is None:
        return None
    for tuning in _TUNING:
        try:
            return _compiled([*compiler, "-O3", *tuning, "-std=c99", "-shared", "-fPIC"])
        except (OSError, subprocess.SubprocessError):
            continue
    return None


def _compiled(command: list[str]) -> ctypes.CDLL:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        path = str(Path(folder) / "mask_words.so")
        command = [*command, str(_SOURCE), "-o", path]
        subprocess.run(command, check=True, capture_output=True, timeout=_COMPILE_SECONDS)
        return _declared(ctypes.CDLL(path))


def _compiler() -> list[str] | None:
    if os.environ.get("CC"):
        try:
            return shlex.split(os.environ["CC"])
        except ValueError:  # a quote is left open
            return None
    return next(([name] for name in _COMPILERS if shutil.which(name)), None)


def _declared(library: ctypes.CDLL) -> ctypes.CDLL:
    pointer, number, word = ctypes.c_void_p, ctypes.c_int64, ctypes.c_uint32
    # missing, words, first, last, words_of_row, fields, seed
    types: list[Any] = [pointer, pointer, number, number, number, number, ctypes.c_uint64]
    # step, first_row, levels, fixed_rate
    library.drop_words.argtypes = [*types, word, word, word, ctypes.c_int]
    library.drop_words.restype = None
    return library
