"""``dropdrift export-weights``: a run's weights as one file for other programs."""

from __future__ import annotations

from dropdrift.launchers.options import parse_config
from dropdrift.launchers.trained import trained_config
from dropdrift.training.config import ExportConfig


def run(arguments: list[str]) -> int:
    """Write the weights of the best checkpoint and what they are, and say where."""
    options = parse_config(
        ExportConfig,
        arguments,
        prog="dropdrift export-weights",
        description="Write the best checkpoint's weights as safetensors, and a JSON file on them.",
    )
    config = trained_config(options.run_folder)
    from dropdrift.training.export import export_weights

    size = export_weights(options, config)
    print(f"{size:,} bytes of weights written to {options.out}")
    print(f"What they are: {options.out.with_suffix('.json')}")
    return 0
