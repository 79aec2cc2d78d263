"""``dropdrift baseline``: what counting alone reaches on the data and protocol of a model."""

from __future__ import annotations

from dropdrift.launchers.options import parse_config
from dropdrift.training.matching.config import PopularityBaseline, TransitionBaseline

BASELINES: dict[str, type[PopularityBaseline]] = {
    "popularity": PopularityBaseline,
    "transitions": TransitionBaseline,
}


def run(arguments: list[str]) -> int:
    """Measure a baseline, print its metrics and write them if asked to."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        return 0 if arguments else 2
    name, rest = arguments[0], arguments[1:]
    if name not in BASELINES:
        raise ValueError(f"unknown baseline {name!r}; there are: {', '.join(BASELINES)}")
    options = parse_config(
        BASELINES[name],
        rest,
        prog=f"dropdrift baseline {name}",
        description=_description(name),
    )
    from dropdrift.training.matching.baselines import evaluate_baseline
    from dropdrift.training.matching.summary import print_result
    from dropdrift.training.provenance import check_writable

    if options.out is not None:
        check_writable(options.out)
    result = evaluate_baseline(options)
    if options.out is not None:
        result.save(options.out)
    print_result(result)
    if options.out is not None:
        print(f"Written to {options.out}")
    return 0


def _description(name: str) -> str:
    return (BASELINES[name].__doc__ or "").split("\n", 1)[0]


def _help() -> str:
    lines = [f"  {name:<12} {_description(name)}" for name in BASELINES]
    return "\n".join(
        [
            "usage: dropdrift baseline BASELINE [OPTIONS]",
            "",
            "Measure what counting in the training part reaches, by the protocol of a model.",
            "",
            *lines,
            "",
            "'dropdrift baseline BASELINE --help' lists the options of one.",
        ]
    )
