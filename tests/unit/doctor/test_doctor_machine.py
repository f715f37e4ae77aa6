"""The machine itself and its limits."""

from __future__ import annotations

import email.utils
import importlib.util
import platform
import sys
import time
from pathlib import Path

import pytest

from stack.doctor import limits
from stack.doctor import machine as machine_checks
from stack.doctor.finding import FAULT, NONE, OK, WARNING
from tests.unit.doctor.machines import Hub, Machine, says

MEMINFO = "MemTotal: {} kB\nMemAvailable: {} kB\nSwapTotal: {} kB\nSwapFree: {} kB\n"
GIB = 1 << 20  # in kB


def test_platform(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    says(machine.find("platform"), OK, "Linux")
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    says(machine.find("platform"), FAULT, "on riscv64", "is not supported", cure="x86_64 or aarch64")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(platform, "release", lambda: "4.18.0-553.el8.x86_64")
    says(machine.find("platform"), WARNING, "4.18", "5.3", cure="docker runtime")


def test_python(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    says(machine.find("Python"), OK, platform.python_version())
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ensurepip" else found(name))
    says(machine.find("Python"), FAULT, "no venv module", cure="python3-venv")
    monkeypatch.setattr(sys, "version_info", (3, 9, 18))
    says(machine.find("Python"), FAULT, "3.11, 3.12 or 3.13 is needed", "3.9", cure="PYTHON=")
    machine.program("python3.12", "echo 3.12")
    says(machine.find("Python"), OK, "3.12", "bin/python3.12")


def test_command_line_that_could_not_be_installed(machine: Machine) -> None:
    says(machine.find("command line"), NONE, "not made yet")
    machine.layout.environments.mkdir()
    log = machine.layout.environments / "cli-abc.log"
    log.write_text("Collecting rich\nERROR: No matching distribution found for rich==15.0\n")
    says(machine.find("command line"), FAULT, "No matching distribution found for rich", cure=str(log))
    made = machine.layout.environments / "cli-abc"
    made.mkdir()
    (made / ".complete").touch()
    says(machine.find("command line"), WARNING, "its Python is gone", cure="delete that folder")


def test_libraries(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    says(machine.find("libnuma"), OK, "libnuma.so.1")
    machine.changes["library"] = lambda name: None
    says(machine.find("libnuma"), FAULT, "libnuma.so.1 is missing", cure="apt install libnuma1")
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    says(machine.find("glibc"), FAULT, "glibc 2.28", cure="docker runtime")
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.17"))
    says(machine.find("glibc"), FAULT, "glibc 2.17", cure="newer distribution")


def test_memory(machine: Machine) -> None:
    machine.proc(meminfo=MEMINFO.format(4 * GIB, 3 * GIB, 0, 0))
    says(machine.find("memory"), FAULT, "3.0 GiB of 4.0 GiB", "no swap", cure="more memory")
    machine.proc(meminfo=MEMINFO.format(16 * GIB, 2 * GIB, 0, 0), **{"77__status": "Name:\tchrome\nVmRSS:\t  9437184 kB\n"})
    says(machine.find("memory"), WARNING, "2.0 GiB of 16.0 GiB", "chrome (pid 77, 9.0 GiB)", cure="end programs")
    machine.proc(meminfo=MEMINFO.format(64 * GIB, 6 * GIB, 8 * GIB, 1 * GIB))
    says(machine.find("memory"), WARNING, "swapping", cure="smaller model")
    machine.proc(meminfo=MEMINFO.format(64 * GIB, 60 * GIB, 8 * GIB, 8 * GIB))
    says(machine.find("memory"), OK, "60.0 GiB of 64.0 GiB")


def test_clock_against_the_hub(machine: Machine, hub: Hub) -> None:
    says(machine.find("clock"), OK, "within a minute")
    machine.changes["now"] = lambda: time.time() + 3 * 3600
    says(machine.find("clock"), WARNING, "3 hours ahead", cure="timedatectl")
    machine.changes["now"] = lambda: time.time() - 400 * 86400
    says(machine.find("clock"), FAULT, "400 days behind", cure="timedatectl")
    hub.answers["/"] = (200, {"Date": email.utils.formatdate(0)}, "")
    machine.changes["now"] = time.time
    says(machine.find("clock"), FAULT, "days ahead", cure="timedatectl")


def test_clock_without_a_server(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.changes["now"] = lambda: 1e9
    says(machine.find("clock"), FAULT, "before this program's own files", cure="timedatectl")
    machine.changes["now"] = time.time
    for answer, level in ((False, WARNING), (True, OK), (None, NONE)):
        monkeypatch.setattr(machine_checks, "kernel_clock", lambda answer=answer: answer)
        says(machine.find("clock"), level)


def test_the_kernel_says_whether_its_clock_is_kept() -> None:
    assert machine_checks.kernel_clock() in (True, False, None)


def test_no_home(machine: Machine) -> None:
    del machine.environ["HOME"]
    says(machine.find("home"), WARNING, "HOME is not set", cure="export HOME=")
    machine.changes["uid"] = 987654
    says(machine.find("home"), FAULT, "HOME is not set", cure="HF_HOME")
    machine.environ["HF_HOME"] = "/srv/hf"
    says(machine.find("home"), OK, "/srv/hf")


def _cgroup(machine: Machine, **files: str) -> None:
    """A control group of version 2, two levels deep, of which the upper has the limits."""
    base = machine.folder / "sys" / "fs" / "cgroup"
    (base / "job" / "step").mkdir(parents=True, exist_ok=True)
    (base / "cgroup.controllers").write_text("cpu memory pids\n")
    machine.proc(self__cgroup="0::/job/step\n", meminfo=MEMINFO.format(64 * GIB, 60 * GIB, 0, 0))
    for name, text in {"memory_max": "max", "cpu_max": "max 100000", "pids_max": "max", **files}.items():
        (base / "job" / name.replace("_", ".")).write_text(f"{text}\n")
        (base / "job" / "step" / name.replace("_", ".")).write_text("max\n")


def test_control_group_version_2(machine: Machine) -> None:
    _cgroup(machine)
    says(machine.find("control group"), OK, "version 2", "no limits")
    _cgroup(machine, memory_max=str(2 << 30))
    says(machine.find("control group"), FAULT, "2.0 GiB", cure="MemoryMax=")
    _cgroup(machine, cpu_max="50000 100000")
    says(machine.find("control group"), WARNING, "0.5 processors", cure="CPUQuota=")
    _cgroup(machine, pids_max="100")
    says(machine.find("control group"), WARNING, "100 processes", cure="TasksMax=")
    _cgroup(machine, memory_max=str(32 << 30))
    says(machine.find("control group"), OK, "memory 32.0 GiB")


def test_control_group_version_1(machine: Machine) -> None:
    memory = machine.folder / "sys" / "fs" / "cgroup" / "memory"
    memory.mkdir(parents=True)
    machine.proc(self__cgroup="4:memory:/docker/0123\n2:cpu,cpuacct:/\n")
    (memory / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    says(machine.find("control group"), OK, "version 1", "no limits")
    (memory / "memory.limit_in_bytes").write_text(f"{1 << 30}\n")
    says(machine.find("control group"), FAULT, "1.0 GiB", cure="--memory")


def test_shared_memory(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    says(machine.find("shared memory"), OK, "free")
    monkeypatch.setattr(limits, "LEAST_SHM", 1 << 60)
    says(machine.find("shared memory"), WARNING, "vLLM wants", cure="--shm-size")
    (machine.folder / "dev" / "shm").rmdir()
    says(machine.find("shared memory"), FAULT, "is not there", cure="mount -t tmpfs")


def test_ulimits(machine: Machine) -> None:
    text = "Limit Soft Limit Hard Limit Units\nMax processes  {}  {} processes\nMax open files  1024  {} files\nMax locked memory  {}  {} bytes\n"
    machine.proc(self__limits=text.format(99999, 99999, 65536, 8388608, 8388608))
    says(machine.find("ulimits"), OK, "65536 open files", "8.0 MiB")
    machine.proc(self__limits=text.format(99999, 99999, 1024, 8388608, 8388608))
    says(machine.find("ulimits"), WARNING, "at most 1024 files", cure="ulimit -Hn")
    machine.proc(self__limits=text.format(200, 200, 65536, 8388608, 8388608))
    machine.changes["uid"] = 1000
    says(machine.find("ulimits"), WARNING, "200 processes", cure="ulimit -u")
    machine.proc(self__limits=text.format(99999, 99999, 65536, 8388608, 8388608))
    machine.environ["NCCL_IB_DISABLE"] = "0"
    says(machine.find("ulimits"), WARNING, "InfiniBand", cure="memlock")


def test_limits_do_not_concern_containers(machine: Machine) -> None:
    machine.environ["RUNTIME"] = "docker"
    for name in ("libnuma", "glibc", "shared memory", "ulimits"):
        says(machine.find(name), NONE, "containers")


def test_a_folder_for_temporary_files_that_is_not_there(machine: Machine, tmp_path: Path) -> None:
    machine.environ["TMPDIR"] = str(tmp_path / "gone")
    says(machine.find("temporary folder"), FAULT, "is not a folder", cure="TMPDIR")
