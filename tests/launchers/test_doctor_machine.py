"""What the doctor says of packages, disk, network and GPUs, well and not well."""

from __future__ import annotations

import socket
import tomllib
from pathlib import Path

import pytest

from dropdrift.launchers.doctor import machine, packages
from dropdrift.launchers.doctor.check import Check
from dropdrift.launchers.doctor.gpus import judged, runs_on
from dropdrift.launchers.doctor.machine import (
    INTERFACE_VARIABLE,
    check_disk,
    check_host_name,
    check_memory,
    check_port,
    check_shared_memory,
)
from dropdrift.launchers.doctor.packages import TORCHX, check_compiler, check_torchx, check_triton

ROOT = Path(__file__).resolve().parents[2]
GIB = 1 << 30


def test_what_is_not_ok_has_a_remedy():
    with pytest.raises(AssertionError):
        Check("disk", "warning", "1 GiB free")
    with pytest.raises(AssertionError):
        Check("disk", "ok", "100 GiB free", "buy more")


@pytest.mark.parametrize(
    ("torch", "triton", "gpus", "status"),
    [
        ("2.13.0+cpu", "3.7.1", [], "ok"),
        ("2.11.0", "3.6.0", ["H200"], "ok"),
        ("2.11.0", "3.7.1", ["H200"], "error"),
        ("2.13.0+cpu", "3.6.0", [], "warning"),
        ("2.13.0", "3.70.0", ["H200"], "error"),
        ("2.13.0+cpu", None, [], "warning"),
        ("2.13.0", None, ["H200"], "warning"),
    ],
)
def test_triton_is_the_one_that_torch_is_made_with(torch, triton, gpus, status):
    versions = {"torch": torch} | ({"triton": triton} if triton else {})
    check = check_triton(versions, gpus)
    assert check.status == status
    wanted = "3.7" if torch.startswith("2.13") else "3.6"
    assert check.remedy == ("" if status == "ok" else f"pip install 'triton=={wanted}.*'")


def test_where_triton_is_missing_it_is_said_what_for():
    assert "only dropdrift bench inspect" in check_triton({"torch": "2.13.0+cpu"}, []).detail
    assert "the kernels run in plain torch" in check_triton({"torch": "2.13.0"}, ["H200"]).detail


@pytest.mark.parametrize(
    ("found", "status"), [("0.7.0", "ok"), ("0.70.0", "warning"), ("0.8.1", "warning")]
)
def test_torchx(found, status):
    assert check_torchx({"torchx": found}).status == status


def test_without_torchx_it_is_said_what_for_and_how_to_get_it():
    check = check_torchx({})
    assert (check.status, check.detail) == ("warning", "none: dropdrift launch needs it")
    assert check.remedy == "pip install 'dropdrift[launch]'"


def test_the_known_torchx_is_what_the_package_asks_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (wanted,) = project["optional-dependencies"]["launch"]
    major, minor = map(int, TORCHX.split("."))
    assert wanted == f"torchx[kubernetes]>={TORCHX},<{major}.{minor + 1}"


def test_no_compiler_that_works(monkeypatch):
    monkeypatch.setenv("CC", "false")
    check = check_compiler([])
    assert (check.status, check.detail) == ("warning", "AssertionError: none that works")
    assert "apt-get install gcc" in check.remedy
    monkeypatch.setattr(packages, "_COMPILER_PROBE", "assert False, 'none that works'")
    with_gpu = check_compiler(["H200"])
    assert (with_gpu.status, with_gpu.detail) == ("error", check.detail)


def test_with_a_gpu_the_headers_of_python_are_needed_too(monkeypatch, tmp_path):
    monkeypatch.setattr(packages, "_COMPILER_PROBE", "print('works')")
    check = check_compiler(["H200"], tmp_path)
    assert check.status == "error"
    assert "no Python.h" in check.detail
    assert check.remedy.startswith("apt-get install python3.")
    (tmp_path / "Python.h").touch()
    assert check_compiler(["H200"], tmp_path).status == "ok"
    assert check_compiler([], tmp_path / "absent").status == "ok"


def test_a_port_in_use_is_a_warning():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        check = check_port(port)
    assert check.status == "warning"
    assert str(port) in check.detail
    assert "--standalone" in check.remedy


def test_a_port_that_other_connections_may_take_is_a_warning(monkeypatch, tmp_path):
    ports = tmp_path / "ports"
    monkeypatch.setattr(machine, "_PORT_RANGE", ports)
    with socket.socket() as chosen:  # one that is free, and most probably still is afterwards
        chosen.bind(("", 0))
        port = chosen.getsockname()[1]
    assert check_port(port).status == "ok"  # where the system does not tell
    ports.write_text(f"{port - 1}\t{port + 1}\n")
    check = check_port(port)
    assert check.status == "warning"
    assert f"other programs take {port - 1}-{port + 1}" in check.detail
    ports.write_text(f"{port + 1}\t{port + 2}\n")
    assert check_port(port).status == "ok"


def test_little_disk_is_a_warning(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "LOW_DISK_GIB", 0)
    assert check_disk(tmp_path).status == "ok"
    monkeypatch.setattr(machine, "LOW_DISK_GIB", 10**9)
    check = check_disk(tmp_path)
    assert check.status == "warning"
    assert f"GiB free in {tmp_path}" in check.detail


def test_the_disk_is_that_of_the_folder_even_before_it_is_there(tmp_path):
    assert check_disk(tmp_path / "runs" / "first").detail.endswith(f" GiB free in {tmp_path}")
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_is_an_error(tmp_path):
    (tmp_path / "runs").touch()
    check = check_disk(tmp_path / "runs" / "first")
    assert (check.status, check.detail) == (
        "error",
        f"{tmp_path / 'runs'} cannot be written: Not a directory",
    )


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="wants a folder that nobody may write")
def test_a_folder_that_cannot_be_written_is_an_error():
    check = check_disk(Path("/proc/self/runs"))
    assert check.status == "error"
    assert "cannot be written" in check.detail
    assert "choose another --out" in check.remedy


def test_memory_is_read_where_the_system_tells_it():
    check = check_memory()
    expected = "GiB available" if Path("/proc/meminfo").exists() else "cannot be read"
    assert expected in check.detail


@pytest.mark.parametrize(
    ("available", "status", "detail"),
    [
        (3 * GIB, "warning", "3.0 GiB available"),
        (5 * GIB, "ok", "5.0 GiB available"),
        (None, "warning", "cannot be read on this system"),
    ],
)
def test_little_memory_is_a_warning(monkeypatch, available, status, detail):
    monkeypatch.setattr(machine, "available_memory", lambda: available)
    check = check_memory()
    assert (check.status, check.detail) == (status, detail)


def test_shared_memory_counts_with_gpus_alone(monkeypatch, tmp_path):
    absent = tmp_path / "shm"
    assert check_shared_memory([], absent).status == "ok"
    assert check_shared_memory(["H200"], absent).status == "warning"
    assert check_shared_memory(["H200"], tmp_path).status == "ok"
    monkeypatch.setattr(machine, "LOW_SHARED_MEMORY_GIB", 10**9)
    check = check_shared_memory(["H200"], tmp_path)
    assert check.status == "warning"
    assert "--shm-size" in check.remedy
    assert check_shared_memory([], tmp_path).status == "ok"


@pytest.mark.parametrize(
    ("name", "detail"),
    [
        ("127.0.0.1", "127.0.0.1 is 127.0.0.1: processes on other machines do not find"),
        ("192.0.2.1", "192.0.2.1 is 192.0.2.1, which is not here"),  # of documentation alone
        ("no host", "no host has no address"),
        ("a" * 70, "has no address"),  # more than a name may have
    ],
)
def test_a_host_name_that_gloo_cannot_use_is_a_warning(monkeypatch, name, detail):
    monkeypatch.delenv(INTERFACE_VARIABLE, raising=False)
    check = check_host_name(name)
    assert check.status == "warning"
    assert detail in check.detail
    assert INTERFACE_VARIABLE in check.remedy


def test_a_host_name_with_an_address_of_this_machine(monkeypatch):
    monkeypatch.delenv(INTERFACE_VARIABLE, raising=False)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as route:
        try:
            route.connect(("192.0.2.1", 9))  # nothing is sent
        except OSError:
            pytest.skip("this machine has no network")
        address = route.getsockname()[0]
    assert check_host_name(address) == Check("host name", "ok", f"{address} is {address}")


def test_an_interface_that_gloo_was_told(monkeypatch):
    monkeypatch.setenv(INTERFACE_VARIABLE, "lo")
    assert check_host_name("whatever").status == "ok"
    monkeypatch.setenv(INTERFACE_VARIABLE, "lo,nowhere0")
    check = check_host_name("whatever")
    assert check.status == "error"
    assert check.detail.endswith("there is no nowhere0")
    assert "lo" in check.remedy


@pytest.mark.parametrize(
    ("capability", "built_for", "runs"),
    [
        ((9, 0), ["sm_80", "sm_90"], True),
        ((8, 6), ["sm_80", "sm_90"], True),
        ((8, 0), ["sm_86", "sm_90"], False),
        ((7, 0), ["sm_75", "sm_80"], False),
        ((10, 0), ["sm_80", "sm_90"], False),
        ((10, 0), ["sm_90", "compute_90"], True),
        ((12, 0), ["sm_100", "sm_120"], True),
        ((9, 0), ["sm_90a"], True),
        ((9, 1), ["sm_90a"], False),
        ((9, 0), ["gfx942"], False),
    ],
)
def test_which_gpus_a_build_of_torch_runs_on(capability, built_for, runs):
    assert runs_on(capability, built_for) is runs


def found_gpus(count: int = 2, free: float = 79.0, **more: object) -> dict[str, object]:
    device = {"name": "H100", "capability": [9, 0], "free": 79.0 * GIB, "total": 80.0 * GIB}
    devices = [{**device, "free": free * GIB}, *[device] * (count - 1)]
    versions = {"cuda": "13.0", "nccl": "2.27.5"}
    return {"devices": devices, "built_for": ["sm_90"], "without_peer": [], **versions, **more}


def test_gpus_that_are_well():
    lines = [(check.name, check.status, check.detail) for check in judged(found_gpus(), "580.1")]
    assert lines == [
        ("GPU", "ok", "2 x H100, driver 580.1, CUDA 13.0, NCCL 2.27.5"),
        ("GPU memory", "ok", "79.0 of 80.0 GiB free on 0"),
        ("GPU peers", "ok", "every GPU reaches every other's memory"),
    ]
    assert [check.name for check in judged(found_gpus(1), "580.1")] == ["GPU", "GPU memory"]


@pytest.mark.parametrize(
    ("found", "name", "status", "detail"),
    [
        (found_gpus(free=70), "GPU memory", "warning", "70.0 of 80.0 GiB free on 0"),
        (found_gpus(built_for=["sm_80"]), "GPU kernels", "error", "0 has capability 9.0, torch is"),
        (found_gpus(without_peer=[[0, 1], [1, 0]]), "GPU peers", "warning", "0-1 exchange through"),
    ],
)
def test_gpus_that_are_not(found, name, status, detail):
    checks = [check for check in judged(found, "580.1") if check.status != "ok"]
    assert {check.name for check in checks} == {name}
    assert checks[0].status == status
    assert checks[0].detail.startswith(detail)
    assert checks[0].line.count("; ") >= 1
