"""TorchX's scheduler interface to Slurm.

TorchX 0.7 has one of its own, which asks for a heterogeneous job, one component a node: current
Slurm refuses it without ``--ntasks``, it knows neither account nor qos, writes the environment into
srun's command line and needs accounting.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from torchx.schedulers.api import (
    AppDryRunInfo,
    DescribeAppResponse,
    ListAppResponse,
    Scheduler,
    Stream,
    filter_regex,
    split_lines_iterator,
)
from torchx.schedulers.local_scheduler import LogIterator
from torchx.specs import AppDef, AppState, ReplicaStatus, Role, RoleStatus, macros, runopts

from dropdrift.launchers.slurm.queue import ask_slurm, find_job
from dropdrift.launchers.slurm.script import (
    APP_ID,
    RANK0_VARIABLE,
    Submission,
    log_pattern,
    sbatch_script,
)

LOG_FOLDER = "runs/slurm"
REPLICA_MARK = "dropdrift-replica-id"
# Slurm does not know what TorchX called the one role of a job.
ROLE = "node"

_WAITING = (
    "PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT",
    "RESV_DEL_HOLD", "SUSPENDED", "STOPPED",
)  # fmt: skip
_RUNNING = ("RUNNING", "COMPLETING", "RESIZING", "SIGNALING", "STAGE_OUT")
# A job in any other state, such as NODE_FAIL or TIMEOUT, has failed.
STATES = {
    **dict.fromkeys(_WAITING, AppState.PENDING),
    **dict.fromkeys(_RUNNING, AppState.RUNNING),
    "COMPLETED": AppState.SUCCEEDED,
    "CANCELLED": AppState.CANCELLED,
}

# Passed on to sbatch as they are.
SBATCH_OPTIONS = {
    "partition": "Partition to run in.",
    "account": "Account to charge.",
    "qos": "Quality of service.",
    "time": "Time limit: minutes, hours:minutes:seconds or days-hours:minutes:seconds.",
    "constraint": "Features that the nodes must have.",
    "reservation": "Reservation to use.",
    "nodelist": "Nodes that the job must have.",
    "exclude": "Nodes that the job must not have.",
    "mail-user": "Whom to write to when the job begins or ends.",
    "mail-type": "Of what to write.",
}


@dataclass(frozen=True)
class SlurmRequest:
    """What is handed to sbatch."""

    job: Submission

    def __str__(self) -> str:
        return sbatch_script(self.job)


class SlurmScheduler(Scheduler[Mapping[str, Any]]):
    """Runs an application of one role as one homogeneous Slurm job, in this folder.

    Every replica of the role is a task on a node of its own, and all have the same command: the
    macros of TorchX are there except ``replica_id``. The environment is that of the shell which
    submits, and the role's.
    """

    def __init__(self, session_name: str) -> None:
        super().__init__("slurm", session_name)

    def _run_opts(self) -> runopts:
        options = runopts()
        for name, about in SBATCH_OPTIONS.items():
            options.add(name, type_=str, default=None, help=about)
        options.add(
            "warning",
            type_=int,
            default=120,
            help="Seconds before the time limit at which the processes get SIGTERM; 0: none.",
        )
        options.add(
            "log_dir",
            type_=str,
            default=LOG_FOLDER,
            help="Folder for logs, which every node must see.",
        )
        return options

    def _validate(self, app: AppDef, scheduler: str) -> None:
        """Nothing: Slurm knows whether it has what is asked for."""

    def _submit_dryrun(self, app: AppDef, cfg: Mapping[str, Any]) -> AppDryRunInfo[SlurmRequest]:
        return AppDryRunInfo(SlurmRequest(submission(app, cfg)), str)

    def schedule(self, dryrun_info: AppDryRunInfo[SlurmRequest]) -> str:
        """Hand the script to sbatch; the job's number.

        Raises:
            ValueError: there is no sbatch, or it refuses the job.
        """
        job = dryrun_info.request.job
        # Slurm makes no folders, and says nothing of a job whose logs it cannot open.
        job.log_folder.mkdir(parents=True, exist_ok=True)
        answer = ask_slurm("sbatch", "--parsable", text=str(dryrun_info.request))
        return answer.strip().split(";")[0]  # the cluster's name may follow

    def describe(self, app_id: str) -> DescribeAppResponse | None:
        """How the job stands; None where Slurm knows it no longer."""
        job = find_job(app_id)
        if job is None:
            return None
        state = STATES.get(job.state, AppState.FAILED)
        replicas = [ReplicaStatus(k, ROLE, state, hostname="") for k in range(job.nodes)]
        return DescribeAppResponse(
            app_id=app_id,
            state=state,
            num_restarts=job.restarts,
            msg=" ".join(filter(None, [job.state, job.reason])),
            roles=[Role(name=ROLE, image="", num_replicas=job.nodes)],
            roles_statuses=[RoleStatus(ROLE, replicas)],
        )

    def list(self) -> list[ListAppResponse]:
        """This user's jobs that have not ended."""
        listed = ask_slurm("squeue", "--me", "--noheader", "--format=%A %T").splitlines()
        pairs = [line.split() for line in listed]
        return [
            ListAppResponse(app_id=job_id, state=STATES.get(state, AppState.FAILED))
            for job_id, state in pairs
        ]

    def _cancel_existing(self, app_id: str) -> None:
        ask_slurm("scancel", app_id)

    def log_iter(
        self,
        app_id: str,
        role_name: str,  # noqa: ARG002 - a Slurm job has one role
        k: int = 0,
        regex: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        should_tail: bool = False,
        streams: Stream | None = None,
    ) -> Iterable[str]:
        """The log of node ``k``, output and errors in one.

        Raises:
            ValueError: it is not there, or only one of the streams is asked for.
        """
        if since or until:
            logging.getLogger(__name__).warning("Slurm's logs have no times: all lines are shown")
        if streams not in (None, Stream.COMBINED):
            raise ValueError(f"streams is {streams.value}, and Slurm's logs are combined")
        path = self._log_file(app_id, k)
        lines = split_lines_iterator(LogIterator(app_id, str(path), self, should_tail=should_tail))
        return filter_regex(regex, lines) if regex else lines

    def _log_file(self, app_id: str, k: int) -> Path:
        job = find_job(app_id)
        folder = job.output.parent if job and job.output else Path(LOG_FOLDER)
        if job and job.output:
            # The file of a task has its number after the job's; it may not be there yet.
            return folder / f"{job.output.stem}-{k}.log"
        found = sorted(folder.glob(log_pattern(app_id, k)))
        if not found:
            raise ValueError(
                f"Slurm no longer knows job {app_id}, and {folder} has no log of its node {k}"
            )
        return found[0]


def submission(app: AppDef, options: Mapping[str, Any]) -> Submission:
    """What sbatch is asked for an application.

    Args:
        app: of one role.
        options: of the scheduler, by name.

    Raises:
        ValueError: it has several roles, a replica is to know its number, or an option is wrong.
    """
    if len(app.roles) != 1:
        names = ", ".join(role.name for role in app.roles)
        raise ValueError(f"{app.name} has the roles {names}: a Slurm job has one")
    values = macros.Values(
        img_root="", app_id=APP_ID, replica_id=REPLICA_MARK, rank0_env=RANK0_VARIABLE
    )
    role = values.apply(app.roles[0])
    words = [role.entrypoint, *role.args]
    if any(REPLICA_MARK in text for text in (*words, *role.env.values())):
        raise ValueError(
            f"{app.name} uses the macro replica_id, which one command for all nodes cannot have: "
            "read SLURM_PROCID"
        )
    return Submission(
        name=app.name,
        nodes=role.num_replicas,
        command=words,
        environment={"PYTHONUNBUFFERED": "1", **role.env},
        log_folder=Path(options["log_dir"]).absolute(),
        gpus_per_node=max(role.resource.gpu, 0),
        cpus_per_task=max(int(role.resource.cpu), 1),
        memory_mib=max(role.resource.memMB, 0),
        max_requeues=role.max_retries,
        warning_seconds=options["warning"],
        options={name: options[name] for name in SBATCH_OPTIONS if options.get(name) is not None},
    )


def create_scheduler(session_name: str, **_: object) -> SlurmScheduler:
    """As TorchX makes its schedulers."""
    return SlurmScheduler(session_name)
