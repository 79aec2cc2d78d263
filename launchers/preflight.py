"""``dropdrift preflight``: check all ranks of a group before anything is trained."""

from __future__ import annotations

from dropdrift.launchers.options import parse_config
from dropdrift.training.preflight.config import PreflightConfig


def run(arguments: list[str]) -> int:
    """Check versions and memory, measure exchanges and links, and name who is slow."""
    config = parse_config(
        PreflightConfig,
        arguments,
        prog="dropdrift preflight",
        description="Check the ranks of a job, under torchrun: versions, memory, the bandwidth of "
        "all-reduce and all-to-all, and which rank is slow. See also train and evaluate "
        "--preflight.",
    )
    from dropdrift.training.distributed import on_first_rank, process_group
    from dropdrift.training.preflight.check import check_bandwidth, check_ranks
    from dropdrift.training.provenance import check_writable

    out = config.out
    with process_group(config.timeout) as ranks:
        if out is not None:
            on_first_rank(lambda: check_writable(out))
        report = check_ranks(ranks, config)
        if out is not None:
            on_first_rank(lambda: report.save(out))
            if ranks.is_first:
                print(f"Written to {out}")
        check_bandwidth(report, config.least_bandwidth)
    return 0
