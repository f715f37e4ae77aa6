"""The NVIDIA driver, the GPUs and their memory."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from stack.doctor import dockerfacts, gpufacts, hub
from stack.doctor.finding import Check, Finding, fault, none, ok, warning
from stack.doctor.gpufacts import Facts, Gpu, facts
from stack.doctor.knobs import DEFAULTS, Knobs, knobs
from stack.doctor.memory import meminfo
from stack.doctor.probe import Probe, first_line, read, size, version

# CUDA's major version -> the oldest driver that runs it (NVIDIA, CUDA Compatibility, minor version compatibility).
DRIVERS = {12: 525, 13: 580}
# The oldest GPUs CUDA 13 compiles for are Turing's (CUDA 13.0 release notes); before, Volta's.
CAPABILITIES = {12: (7, 0), 13: (7, 5)}
UTILIZATION = 0.9  # vLLM's --gpu-memory-utilization when it is not given
INSTALL = "install NVIDIA's driver (Ubuntu: sudo ubuntu-drivers install; others: their packages), then restart the machine"


def cuda(probe: Probe) -> int:
    """CUDA's major version that the pinned vLLM was built for: the lock file says it, and the image has the same."""
    lock = probe.layout.requirements / "engine-cuda.txt"
    match = re.search(r"^nvidia-cuda-runtime==(\d+)\.", read(lock), re.MULTILINE)
    return int(match[1]) if match else max(DRIVERS)


def driver(probe: Probe) -> Iterable[Finding]:
    """Whether the driver is there, works, and is new enough."""
    found, wanted = facts(probe), knobs(probe)
    if not found.there and not found.program:
        if wanted["ENGINE_BUILD"] == "cuda":
            yield fault(
                "ENGINE_BUILD=cuda, and no NVIDIA GPU is seen", "use ENGINE_BUILD=auto, or see to the GPU: lspci -d 10de:"
            )
        else:
            yield none("no NVIDIA GPU is seen; vLLM's CPU build is used")
    elif wanted["ENGINE_BUILD"] == "cpu" and dockerfacts.runtime(probe) == "native":
        yield none("ENGINE_BUILD=cpu does without")
    elif not found.program:
        shown = f"an NVIDIA GPU is there (PCI {', '.join(found.cards)})" if found.cards else "an NVIDIA GPU is there"
        yield fault(f"{shown}, but nvidia-smi is not: its driver is not installed", INSTALL)
    elif not found.gpus:
        yield _broken(found)
    else:
        yield _new_enough(probe, found, wanted)


def _broken(found: Facts) -> Finding:
    """What nvidia-smi's complaint means."""
    said = f"{found.ran.out} {found.ran.err}".lower()
    what = f"nvidia-smi fails: {first_line(found.ran.out, found.ran.err) or f'exit status {found.ran.status}'}"
    if found.ran.late:
        return fault(
            f"nvidia-smi {found.ran.err}: the driver hangs", "restart the machine; see: sudo dmesg | grep -i -e nvrm -e xid"
        )
    if "driver/library version mismatch" in said:
        return fault(f"{what}: the driver was updated and the old one is still loaded", "restart the machine")
    if "couldn't communicate" in said or "could not communicate" in said:
        cure = "sudo modprobe nvidia; if that fails: dmesg | grep -i nvidia (Secure Boot? kernel headers?), or reinstall it"
        if not found.there:
            return warning(
                f"{what}, and no NVIDIA GPU is seen; vLLM's CPU build is used", "remove the driver, or see: lspci -d 10de:"
            )
        return fault(f"{what}: the kernel module is not loaded", cure)
    if "no devices were found" in said:
        if not found.there:
            return none("nvidia-smi is there, a GPU is not; vLLM's CPU build is used")
        return fault(f"{what}: the driver cannot use the GPU", "sudo dmesg | grep -i -e nvrm -e xid; often a restart helps")
    if "gpu is lost" in said or "unable to determine the device handle" in said:
        return fault(
            f"{what}: the GPU has fallen off the bus", "restart the machine; if it comes again: power, cooling, seating"
        )
    if "permission" in said:
        return fault(
            what, "this user may not use /dev/nvidia*: see their group (ls -l /dev/nvidia0), or RmInitFailed in dmesg"
        )
    return fault(what, "see: nvidia-smi, sudo dmesg | grep -i -e nvrm -e xid")


def _new_enough(probe: Probe, found: Facts, wanted: Knobs) -> Finding:
    number, needs = found.gpus[0].driver, cuda(probe)
    oldest = DRIVERS.get(needs, 0)
    shown = f"version {number}"
    image = wanted.image or wanted["VLLM_IMAGE"]
    if version(number) >= (oldest,):
        return ok(f"{shown}, enough for CUDA {needs}")
    cure = f"install driver {oldest} or newer"
    if dockerfacts.runtime(probe) == "docker" and image != DEFAULTS["VLLM_IMAGE"]:
        what = f"{shown}; the pinned vLLM needs {oldest} (CUDA {needs}), what {image} needs is not known"
        return warning(what, f"if the engine ends with a CUDA error: {cure}")
    if wanted.env.get("VLLM_ENABLE_CUDA_COMPATIBILITY", "0").lower() in ("1", "true"):
        what = f"{shown} is older than CUDA {needs} asks for ({oldest}); VLLM_ENABLE_CUDA_COMPATIBILITY may bridge that"
        return warning(what, f"if the engine ends with a CUDA error: {cure}")
    return fault(f"{shown} is too old for CUDA {needs} of the pinned vLLM, which needs {oldest}", cure)


def gpus(probe: Probe) -> Iterable[Finding]:
    """Each GPU: can it run vLLM, and is its memory free."""
    found, wanted = facts(probe), knobs(probe)
    if not found.gpus or (wanted["ENGINE_BUILD"] == "cpu" and dockerfacts.runtime(probe) == "native"):
        yield none("no NVIDIA GPU is used")
        return
    oldest = CAPABILITIES.get(cuda(probe), (0, 0))
    for gpu in found.gpus:
        if gpu.capability and version(gpu.capability) < oldest:
            needs = ".".join(map(str, oldest))
            what = f"GPU {gpu.index}, {gpu.name}, has compute capability {gpu.capability}; vLLM's build needs {needs}"
            yield fault(what, "hide it (CUDA_VISIBLE_DEVICES), use ENGINE_BUILD=cpu, or another GPU")
        else:
            yield _memory(probe, gpu, wanted)


def _memory(probe: Probe, gpu: Gpu, wanted: Knobs) -> Finding:
    shown = f"GPU {gpu.index}, {gpu.name}"
    total, free = gpu.total, gpu.free
    if not total:
        machine = meminfo(probe)
        total, free = machine.get("MemTotal", 0), machine.get("MemAvailable", 0)
        shown += " (memory shared with the processor)"
    shown += f": {size(free)} of {size(total)} free"
    share = _share(wanted)
    if free >= share * total:
        return ok(shown)
    if dockerfacts.stack_runs(probe):
        return ok(f"{shown}; this stack runs on it")
    users = sorted(gpufacts.users(probe), key=lambda one: -one.used)
    names = ", ".join(f"{one.name} (pid {one.pid}{f', {size(one.used)}' if one.used else ''})" for one in users[:5])
    used = f"; used by {names}" if names else ""
    what = f"{shown}, and vLLM will take {share:.0%} of it or not start{used}"
    pids = " ".join(str(one.pid) for one in users[:5])
    stop = f"end them (kill {pids})" if pids else "see who has it: nvidia-smi; fuser -v /dev/nvidia*"
    if not gpu.total:
        stop = f"{stop}; page cache counts as free, other programs do not: free -h"
    return fault(what, f"{stop}, or give a smaller --gpu-memory-utilization in the model's command")


def _share(wanted: Knobs) -> float:
    try:
        return min(max(float(wanted.option("--gpu-memory-utilization") or UTILIZATION), 0.0), 1.0)
    except ValueError:
        return UTILIZATION


def fits(probe: Probe) -> Iterable[Finding]:
    """The weights against the memory they go to."""
    wanted, found = knobs(probe), facts(probe)
    need = hub.weights_size(probe)
    if not need:
        yield none("the size of the model's weights is not known here")
        return
    on_gpu = bool(found.gpus) and wanted["ENGINE_BUILD"] != "cpu"
    own = sum(gpu.total for gpu in found.gpus) if on_gpu else 0
    room, where = (own, "GPU memory") if own else (meminfo(probe).get("MemTotal", 0), "memory")
    shown = f"the weights of {wanted.repository} are {size(need)}, {where} is {size(room)}"
    if room and need > room:
        cure = "choose a smaller or more strongly quantised model: ./runMe.sh models"
        yield fault(shown, cure if own or not found.there else f"{cure}; the GPU is not usable, see above")
    else:
        yield ok(shown)


def devices(probe: Probe) -> Iterable[Finding]:
    """Device files of the GPU, for a user that is not root."""
    if not facts(probe).gpus or dockerfacts.runtime(probe) == "docker":
        yield none("no NVIDIA GPU is used by this user")
        return
    closed = [str(path) for path in _devices(probe) if not os.access(path, os.R_OK | os.W_OK)]
    if closed:
        yield fault(f"this user may not use {', '.join(closed)}", "join the group it belongs to (ls -l), then log in again")
    else:
        yield ok("this user may use them")


def _devices(probe: Probe) -> list[Path]:
    return [path for name in ("nvidiactl", "nvidia0", "nvidia-uvm") if (path := probe.dev / name).exists()]


CHECKS = (
    Check("NVIDIA driver", driver),
    Check("GPU", gpus),
    Check("GPU device files", devices),
    Check("model and memory", fits),
)
