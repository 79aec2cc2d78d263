"""TorchX's runner with Dropdrift's Slurm, and the options of a scheduler."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torchx.runner import Runner
from torchx.runner.config import apply
from torchx.schedulers import get_scheduler_factories
from torchx.specs import InvalidRunConfigException

from dropdrift.data.typed_mapping import suggestion
from dropdrift.launchers.one_line import one_line
from dropdrift.launchers.slurm.scheduler import create_scheduler

SESSION = "dropdrift"  # in the handles of jobs: slurm://dropdrift/1234


@contextmanager
def dropdrift_runner() -> Iterator[Runner]:
    """A runner whose ``slurm`` is Dropdrift's, also where its entry point is not installed."""
    factories = {**get_scheduler_factories(), "slurm": create_scheduler}
    with Runner(SESSION, factories) as runner:
        yield runner


def scheduler_options(runner: Runner, backend: str, pairs: Sequence[str]) -> Mapping[str, Any]:
    """The options ``KEY=VALUE`` of a scheduler, and what ``.torchxconfig`` adds to them.

    Raises:
        ValueError: the scheduler has no such option, or it is a number and the value is none.
    """
    known = runner.scheduler_run_opts(backend)
    names = [name for name, _ in known]
    options: dict[str, Any] = {}
    for pair in pairs:
        key = pair.partition("=")[0]
        if key not in names:
            raise ValueError(
                f"scheduler_args has {key!r}, which {backend} does not know"
                f"{suggestion(key, names, str)}; it knows: {', '.join(names)}"
            )
        try:
            options |= known.cfg_from_str(pair)
        except ValueError as error:  # which does not say what of
            raise ValueError(f"scheduler_args has {pair!r}: {error}") from error
    # Not TorchX's own default, which is the folder that its module was first imported in.
    apply(backend, options, dirs=[str(Path.cwd()), str(Path.home())])
    return options


@contextmanager
def users_mistakes(backend: str) -> Iterator[None]:
    """Turn what a scheduler's client refuses into ValueError, and its warnings into a line each."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", UserWarning)
        try:
            yield
        except (*_errors_of(backend), InvalidRunConfigException) as error:
            said = str(error).strip().splitlines() or [type(error).__name__]
            raise ValueError(f"{backend}: {said[0]}") from error
        finally:
            for line in dict.fromkeys(one_line(str(warning.message)) for warning in told):
                print(f"dropdrift: {backend}: {line}", file=sys.stderr)


def _errors_of(backend: str) -> tuple[type[Exception], ...]:
    if backend == "local_docker":
        from docker.errors import DockerException

        return (DockerException,)
    if backend == "kubernetes":
        from kubernetes.client.exceptions import OpenApiException
        from kubernetes.config import ConfigException
        from urllib3.exceptions import HTTPError

        return (OpenApiException, ConfigException, HTTPError)
    return ()
