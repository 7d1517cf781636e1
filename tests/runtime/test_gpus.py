"""The GPUs that CUDA's and ROCm's variables leave, and their names on the machine."""

import os

import pytest
import torch

from vtclip.runtime import gpus
from vtclip.runtime.devices import PRETEND, lease_device
from vtclip.runtime.gpus import Device, list_devices, parse_names

VARIABLES = (
    "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "SLURM_JOB_GPUS",
    "SLURM_STEP_GPUS",
)  # fmt: skip


@pytest.fixture(autouse=True)
def machine(monkeypatch, tmp_path):
    """A machine without a GPU, to which tests add some."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    root = tmp_path / "root"
    (root / "dev").mkdir(parents=True)
    monkeypatch.setattr(gpus, "ROOT", root)
    return root


def write(path, text=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def add_nvidia(machine, number, uuid):
    write(machine / f"dev/nvidia{number}")
    said = f"Model: \t H100\nGPU UUID: \t {uuid}\nDevice Minor: \t {number}\n"
    write(machine / f"proc/driver/nvidia/gpus/0000:0{number}:00.0/information", said)


@pytest.fixture
def rocm(monkeypatch, machine):
    """A machine with a processor and three of AMD's GPUs, and PyTorch for them."""
    monkeypatch.setattr(gpus, "is_rocm", lambda: True)
    for node, identity in enumerate(("0", "54321", "54322", "54323")):
        folder = machine / f"sys/class/kfd/kfd/topology/nodes/{node}"
        write(folder / "gpu_id", f"{identity}\n")
        write(folder / "properties", f"cpu_cores_count 0\nunique_id {node * 16}\n")


def set_all(monkeypatch, **variables):
    for name, value in variables.items():
        monkeypatch.setenv(f"{name}_VISIBLE_DEVICES", value)


@pytest.mark.parametrize(
    "names",
    ["", "-1", "NoDevFiles", "0", "2,0", "0,-1,1", "0,,1", "0, 1", "+1,2x", "1,1", "x,0", "0,x,1",
     "GPU-8f2a,GPU-77", "GPU-8f2a,0", "GPU-8f2a,GPU-8f2a", "MIG-1,MIG-2", "MIG-1,GPU-2"],
)  # fmt: skip
def test_a_variable_is_read_as_pytorch_reads_it(monkeypatch, names):
    set_all(monkeypatch, CUDA=names)
    expected = [str(name) for name in torch.cuda._parse_visible_devices()]
    assert parse_names(names) == expected
    assert list_devices() == [Device(name, name) for name in expected]


def test_a_device_has_one_name_by_its_number_by_its_uuid_and_without_a_variable(
    machine, monkeypatch
):
    for number, uuid in ((0, "GPU-aa11"), (1, "GPU-bb22"), (3, "GPU-bb33")):
        add_nvidia(machine, number, uuid)
    assert list_devices() == [Device("0", "0"), Device("1", "1"), Device("2", "3")]
    set_all(monkeypatch, CUDA="2,0")
    assert list_devices() == [Device("2", "3"), Device("0", "0")]
    set_all(monkeypatch, CUDA="GPU-bb33,GPU-aa")
    assert list_devices() == [Device("GPU-bb33", "3"), Device("GPU-aa", "0")]
    set_all(monkeypatch, CUDA="GPU-bb")  # of two devices
    assert list_devices() == [Device("GPU-bb", "GPU-bb")]


def test_under_slurm_a_device_is_known_by_the_nodes_own_number(monkeypatch):
    set_all(monkeypatch, CUDA="0")
    monkeypatch.setenv("SLURM_JOB_GPUS", "5")
    assert list_devices() == [Device("0", "5")]
    set_all(monkeypatch, CUDA="0,1")
    monkeypatch.setenv("SLURM_JOB_GPUS", "2,7")
    assert list_devices() == [Device("0", "2"), Device("1", "7")]
    set_all(monkeypatch, CUDA="0")  # of a step that sees one of the job's two
    assert list_devices() == [Device("0", "0")]


def test_windows_subsystem_for_linux_has_a_gpu_where_it_has_nvidias_library(machine):
    write(machine / "dev/dxg")
    assert list_devices() == []
    write(machine / "usr/lib/wsl/lib/libcuda.so.1")
    assert list_devices() == [Device("0", "0")]


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, [("0", "0"), ("1", "1"), ("2", "2")]),
        ({"ROCR": "2,1"}, [("0", "2"), ("1", "1")]),
        ({"ROCR": "2,1", "CUDA": "2,1"}, [("0", "2"), ("1", "1")]),  # as Slurm sets them
        ({"ROCR": "2,1", "HIP": "1"}, [("1", "1")]),
        ({"ROCR": "GPU-0000000000000030"}, [("0", "2")]),
        ({"HIP": "2"}, [("2", "2")]),
        ({"HIP": "2", "CUDA": "0"}, [("2", "2")]),
        ({"CUDA": "1,-1,0"}, [("1", "1")]),
        ({"ROCR": ""}, []),
    ],
)
def test_amds_gpus_are_those_that_rocms_variables_leave(rocm, monkeypatch, variables, expected):
    set_all(monkeypatch, **variables)
    assert list_devices() == [Device(*each) for each in expected]


def test_amds_gpus_that_the_kernel_lets_nobody_read_are_not_listed_and_keep_their_numbers(
    rocm, machine
):
    node = machine / "sys/class/kfd/kfd/topology/nodes/2/gpu_id"
    node.unlink()
    node.mkdir()  # an OSError to read
    assert list_devices() == [Device("0", "0"), Device("1", "2")]


@pytest.mark.parametrize("variable", ["HIP", "ROCR", "CUDA"])
def test_of_amds_gpus_a_job_sees_the_leased_one_alone(rocm, monkeypatch, tmp_path, variable):
    set_all(monkeypatch, **{variable: "2,1"})
    monkeypatch.setenv(PRETEND, "1")
    monkeypatch.setenv("VTCLIP_LEASES", str(tmp_path / "leases"))
    expected = "0" if variable == "ROCR" else "2"
    before = dict(os.environ)
    with lease_device("auto"):
        assert os.environ["HIP_VISIBLE_DEVICES"] == expected
        (lock,) = (tmp_path / "leases").glob("*/*.lock")
        assert lock.name == "gpu-2-slot0.lock"
    assert os.environ == before


def test_apples_gpu_is_listed_where_it_is_wanted_and_nothing_for_the_cpu(machine):
    add_nvidia(machine, 0, "GPU-a")
    assert list_devices("mps") == [Device("mps", "mps")]
    assert list_devices("cpu") == []
