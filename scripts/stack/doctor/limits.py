"""Limits that were set for this process: cgroup, shared memory, ulimits."""

from __future__ import annotations

import os
import re
import resource
from collections.abc import Iterable, Iterator
from pathlib import Path

from stack.doctor import dockerfacts
from stack.doctor.finding import Check, Finding, fault, none, ok, warning
from stack.doctor.knobs import knobs
from stack.doctor.memory import SMALLEST_STACK
from stack.doctor.probe import Probe, read, size

LEAST_PIDS = 1024  # vLLM, PostgreSQL and Node have a few hundred threads; their libraries as many as there are processors
WANTED_FILES = 4096  # engine and gateway raise their soft limit to the hard one; each connection is a file
LEAST_SHM = 1 << 30  # with which vLLM ran here; the engine's processes hand each other data there
UNLIMITED = 1 << 60  # cgroup v1 writes a number near 2**63


def cgroup(probe: Probe) -> Iterable[Finding]:
    """Limits of the control group this process is in, which the native runtime's processes inherit."""
    base = probe.sys / "fs" / "cgroup"
    unified = (base / "cgroup.controllers").exists()
    shown = f"version {2 if unified else 1}"
    if not base.is_dir():
        yield none("the system shows no control groups")
        return
    if dockerfacts.runtime(probe) == "docker":
        yield none(f"{shown}; the containers have groups of their own")
        return
    groups = {name: _own(probe, base, name, unified) for name in ("memory", "cpu", "pids")}
    most = _least(groups["memory"], "memory.max" if unified else "memory.limit_in_bytes")
    pids = _least(groups["pids"], "pids.max")
    processors = _processors(groups["cpu"], unified)
    found = []
    if most is not None and most < SMALLEST_STACK:
        what = f"memory is limited to {size(most)} by the control group; the smallest model's stack takes 5 GiB"
        found.append(fault(what, "raise it (docker run --memory, systemd MemoryMax=, the batch system's request)"))
    if processors is not None and processors < 1:
        what = f"the control group gives {processors:.1f} processors: a model that takes half a minute to load takes several"
        found.append(warning(what, "raise it (docker run --cpus, systemd CPUQuota=)"))
    if pids is not None and pids < LEAST_PIDS:
        what = f"the control group allows {pids} processes and threads: vLLM will fail to start threads"
        found.append(warning(what, f"raise it to {LEAST_PIDS} or more (docker run --pids-limit, systemd TasksMax=)"))
    said = [f"memory {size(most)}"] if most is not None else []
    said += [f"{processors:.1f} processors"] if processors is not None else []
    said += [f"{pids} processes"] if pids is not None else []
    yield from found or [ok(f"{shown}, {', '.join(said) or 'no limits'}")]


def _own(probe: Probe, base: Path, controller: str, unified: bool) -> list[Path]:
    """The folders of this process's group and of those above it, as each may set a limit."""
    root, inside = (base, "/") if unified else (base / controller, "/")
    for line in read(probe.proc / "self" / "cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if (unified and not controllers) or (not unified and controller in controllers.split(",")):
            inside = path
    folder = root / inside.lstrip("/")
    if not folder.is_dir():  # in a container the path is the host's
        folder = root
    return [one for one in (folder, *folder.parents) if one == root or root in one.parents]


def _least(folders: list[Path], name: str) -> int | None:
    values = [int(text) for text in (read(folder / name) for folder in folders) if text.isdigit()]
    return min((value for value in values if value < UNLIMITED), default=None)


def _processors(folders: list[Path], unified: bool) -> float | None:
    found = []
    for folder in folders:
        if unified:
            quota, _, period = read(folder / "cpu.max").partition(" ")
        else:
            quota, period = read(folder / "cpu.cfs_quota_us"), read(folder / "cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit() and int(period):
            found.append(int(quota) / int(period))
    return min(found, default=None)


def shared_memory(probe: Probe) -> Iterable[Finding]:
    """Shared memory, through which the engine's processes hand each other data."""
    if dockerfacts.runtime(probe) == "docker":
        yield none("docker-compose.yml gives the containers theirs")
        return
    folder = probe.dev / "shm"
    if not folder.is_dir():
        yield fault(f"{folder} is not there: the engine's processes cannot share memory", f"mount -t tmpfs shm {folder}")
        return
    if not os.access(folder, os.W_OK | os.X_OK):
        yield fault(f"{folder} cannot be written to: the engine's processes cannot share memory", f"chmod 1777 {folder}")
        return
    stat = os.statvfs(folder)
    total, free = stat.f_blocks * stat.f_frsize, stat.f_bavail * stat.f_frsize
    if free < LEAST_SHM:
        what = f"{folder} has {size(free)} of {size(total)} free; vLLM wants 1 GiB"
        if total < LEAST_SHM:
            yield warning(what, f"enlarge it: mount -o remount,size=8g {folder}; in a container: docker run --shm-size 8g")
        else:
            yield warning(what, f"delete what dead programs have left there: ls -la {folder}")
    else:
        yield ok(f"{size(free)} of {size(total)} free")


def ulimits(probe: Probe) -> Iterable[Finding]:
    """Open files, processes and locked memory."""
    if dockerfacts.runtime(probe) == "docker":
        yield none("the containers have their own")
        return
    found = list(_ulimits(probe))
    files, locked = _limit(probe, "Max open files", resource.RLIMIT_NOFILE), _locked(probe)
    yield from found or [ok(f"{_count(files[1])} open files, {'all' if locked < 0 else size(locked)} memory may be locked")]


def _ulimits(probe: Probe) -> Iterator[Finding]:
    _, files = _limit(probe, "Max open files", resource.RLIMIT_NOFILE)
    if 0 <= files < WANTED_FILES:
        what = f"at most {files} files may be open (hard limit), and each connection is one"
        cure = "raise it: ulimit -Hn 65535, or nofile in /etc/security/limits.conf"
        yield fault(what, cure) if files < 256 else warning(what, cure)
    processes, _ = _limit(probe, "Max processes", resource.RLIMIT_NPROC)
    if 0 <= processes < LEAST_PIDS and probe.uid != 0:
        what = f"this user may have {processes} processes and threads"
        yield warning(what, f"raise it: ulimit -u {4 * LEAST_PIDS}, or nproc in /etc/security/limits.conf")
    locked = _locked(probe)
    # NCCL registers its buffers with the card.
    if knobs(probe).env.get("NCCL_IB_DISABLE") == "0" and 0 <= locked < 1 << 30:
        what = f"{size(locked)} of memory may be locked; InfiniBand (NCCL_IB_DISABLE=0) needs more"
        yield warning(what, "raise it: ulimit -l unlimited, or memlock in /etc/security/limits.conf")


def _limit(probe: Probe, name: str, number: int) -> tuple[int, int]:
    """Soft and hard limit; -1 for none."""
    match = re.search(rf"^{name}\s+(\S+)\s+(\S+)", read(probe.proc / "self" / "limits"), re.MULTILINE)
    if match:
        soft, hard = (int(text) if text.isdigit() else -1 for text in match.groups())
        return soft, hard
    return resource.getrlimit(number)


def _locked(probe: Probe) -> int:
    return _limit(probe, "Max locked memory", resource.RLIMIT_MEMLOCK)[0]


def _count(number: int) -> str:
    return str(number) if number >= 0 else "any number of"


CHECKS = (Check("control group", cgroup), Check("shared memory", shared_memory), Check("ulimits", ulimits))
