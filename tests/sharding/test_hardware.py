from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from torchrec.distributed.planner import constants

from dropdrift.sharding.hardware import (
    FIGURES,
    Hardware,
    hardware_names,
    load_hardware,
    save_hardware,
)

GIB = 1 << 30
MY_NODE: dict[str, Any] = {
    "name": "my node",
    "device": "cuda",
    "gpus_per_node": 4,
    "hbm_gib": 23.6,
    "host_memory_gib": 256,
    "hbm_gb_per_s": 1008,
    "host_gb_per_s": 80,
    "host_link_gb_per_s": 32,
    "intra_node_gb_per_s": 25,
    "inter_node_gb_per_s": 12.5,
}


def write(path: Path, **changed: Any) -> str:
    """A file of MY_NODE with ``changed`` keys; None takes one out."""
    held = {key: value for key, value in (MY_NODE | changed).items() if value is not None}
    path.write_text(yaml.safe_dump(held), encoding="utf-8")
    return str(path)


def mistake(name_or_file: str) -> str:
    """The one line that refuses it."""
    with pytest.raises(ValueError, match=r"\A[^\n]+\Z") as raised:
        load_hardware(name_or_file)
    return str(raised.value)


def test_the_presets_are_those_that_are_promised() -> None:
    assert hardware_names() == ["A100-40", "A100-80", "H100", "H200", "B200", "CPU", "GPU"]


def test_figures_are_all_the_numbers() -> None:
    numbers = [f.name for f in dataclasses.fields(Hardware) if f.type in ("int", "float")]
    assert list(FIGURES) == numbers


@pytest.mark.parametrize("name", hardware_names())
def test_each_figure_of_a_preset_has_a_source(name: str) -> None:
    hardware = load_hardware(name)
    assert hardware.name == name
    assert set(hardware.sources) == set(FIGURES)
    assert all(len(source) > 10 for source in hardware.sources.values())


# Worked out from the datasheets: links are halves of a sum of both directions, network cards are
# 200 or 400 Gb/s a GPU, host memory is sockets x channels x MT/s x 8 bytes.
@pytest.mark.parametrize(
    ("name", "hbm", "host", "link", "intra", "inter"),
    [
        ("A100-40", 1555, 2 * 8 * 3200e6 * 8 / 1e9, 64 / 2, 600 / 2, 200 / 8),
        ("A100-80", 2039, 2 * 8 * 3200e6 * 8 / 1e9, 64 / 2, 600 / 2, 200 / 8),
        ("H100", 3350, 2 * 8 * 4800e6 * 8 / 1e9, 128 / 2, 900 / 2, 400 / 8),
        ("H200", 4800, 2 * 8 * 4800e6 * 8 / 1e9, 128 / 2, 900 / 2, 400 / 8),
        ("B200", 7700, 2 * 8 * 5600e6 * 8 / 1e9, 128 / 2, 14_400 / 8 / 2, 400 / 8),
    ],
)
def test_bandwidths_are_the_datasheets(
    name: str, hbm: float, host: float, link: float, intra: float, inter: float
) -> None:
    hardware = load_hardware(name)
    assert hardware.hbm_gb_per_s == hbm
    assert hardware.host_gb_per_s == pytest.approx(host)
    assert hardware.host_link_gb_per_s == link
    assert hardware.intra_node_gb_per_s == intra
    assert hardware.inter_node_gb_per_s == inter
    assert hardware.gpus_per_node == 8


@pytest.mark.parametrize(
    ("name", "label_gb", "nvidia_smi_mib"),
    [
        ("A100-40", 40, 40_960),
        ("A100-80", 80, 81_920),
        ("H100", 80, 81_559),
        ("H200", 141, 143_771),
        ("B200", 180, 183_359),
    ],
)
def test_memory_is_what_a_process_can_have(name: str, label_gb: int, nvidia_smi_mib: int) -> None:
    """The driver keeps some hundreds of MiB of what nvidia-smi counts."""
    hbm_gib = load_hardware(name).hbm_gib
    assert 0 < nvidia_smi_mib - hbm_gib * 1024 < 1024
    assert hbm_gib * GIB == pytest.approx(label_gb * 1e9, rel=0.07)


def test_an_unknown_gpu_has_torchrecs_own_figures() -> None:
    """TorchRec counts in bytes per millisecond, and host memory by rank."""
    gpu = load_hardware("GPU")
    per_ms = 1e9 / 1000
    assert gpu.hbm_gib * GIB == constants.HBM_CAP
    assert gpu.host_memory_gib / gpu.gpus_per_node * GIB == constants.DDR_CAP
    assert gpu.hbm_gb_per_s * per_ms == pytest.approx(constants.HBM_MEM_BW)
    assert gpu.host_gb_per_s / gpu.gpus_per_node * per_ms == pytest.approx(constants.DDR_MEM_BW)
    assert gpu.host_link_gb_per_s * per_ms == pytest.approx(constants.HBM_TO_DDR_MEM_BW)
    assert gpu.intra_node_gb_per_s * per_ms == pytest.approx(constants.INTRA_NODE_BANDWIDTH)
    assert gpu.inter_node_gb_per_s * per_ms == pytest.approx(constants.CROSS_NODE_BANDWIDTH)
    assert gpu.device_names == ()


def test_a_cpu_has_torchrecs_memory_and_network_and_nothing_of_a_gpu() -> None:
    cpu = load_hardware("CPU")
    per_ms = 1e9 / 1000
    assert (cpu.device, cpu.hbm_gib, cpu.hbm_gb_per_s, cpu.host_link_gb_per_s) == ("cpu", 0, 0, 0)
    assert cpu.host_gb_per_s / cpu.gpus_per_node * per_ms == pytest.approx(constants.DDR_MEM_BW)
    assert cpu.intra_node_gb_per_s * per_ms == pytest.approx(constants.DDR_MEM_BW / 2)
    assert cpu.inter_node_gb_per_s * per_ms == pytest.approx(constants.CROSS_NODE_BANDWIDTH)


@pytest.mark.parametrize("name", hardware_names())
def test_a_name_in_small_letters_is_the_preset(name: str) -> None:
    assert load_hardware(name.lower()) == load_hardware(name)


@pytest.mark.parametrize(
    ("cuda_name", "presets"),
    [
        ("NVIDIA A100-SXM4-40GB", ["A100-40"]),
        ("NVIDIA A100-SXM4-80GB", ["A100-80"]),
        ("NVIDIA A100-PCIE-40GB", []),
        ("NVIDIA H100 80GB HBM3", ["H100"]),
        ("NVIDIA H100 PCIe", []),
        ("NVIDIA H200", ["H200"]),
        ("NVIDIA GH200 480GB", []),
        ("NVIDIA B200", ["B200"]),
        ("NVIDIA GB200", []),
    ],
)
def test_a_gpu_is_known_by_its_name(cuda_name: str, presets: list[str]) -> None:
    loaded = [load_hardware(name) for name in hardware_names()]
    found = [h.name for h in loaded if any(part in cuda_name for part in h.device_names)]
    assert found == presets


@pytest.mark.parametrize("name", hardware_names())
def test_what_is_saved_is_loaded(name: str, tmp_path: Path) -> None:
    hardware = dataclasses.replace(load_hardware(name), name="Müllers Knoten \x85 🖥")
    save_hardware(hardware, tmp_path / "mine.yaml")
    assert load_hardware(str(tmp_path / "mine.yaml")) == hardware


def test_a_users_file_is_its_own_source(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.yaml", sources={"hbm_gib": "nvidia-smi"})
    hardware = load_hardware(path)
    assert (hardware.gpus_per_node, hardware.hbm_gib, hardware.host_memory_gib) == (4, 23.6, 256)
    assert hardware.sources["hbm_gib"] == "nvidia-smi"
    assert hardware.sources["hbm_gb_per_s"] == "given in mine.yaml"
    assert set(hardware.sources) == set(FIGURES)
    shutil.move(path, tmp_path / "without-suffix")
    assert load_hardware(str(tmp_path / "without-suffix")).name == "my node"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "A10-40",
            "unknown hardware 'A10-40'; did you mean A100-40?; there are: A100-40, A100-80, H100, "
            "H200, B200, CPU, GPU; or give a YAML file",
        ),
        ("a100", "unknown hardware 'a100'; did you mean A100-40 or A100-80?; there are: "),
        ("H100-80GB", "unknown hardware 'H100-80GB'; did you mean H100?; there are: "),
        ("abacus", "unknown hardware 'abacus'; there are: "),
        ("", "unknown hardware ''; there are: "),
        ("mine.yaml", "mine.yaml does not exist"),
    ],
)
def test_an_unknown_name_lists_the_known(name: str, message: str) -> None:
    assert mistake(name).startswith(message)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"hbm": 80}, "hardware has the unknown key 'hbm'; did you mean 'hbm_gib'?"),
        ({"hbm_gib": None}, "hardware has no key 'hbm_gib'"),
        ({"name": None}, "hardware has no key 'name'"),
        ({"name": " "}, "name and device_names must not be blank"),
        ({"device_names": ["A10", ""]}, "name and device_names must not be blank"),
        (
            {"device": "gpu"},
            "hardware: device is 'gpu', must be one of cuda, cpu; did you mean 'cpu'?",
        ),
        ({"hbm_gib": "80 GB"}, "hardware: hbm_gib is '80 GB', must be of type float"),
        ({"hbm_gib": float("nan")}, "hardware: hbm_gib is nan, must be of type float"),
        ({"gpus_per_node": 7.5}, "hardware: gpus_per_node is 7.5, must be of type int"),
        ({"gpus_per_node": True}, "hardware: gpus_per_node is True, must be of type int"),
        ({"gpus_per_node": 0}, "gpus_per_node is 0, must be positive and finite"),
        ({"hbm_gb_per_s": -1.5}, "hbm_gb_per_s is -1.5, must be positive and finite"),
        ({"host_link_gb_per_s": 0}, "host_link_gb_per_s is 0, must be positive and finite"),
        ({"device": "cpu"}, "hbm_gib is 23.6, must be 0 on cpu"),
        ({"sources": ["a list"]}, "hardware: sources is ['a list'], must be of type dict"),
        (
            {"sources": {"hbm": "x"}},
            "sources has the unknown figure 'hbm'; did you mean 'hbm_gib'?",
        ),
        ({"sources": {"hbm_gib": 5}}, "the source of hbm_gib is 5, must be text"),
    ],
)
def test_a_wrong_file_is_one_line(changed: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "mine.yaml", **changed)
    assert mistake(path) == f"{path}: {message}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", ": hardware is None, must be a mapping"),
        ("- H100\n", ": hardware is ['H100'], must be a mapping"),
        ("name: [", " is not valid YAML: "),
        ("H100: {device: cuda}\n", ": hardware has the unknown key 'H100'"),
    ],
)
def test_a_file_of_something_else_is_one_line(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yml"
    path.write_text(content)
    assert mistake(str(path)).startswith(f"{path}{message}")


def test_a_measured_hardware_names_the_source_of_each_figure() -> None:
    h100 = load_hardware("H100")
    some = {figure: source for figure, source in h100.sources.items() if figure != "hbm_gib"}
    with pytest.raises(ValueError, match="sources has no entry for 'hbm_gib'"):
        dataclasses.replace(h100, sources=some)
    with pytest.raises(ValueError, match="hbm_gb_per_s is nan, must be positive and finite"):
        dataclasses.replace(h100, hbm_gb_per_s=float("nan"))
