"""Reading what NVIDIA's tools say, on lines that they wrote."""

from __future__ import annotations

import pytest

from dropdrift.kernels.ahead_of_time.reading import count_instructions, read_usage

USAGE = """
Resource usage:
 Common:
  GLOBAL:0
 Function scratch_kernel:
  REG:160 STACK:48 SHARED:1024 LOCAL:0 CONSTANT[0]:408 TEXTURE:0 SURFACE:0 SAMPLER:0
"""

SASS = """\t.section\t.text.linear,"ax",@progbits
.text.linear:
        /*0000*/                   LDC R1, c[0x0][0x28] ;
        /*0010*/               @P0 LDG.E.128 R20, desc[UR4][R2.64] ;
        /*0020*/              @!P1 LDG.E.U16 R9, desc[UR4][R2.64+0x80] ;
        /*0030*/                   LDG.E R9, desc[UR4][R2.64+0x80] ;
        /*0040*/                   LDGSTS.E.BYPASS.LTC128B.64 [R7], desc[UR4][R4.64], P0 ;
        /*0050*/              @UP0 UTMALDG.2D [UR8], [UR6], desc[UR10] ;
.L_x_1:
        /*0060*/                   STL.128 [R1+0x10], R20 ;
        /*0070*/                   LDL.LU R3, [R1+0x4] ;
        /*0080*/                   LDGDEPBAR ;
        /*0090*/                   HGMMA.64x64x16.F32.BF16 R24, gdesc[UR12], RZ, !UPT ;
        /*00a0*/                   HMMA.16816.F32.BF16 R8, R4, R10, R8 ;
        /*00b0*/                   HADD2.F32 R8, -RZ, R4.H0_H0 ;
        /*00c0*/               @P0 BRA `(.L_x_1) ;
        /*1b0c0*/                  STG.E.U8 desc[UR4][R2.64], R9 ;
        /*1b0d0*/                  EXIT ;
        /*1b0e0*/                  NOP;
"""


def test_registers_and_stack_of_a_thread_are_read() -> None:
    assert read_usage(USAGE) == (160, 48)


def test_a_file_of_two_kernels_is_refused() -> None:
    with pytest.raises(AssertionError, match="one kernel in a file, not 2"):
        read_usage(USAGE + USAGE)


def test_instructions_are_counted_by_what_they_do() -> None:
    counted = count_instructions(SASS)
    assert counted.total == 15  # without the padding
    assert (counted.wgmma, counted.mma, counted.spills) == (1, 1, 2)


def test_loads_and_stores_are_counted_by_the_bits_that_a_thread_moves() -> None:
    counted = count_instructions(SASS)
    assert counted.loads == {"128": 1, "16": 1, "32": 1, "64": 1, "tma": 1}
    assert counted.stores == {"8": 1}
