"""The benchmark of the kernels: ceilings first, then case after case."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator

import torch

from dropdrift.benchmarks.kernels.ceilings import measure_ceilings
from dropdrift.benchmarks.kernels.clocks import read_clocks
from dropdrift.benchmarks.kernels.config import KernelOptions
from dropdrift.benchmarks.kernels.measure import Setting, measure
from dropdrift.benchmarks.kernels.plan import PlannedCase, plan_cases, planned_dtypes
from dropdrift.benchmarks.kernels.record import KernelRun
from dropdrift.benchmarks.kernels.timing import MEASUREMENTS
from dropdrift.benchmarks.machine import choose_device, device_name, load_average
from dropdrift.training.provenance import provenance


class KernelBenchmark:
    """What was asked for, planned, on a device whose ceilings are measured.

    Args:
        options: see there.

    Raises:
        ValueError: a GPU that is not there, or nothing to measure.
    """

    def __init__(self, options: KernelOptions) -> None:
        self._options = options
        self._load_before = load_average()
        self._device = choose_device(options.device)
        self._cases = plan_cases(options, self._device)
        self._provenance = provenance(options, options.seed)
        self._name = str(uuid.uuid4())
        dtypes = planned_dtypes(options, self._device)
        self.device = device_name(self._device)
        self.threads = torch.get_num_threads()
        self.ceilings = measure_ceilings(self._device, dtypes, options.seconds)

    @property
    def steps(self) -> int:
        """How often :meth:`parts` tells that it has advanced."""
        return sum(
            len(names) + MEASUREMENTS for case in self._cases for names in case.providers.values()
        )

    def parts(
        self, tell: Callable[[str], None], advance: Callable[[], None]
    ) -> Iterator[KernelRun]:
        """The run, one direction of one case after the other: nothing is lost if it is stopped.

        Args:
            tell: is told what is measured.
            advance: is called after each step.
        """
        # What providers without a seed of their own draw their masks from.
        torch.manual_seed(self._options.seed)
        seconds = self._options.seconds
        setting = Setting(self._device, self.device, self.ceilings, seconds, advance)
        for planned in self._cases:
            yield from self._case_parts(planned, setting, tell)

    def _case_parts(
        self, planned: PlannedCase, setting: Setting, tell: Callable[[str], None]
    ) -> Iterator[KernelRun]:
        tell(str(planned))
        case = planned.make(self._options, self._device)
        for direction, names in planned.providers.items():
            tell(f"{planned}, {direction}")
            measurements = tuple(measure(case, direction, names, setting))
            cpu = self._provenance["hardware"]["cpu"]
            clocks = read_clocks(self._device, cpu, self._load_before)
            yield KernelRun(self._name, measurements, self.ceilings, clocks, self._provenance)
        # Code for one size is of no use to others, of which torch compiles but a few.
        torch.compiler.reset()
