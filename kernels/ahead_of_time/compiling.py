"""One specimen compiled and read."""

from __future__ import annotations

import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dropdrift.kernels.ahead_of_time.reading import count_instructions, read_usage
from dropdrift.kernels.ahead_of_time.resources import GPUS, Resources
from dropdrift.kernels.specimen import Specimen

_WARP_SIZE = 32
_SASS = "kernel.sass"


def toolchain_problem() -> str | None:
    """Why kernels cannot be compiled and read here; None if they can."""
    if find_spec("triton") is None:
        return "triton is not installed, which compiles kernels (pip install triton)"
    from triton import knobs

    try:
        _ = knobs.nvidia.ptxas.path, knobs.nvidia.cuobjdump.path, knobs.nvidia.nvdisasm.path
    except RuntimeError as error:
        return f"triton came without NVIDIA's tools here ({error}), with which kernels are read"
    return None


def triton_minor() -> str:
    """The minor version of the triton that is installed, such as ``3.7``."""
    import triton

    return ".".join(triton.__version__.split(".")[:2])


def compile_specimen(specimen: Specimen) -> Resources:
    """Compile a specimen for its GPU, which need not be there, and read what it takes.

    Triton keeps what it has compiled, and this what it has read, in ``TRITON_CACHE_DIR``.

    Raises:
        ValueError: the specimen's arguments are not the kernel's.
        Exception: whatever Triton raises on a kernel that does not compile.
    """
    import triton
    from triton.backends.compiler import GPUTarget

    started = time.perf_counter()
    compiled = triton.compile(
        _source(specimen),
        target=GPUTarget("cuda", specimen.capability, _WARP_SIZE),
        options={"num_warps": specimen.warps, "num_stages": specimen.stages},
    )
    seconds = time.perf_counter() - started
    usage, sass = _read(compiled)
    registers, stack_bytes = read_usage(usage)
    counted = count_instructions(sass)
    return Resources(
        name=specimen.name,
        capability=specimen.capability,
        tile={name: value for name, value in specimen.constants.items() if type(value) is int},
        warps=compiled.metadata.num_warps,
        registers=registers,
        stack_bytes=stack_bytes,
        spills=counted.spills,
        shared_bytes=compiled.metadata.shared,
        wgmma=counted.wgmma,
        mma=counted.mma,
        instructions=counted.total,
        loads=counted.loads,
        stores=counted.stores,
        tensor_cores=GPUS[specimen.capability].tensor_cores if specimen.tensor_cores else "none",
        seconds=seconds,
    )


def _source(specimen: Specimen) -> Any:
    from triton.compiler import ASTSource
    from triton.runtime.jit import JITFunction

    kernel = specimen.kernel
    assert isinstance(kernel, JITFunction), "an interpreted kernel: was TRITON_INTERPRET set?"
    names = kernel.arg_names
    types = dict.fromkeys(specimen.constants, "constexpr") | dict(specimen.arguments)
    if set(types) != set(names) or not set(specimen.divisible) <= set(specimen.arguments):
        raise ValueError(
            f"specimen {specimen.name!r} has {', '.join(sorted(types))} (divisible: "
            f"{', '.join(specimen.divisible)}), but {kernel.__name__} takes {', '.join(names)}"
        )
    return ASTSource(
        kernel,
        signature={name: types[name] for name in names},
        constexprs=dict(specimen.constants),
        attrs={(names.index(name),): [["tt.divisibility", 16]] for name in specimen.divisible},
    )


def _read(compiled: Any) -> tuple[str, str]:
    """What cuobjdump and nvdisasm say of it; the latter, which takes longest, is kept."""
    from triton import knobs
    from triton.runtime.cache import get_cache_manager

    cache = get_cache_manager(compiled.hash)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        usage = _output(knobs.nvidia.cuobjdump.path, "--dump-resource-usage", file.name)
        kept = cache.get_file(_SASS)
        if kept is not None:
            return usage, Path(kept).read_text()
        sass = _output(knobs.nvidia.nvdisasm.path, "-c", file.name)
    cache.put(sass, _SASS, binary=False)
    return usage, sass


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
