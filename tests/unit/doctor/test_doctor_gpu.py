"""NVIDIA driver and GPUs, by an nvidia-smi that prints what real ones do."""

from __future__ import annotations

import pytest

from stack.doctor import gpu
from stack.doctor.finding import FAULT, NONE, OK, WARNING
from stack.runtime.layout import REPOSITORY
from tests.unit.doctor.machines import FRAGMENT, MODEL, Hub, Machine, says

H100 = "0, NVIDIA H100 80GB HBM3, 580.95.05, 81559, 81008, 9.0"
GB10 = "0, NVIDIA GB10, 580.95.05, [N/A], [N/A], 12.1"
MEMINFO = "MemTotal:       127615060 kB\nMemAvailable:   {} kB\nSwapTotal:  0 kB\nSwapFree:  0 kB\n"


@pytest.fixture
def gpu_machine(machine: Machine) -> Machine:
    """A machine with a card."""
    machine.card()
    return machine


def test_no_gpu(machine: Machine) -> None:
    says(machine.find("NVIDIA driver"), NONE, "CPU build")
    machine.environ["ENGINE_BUILD"] = "cuda"
    says(machine.find("NVIDIA driver"), FAULT, "ENGINE_BUILD=cuda", cure="ENGINE_BUILD=auto")


def test_card_without_a_driver(gpu_machine: Machine) -> None:
    says(gpu_machine.find("NVIDIA driver"), FAULT, "0000:01:00.0", "driver is not installed", cure="install NVIDIA's driver")
    gpu_machine.environ.update(ENGINE_BUILD="cpu", RUNTIME="native")
    says(gpu_machine.find("NVIDIA driver"), NONE, "ENGINE_BUILD=cpu")


@pytest.mark.parametrize(
    ("status", "said", "words", "cure"),
    [
        (
            9,
            "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest NVIDIA driver is installed and running.",
            "kernel module is not loaded",
            "modprobe nvidia",
        ),
        (
            18,
            "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 580.95",
            "updated",
            "restart the machine",
        ),
        (6, "No devices were found", "cannot use the GPU", "dmesg"),
        (
            15,
            "Unable to determine the device handle for GPU0000:01:00.0: GPU is lost.  Reboot the system to recover this GPU",
            "fallen off the bus",
            "restart the machine",
        ),
        (4, "Failed to initialize NVML: Insufficient Permissions", "Insufficient Permissions", "/dev/nvidia"),
        (255, "something new", "something new", "nvidia-smi"),
    ],
)
def test_driver_that_fails(gpu_machine: Machine, status: int, said: str, words: str, cure: str) -> None:
    gpu_machine.nvidia(said, status=status)
    says(gpu_machine.find("NVIDIA driver"), FAULT, words, said.splitlines()[0][:40], cure=cure)


def test_driver_that_hangs(gpu_machine: Machine) -> None:
    gpu_machine.program("nvidia-smi", "exec /bin/sleep 60")
    gpu_machine.changes["seconds"] = 0.3
    says(gpu_machine.find("NVIDIA driver"), FAULT, "hangs", cure="restart the machine")


def test_program_without_a_card_is_no_fault(machine: Machine) -> None:
    machine.nvidia("No devices were found", status=6)
    says(machine.find("NVIDIA driver"), NONE, "CPU build")


def test_driver_too_old_for_the_pinned_cuda(gpu_machine: Machine) -> None:
    assert gpu.cuda(gpu_machine.probe()) == 13
    gpu_machine.nvidia(H100.replace("580.95.05", "550.163.01"))
    says(gpu_machine.find("NVIDIA driver"), FAULT, "550.163.01", "CUDA 13", "580", cure="install driver 580")
    (gpu_machine.root / "vars.local.env").write_text("VLLM_ENABLE_CUDA_COMPATIBILITY=1\n")
    says(gpu_machine.find("NVIDIA driver"), WARNING, "550.163.01", "VLLM_ENABLE_CUDA_COMPATIBILITY", cure="580")
    gpu_machine.nvidia(H100)
    says(gpu_machine.find("NVIDIA driver"), OK, "580.95.05")


def test_every_pinned_cuda_has_its_driver(machine: Machine) -> None:
    assert gpu.cuda(machine.probe()) in gpu.DRIVERS
    assert gpu.cuda(machine.probe()) in gpu.CAPABILITIES
    assert (REPOSITORY / "scripts/requirements/engine-cuda.txt").exists()


def test_gpu_too_old(gpu_machine: Machine) -> None:
    gpu_machine.nvidia("0, Tesla V100-SXM2-16GB, 580.95.05, 16384, 16000, 7.0")
    says(gpu_machine.find("GPU"), FAULT, "V100", "7.0", "7.5", cure="CUDA_VISIBLE_DEVICES")


def test_memory_used_by_others(gpu_machine: Machine) -> None:
    gpu_machine.nvidia(H100.replace("81008", "20000"), apps="4711, /opt/train/bin/python3, 60500\n4712, ollama, 300")
    says(
        gpu_machine.find("GPU"),
        FAULT,
        "19.5 GiB of 79.6 GiB free",
        "90%",
        "python3 (pid 4711, 59.1 GiB)",
        "ollama",
        cure="kill 4711 4712",
    )
    fragment = gpu_machine.root / "models" / "m.yml"
    fragment.write_text(fragment.read_text().replace("4096", "4096 --gpu-memory-utilization 0.2"))
    says(gpu_machine.find("GPU"), OK, "19.5 GiB of 79.6 GiB free")


def test_unified_memory(gpu_machine: Machine) -> None:
    gpu_machine.nvidia(GB10)
    gpu_machine.proc(meminfo=MEMINFO.format(40_000_000))
    says(
        gpu_machine.find("GPU"),
        FAULT,
        "GB10",
        "shared with the processor",
        "38.1 GiB of 122 GiB",
        cure="--gpu-memory-utilization",
    )
    gpu_machine.proc(meminfo=MEMINFO.format(120_000_000))
    says(gpu_machine.find("GPU"), OK, "GB10", "shared with the processor")


def test_weights_that_do_not_fit(gpu_machine: Machine, hub: Hub) -> None:
    siblings = '{"siblings": [{"rfilename": "a.safetensors", "size": 58000000000}, {"rfilename": "original/b.safetensors", "size": 9}]}'
    hub.answers["/api/models/org/m"] = (200, {}, siblings)
    gpu_machine.nvidia("0, NVIDIA GeForce RTX 4090, 580.95.05, 24564, 24000, 8.9")
    says(gpu_machine.find("model and memory"), FAULT, "54.0 GiB", "GPU memory is 24.0 GiB", cure="smaller")
    gpu_machine.nvidia(H100)
    says(gpu_machine.find("model and memory"), OK, "54.0 GiB")


def test_weights_whose_size_is_recorded(machine: Machine) -> None:
    """By what `fit` knows, where neither the hub nor its cache says."""
    says(machine.find("model and memory"), NONE, "not known")
    machine.environ["MODEL"] = "step-3.5-flash"
    (machine.root / "models" / "step-3.5-flash.yml").write_text(FRAGMENT.replace(MODEL, "stepfun-ai/Step-3.5-Flash-FP8"))
    says(machine.find("model and memory"), FAULT, "194 GiB", "memory is", cure="smaller")
