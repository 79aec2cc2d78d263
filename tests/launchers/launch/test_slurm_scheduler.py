"""The scheduler plug-in before Slurm's commands, which are stubs that say what Slurm 22.05 said."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("torchx")

from torchx.schedulers.api import Stream
from torchx.specs import AppDef, AppState, Role, macros

from dropdrift.launchers.slurm.queue import parse_accounted, parse_job
from dropdrift.launchers.slurm.scheduler import STATES, SlurmScheduler, submission

OF_CONTROLLER = (
    "JobId={id} JobName=train UserId=root(0) GroupId=root(0) MCS_label=N/A Priority=4294901759 "
    "Nice=0 Account=(null) QOS=(null) JobState={state} Reason={reason} Dependency=(null) Requeue=1 "
    "Restarts={restarts} BatchFlag=1 Reboot=0 ExitCode=0:0 RunTime=00:00:14 TimeLimit=00:10:00 "
    "Partition=all NodeList=node[1-2] BatchHost=node1 NumNodes={nodes} NumCPUs=2 NumTasks=2 "
    "CPUs/Task=1 ReqB:S:C:T=0:0:*:* TRES=cpu=2,node=2,billing=2 Command=(null) "
    "WorkDir=/data/my runs StdErr={out} StdIn=/dev/null StdOut={out} Power="
)


def of_controller(**given: object) -> str:
    known = {"id": 7, "state": "RUNNING", "reason": "None", "restarts": 0, "nodes": 2, "out": "/x"}
    return OF_CONTROLLER.format(**(known | given))


Stub = Callable[[str, str], None]


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stub:
    """Puts a command that runs a line of shell first on the path; there are no others of Slurm."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("scontrol", "sacct", "squeue", "scancel", "sbatch"):
        path = folder / name
        path.write_text("#!/bin/sh\necho not to be called >&2\nexit 99\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)

    def add(name: str, body: str) -> None:
        (folder / name).write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/{name}.calls\n{body}\n')

    return add


def says(text: str) -> str:
    return f"cat <<'END'\n{text}\nEND"


UNKNOWN = "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1"


def application(**given: object) -> AppDef:
    role = Role(name="train", image="", entrypoint="prog", args=["x"], num_replicas=2)
    for name, value in given.items():
        setattr(role, name, value)
    return AppDef(name="job", roles=[role])


def options(scheduler: SlurmScheduler, **given: object) -> dict[str, object]:
    return dict(scheduler.run_opts().resolve(given))


def test_a_job_that_the_controller_knows(stub):
    stub("scontrol", says(of_controller(state="PENDING", reason="Resources", restarts=2, nodes=4)))
    found = SlurmScheduler("s").describe("7")
    assert found is not None
    assert (found.state, found.num_restarts) == (AppState.PENDING, 2)
    assert found.msg == "PENDING Resources"
    assert found.roles[0].num_replicas == 4
    assert len(found.roles_statuses[0].replicas) == 4
    assert Path("scontrol.calls").read_text() == "show job --oneliner 7\n"


@pytest.mark.parametrize("state", ["FAILED", "NODE_FAIL", "TIMEOUT", "OUT_OF_MEMORY", "NEW_STATE"])
def test_states_that_are_not_well(stub, state):
    stub("scontrol", says(of_controller(state=state)))
    found = SlurmScheduler("s").describe("7")
    assert found is not None
    assert found.state == AppState.FAILED
    assert state in found.msg


def test_states_that_are():
    assert STATES["COMPLETED"] == AppState.SUCCEEDED
    assert STATES["COMPLETING"] == AppState.RUNNING
    assert STATES["REQUEUED"] == AppState.PENDING


def test_without_accounting_a_forgotten_job_is_unknown_and_nothing_crashes(stub):
    stub("scontrol", UNKNOWN)
    stub("sacct", "echo 'Slurm accounting storage is disabled' >&2; exit 1")
    assert SlurmScheduler("s").describe("7") is None


def test_with_accounting_it_is_not(stub):
    stub("scontrol", UNKNOWN)
    stub("sacct", says("REQUEUED|0:0|2\nCANCELLED by 1000|0:15|2"))
    found = SlurmScheduler("s").describe("7")
    assert found is not None
    assert (found.state, found.num_restarts) == (AppState.CANCELLED, 1)
    # It would else tell only of the last time that the job was queued.
    assert "--duplicates" in Path("sacct.calls").read_text()


def test_a_controller_that_is_not_there_is_no_unknown_job(stub):
    stub("scontrol", "echo 'scontrol: error: Unable to contact slurm controller' >&2; exit 1")
    with pytest.raises(ValueError, match=r"^scontrol: error: Unable to contact slurm controller$"):
        SlurmScheduler("s").describe("7")


def test_fields_of_the_controller():
    job = parse_job(of_controller(nodes="4-8", out="/a b/train-7.log"))
    assert job.nodes == 4
    assert job.output == Path("/a b/train-7.log")
    assert parse_accounted([]) is None


def test_scripts_go_to_sbatch_and_the_folder_of_logs_is_made(stub, tmp_path):
    stub("sbatch", f"cat > {tmp_path}/script; echo '4711;cluster'")
    scheduler = SlurmScheduler("s")
    request = scheduler.submit_dryrun(application(), options(scheduler, log_dir="logs"))
    assert scheduler.schedule(request) == "4711"
    assert (tmp_path / "script").read_text() == str(request.request)
    assert (tmp_path / "logs").is_dir()
    assert Path("sbatch.calls").read_text() == "--parsable\n"


def test_what_sbatch_says_is_the_line(stub):
    stub("sbatch", "echo 'sbatch: error: x' >&2; echo 'sbatch: error: Invalid account' >&2; exit 1")
    scheduler = SlurmScheduler("s")
    with pytest.raises(ValueError, match=r"^sbatch: error: Invalid account$"):
        scheduler.schedule(scheduler.submit_dryrun(application(), options(scheduler)))


def test_without_slurm(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="scontrol is not there: launch from a machine"):
        SlurmScheduler("s").describe("7")


def test_cancel_and_list(stub):
    stub("scontrol", says(of_controller()))
    stub("scancel", "")
    stub("squeue", says("7 RUNNING\n8 PENDING"))
    scheduler = SlurmScheduler("s")
    scheduler.cancel("7")
    assert Path("scancel.calls").read_text() == "7\n"
    assert [(job.app_id, job.state) for job in scheduler.list()] == [
        ("7", AppState.RUNNING),
        ("8", AppState.PENDING),
    ]


@pytest.mark.timeout(30)
def test_logs_of_a_job_that_has_ended(stub, tmp_path):
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "train-7-1.log").write_text("first\nAUC 0.5\n")
    stub("scontrol", says(of_controller(state="COMPLETED", out=folder / "train-7.log")))
    scheduler = SlurmScheduler("s")
    assert list(scheduler.log_iter("7", "node", 1)) == ["first\n", "AUC 0.5\n"]
    assert list(scheduler.log_iter("7", "node", 1, regex="AUC", should_tail=True)) == ["AUC 0.5\n"]
    with pytest.raises(RuntimeError, match="without writing"):
        list(scheduler.log_iter("7", "node", 0))
    with pytest.raises(ValueError, match="streams is stderr, and Slurm's logs are combined"):
        scheduler.log_iter("7", "node", 1, streams=Stream.STDERR)


def test_logs_of_a_job_that_only_the_accounting_knows(stub, tmp_path):
    stub("scontrol", UNKNOWN)
    stub("sacct", says("COMPLETED|0:0|2"))
    scheduler = SlurmScheduler("s")
    with pytest.raises(ValueError, match="Slurm no longer knows job 7, and runs/slurm has no log"):
        scheduler.log_iter("7", "node", 1)
    (tmp_path / "runs" / "slurm").mkdir(parents=True)
    (tmp_path / "runs" / "slurm" / "night-7-1.log").write_text("x\n")
    assert list(scheduler.log_iter("7", "node", 1)) == ["x\n"]


def test_macros_of_torchx():
    scheduler = SlurmScheduler("s")
    app = application(args=[macros.app_id, f"$${{{macros.rank0_env}}}"], env={"A": macros.app_id})
    script = str(scheduler.submit_dryrun(app, options(scheduler)).request)
    assert """prog "$SLURM_JOB_ID" '${TORCHX_RANK0_HOST}' &""" in script
    assert 'export A="$SLURM_JOB_ID"' in script


def test_what_one_job_of_slurm_cannot_be():
    given = options(SlurmScheduler("s"))
    with pytest.raises(ValueError, match="job uses the macro replica_id"):
        submission(application(args=[macros.replica_id]), given)
    app = application()
    app.roles.append(Role(name="reader", image=""))
    with pytest.raises(ValueError, match="job has the roles train, reader: a Slurm job has one"):
        submission(app, given)
