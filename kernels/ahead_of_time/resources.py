"""What a compiled kernel takes of a GPU, and what there is to take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

TensorCores = Literal["wgmma", "mma", "none"]


@dataclass(frozen=True)
class Gpu:
    """Limits of one compute capability (CUDA programming guide, "Compute Capabilities").

    Attributes:
        shared_bytes: shared memory of a multiprocessor.
        program_shared_bytes: the most of it that one program (a thread block) may have.
        tensor_cores: the instructions that keep its tensor cores busy.
    """

    shared_bytes: int
    program_shared_bytes: int
    tensor_cores: TensorCores


GPUS: Mapping[int, Gpu] = {
    80: Gpu(167_936, 166_912, "mma"),
    90: Gpu(233_472, 232_448, "wgmma"),
}

# The same on both.
THREAD_REGISTERS = 255
_REGISTERS = 65_536
_WARPS = 64
_PROGRAMS = 32
# Registers are given out in such pieces to a warp, and warps to the four quarters in turn.
_REGISTERS_PIECE = 256
_QUARTERS = 4
# Shared memory that the driver keeps of every program's.
_RESERVED_SHARED_BYTES = 1024


@dataclass(frozen=True)
class Resources:
    """One specimen, compiled.

    Attributes:
        name: the specimen's.
        capability: 80 or 90.
        tile: the constants that are whole numbers, by name.
        warps: of a program.
        registers: of a thread.
        stack_bytes: of a thread.
        spills: instructions that read or write the stack.
        shared_bytes: of a program.
        wgmma: warp-group matrix instructions.
        mma: matrix instructions of one warp.
        instructions: all but padding.
        loads: instructions that load from global memory, by what a thread loads with one: ``8`` to
            ``128`` bits, or ``tma`` for a tile by the copy engine.
        stores: instructions that store to it, likewise.
        tensor_cores: the matrix instructions that the specimen must have.
        seconds: what compiling took, about 0 where Triton's cache had it.
    """

    name: str
    capability: int
    tile: Mapping[str, int]
    warps: int
    registers: int
    stack_bytes: int
    spills: int
    shared_bytes: int
    wgmma: int
    mma: int
    instructions: int
    loads: Mapping[str, int]
    stores: Mapping[str, int]
    tensor_cores: TensorCores
    seconds: float

    @property
    def narrow_accesses(self) -> int:
        """Loads and stores of less than 32 bits, which move an eighth of what they could."""
        return sum(
            moved.get(bits, 0) for moved in (self.loads, self.stores) for bits in ("8", "16")
        )

    @property
    def occupancy(self) -> float:
        """Share of a multiprocessor's warps that run at once, modelled; 0: not one program fits."""
        gpu = GPUS[self.capability]
        return resident_programs(gpu, self.registers, self.shared_bytes, self.warps) * (
            self.warps / _WARPS
        )


@dataclass(frozen=True)
class Failure:
    """A specimen that did not compile, and why, in one line."""

    name: str
    reason: str


def resident_programs(gpu: Gpu, registers: int, shared_bytes: int, warps: int) -> int:
    """Programs that a multiprocessor runs at once, as CUDA's occupancy calculator counts them.

    Args:
        gpu: whose multiprocessor.
        registers: of a thread.
        shared_bytes: of a program.
        warps: of a program.
    """
    of_warp = -(-registers * 32 // _REGISTERS_PIECE) * _REGISTERS_PIECE
    warps_by_registers = _REGISTERS // of_warp // _QUARTERS * _QUARTERS
    shared = gpu.shared_bytes // (shared_bytes + _RESERVED_SHARED_BYTES)
    return min(warps_by_registers // warps, shared, _WARPS // warps, _PROGRAMS)
