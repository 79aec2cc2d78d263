"""``dropdrift plan calibrate``: what this machine does, measured, and hardware fitted to it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from datetime import date
from typing import TYPE_CHECKING, Any

from dropdrift.launchers.plan.output import check_outputs, write_json
from dropdrift.launchers.plan.target import Target, read_target
from dropdrift.sharding.config import AUTO, ShardingConfig
from dropdrift.sharding.hardware import Hardware, load_hardware, save_hardware
from dropdrift.training.plans.config import CalibrateConfig

if TYPE_CHECKING:
    from dropdrift.training.distributed import Ranks
    from dropdrift.training.plans.calibration.report import CalibrationReport


def run(arguments: list[str]) -> int:
    """Measure, fit, compare and save the hardware; on one process, or under torchrun on many."""
    target = read_target(
        CalibrateConfig,
        arguments,
        prog="dropdrift plan calibrate",
        description="Measure lookups and exchanges on this machine, or under torchrun on those of "
        "the group, and fit the hardware that estimates of plans begin with.",
    )
    from dropdrift.training.distributed import on_first_rank, process_group
    from dropdrift.training.provenance import provenance

    config = target.config
    with process_group(config.loop.timeout) as ranks:
        on_first_rank(lambda: check_outputs(config.out, config.json, config.html))
        origin = on_first_rank(lambda: provenance(config, config.calibration.seed))
        report = _measure(target, ranks, origin["hardware"])
        on_first_rank(lambda: _show(report, config, origin))
    return 0


def _measure(
    target: Target[CalibrateConfig], ranks: Ranks, host: Mapping[str, Any]
) -> CalibrationReport:
    import torch.distributed as dist

    from dropdrift.data.progress import progress_bar
    from dropdrift.sharding.calibration.calibrate import calibrate, number_of_steps
    from dropdrift.sharding.calibration.tables import chosen_tables, tables_of
    from dropdrift.sharding.cluster import make_cluster
    from dropdrift.training.plans.calibration.report import CalibrationReport
    from dropdrift.training.plans.request import plan_request, rows_of_lookup

    config = target.config
    base = _base(config, ranks)
    cluster = make_cluster(ShardingConfig(), base, ranks.nodes, ranks.ranks_per_node)
    rows = rows_of_lookup(config, ranks.world_size, target.items)
    # The tables of the model that is trained: a matching model has widths of its own.
    tables = tables_of(plan_request(target.schema, config, cluster, rows).schema)
    measured = chosen_tables(tables, config.max_tables, config.calibration.max_rows)
    model, machine = _machine(ranks, host)
    assert dist.GroupMember.WORLD is not None
    with progress_bar(ranks.is_first, "timings") as progress:
        steps = number_of_steps(measured, config.calibration, ranks.world_size)
        task = progress.add_task("Measuring", total=steps)
        calibration = calibrate(
            cluster,
            measured,
            rows,
            config.calibration,
            group=dist.GroupMember.WORLD,
            device=ranks.device,
            name=config.name or model,
            machine=machine,
            day=date.today(),
            advance=lambda _: progress.advance(task),
        )
    return CalibrationReport(
        target.name, machine, cluster, rows, len(tables), config.model.table_precision, calibration
    )


def _base(config: CalibrateConfig, ranks: Ranks) -> Hardware:
    from dropdrift.sharding.cluster import hardware_of

    if config.base == AUTO:
        return hardware_of(ShardingConfig(), ranks.device)
    return load_hardware(config.base)


def _machine(ranks: Ranks, host: Mapping[str, Any]) -> tuple[str, str]:
    """Model of the processor or GPU, and with what else the figures depend on."""
    import torch

    if ranks.device.type == "cuda":
        model = torch.cuda.get_device_name(ranks.device)
        return model, model
    model = host["cpu"]
    return model, f"{model}, {host['cores']} cores, threads of a rank: {torch.get_num_threads()}"


def _show(report: CalibrationReport, config: CalibrateConfig, origin: Mapping[str, Any]) -> None:
    from dropdrift.training.plans.calibration.report import document, print_calibration
    from dropdrift.training.plans.views.terminal import printable
    from dropdrift.training.provenance import whole_file, write_whole

    with whole_file(config.out) as partial:
        save_hardware(report.calibration.hardware, partial)
    if config.html is not None:
        from dropdrift.training.plans.calibration.plots import calibration_page

        write_whole(config.html, calibration_page(report, origin))
    if not write_json(document(report, origin), config.json):
        print_calibration(report)
        shown = shlex.join(
            ["dropdrift", "plan", "show", report.name, "--hardware", str(config.out)]
        )
        print(f"\n{config.out} holds the fitted hardware: {printable(shown)}")
