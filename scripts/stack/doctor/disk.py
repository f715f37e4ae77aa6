"""Folders that are written to: space, inodes, rights."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from stack.doctor import cache, dockerfacts, environments, hub
from stack.doctor.finding import FAULT, Check, Finding, fault, none, ok, warning
from stack.doctor.knobs import knobs
from stack.doctor.probe import Probe, limited, size

GIB = 1 << 30
LEAST_STATE = GIB  # logs, database, releases
LEAST_INODES = 50_000  # the engine's environment alone has some 40,000 files
# A rule of thumb, not measured here: the images of vLLM, LiteLLM and PostgreSQL, unpacked.
IMAGES = 30 * GIB


def weights(probe: Probe) -> Iterable[Finding]:
    """Where weights are kept."""
    wanted = knobs(probe)
    folder = cache.hub(probe)
    if wanted.local:
        yield none(f"the model is a folder: {wanted.repository}")
        return
    there = cache.cached(probe)
    if there.whole:
        for one in _examined(probe, folder, 0, "the model is there", "", "HF_HOME"):
            yield warning(one.what, one.cure) if one.level == FAULT else one  # it only has to be read
        return
    known = hub.weights_size(probe)
    need = max(known - there.size - there.unfinished, 0)
    why = f"for {wanted.repository}" if known else f"the size of {wanted.repository or 'the model'} is not known here"
    cure = "delete models that are not needed (hf cache ls, hf cache rm), or set HF_HOME to a folder on a larger disk"
    yield from _examined(probe, folder, need or GIB, why, cure, "HF_HOME")


def state(probe: Probe) -> Iterable[Finding]:
    """What is written at run time."""
    yield from _examined(
        probe, probe.layout.state, LEAST_STATE, "logs, releases, database", "free space, or set STATE_DIR", "STATE_DIR"
    )


def installed(probe: Probe) -> Iterable[Finding]:
    """Where environments are installed."""
    missing = environments.missing(probe)
    need = sum(environments.SIZES.get(name, 0) for name in missing)
    why = f"to install: {', '.join(missing)}" if missing else "all environments are installed"
    inodes = LEAST_INODES if any(name.startswith("engine") for name in missing) else 1000
    cure = "free space, or set ENVS_DIR to a folder on a larger disk"
    yield from _examined(probe, probe.layout.environments, need, why, cure, "ENVS_DIR", inodes, programs=True)


def temporary(probe: Probe) -> Iterable[Finding]:
    """Where programs put what they need for a moment."""
    folder = probe.expand(probe.environ.get("TMPDIR", "").strip() or "/tmp")  # noqa: S108 - what programs use
    if not folder.is_dir():
        yield fault(f"{folder} is not a folder", "make it: mkdir -m 1777, or set TMPDIR to a folder that is there")
        return
    yield from _examined(probe, folder, GIB, "temporary files", "delete old files there, or set TMPDIR", "TMPDIR")


def docker_root(probe: Probe) -> Iterable[Finding]:
    """Where Docker keeps images and volumes."""
    info = dockerfacts.facts(probe).info
    folder = Path(str(info.get("DockerRootDir", "")))
    if dockerfacts.runtime(probe) != "docker" or not info or not str(info.get("DockerRootDir", "")):
        yield none("no containers are used")
        return
    if not _above(folder).is_dir() or not folder.is_absolute():
        yield none(f"{folder} is not on this machine")
        return
    image = probe.run(
        "docker", "image", "inspect", "--format", "{{.Id}}", str(knobs(probe).image or knobs(probe)["VLLM_IMAGE"])
    )
    need = 2 * GIB if image.status == 0 else IMAGES
    why = "images are there" if image.status == 0 else "the images are to be fetched, some tens of GB"
    cure = "docker system prune (removes what no container uses), or move data-root in /etc/docker/daemon.json"
    yield from _space(folder, _above(folder), need, why, cure, 1000)


def _above(folder: Path) -> Path:
    """The folder itself, or the nearest above it that is there."""
    return next((one for one in (folder, *folder.parents) if os.path.lexists(one)), Path("/"))


def _examined(
    probe: Probe, folder: Path, need: int, why: str, cure: str, variable: str, inodes: int = 1000, programs: bool = False
) -> Iterable[Finding]:
    """Everything about a folder that is to be written to; a disk that hangs ends the check."""
    yield from limited(lambda: list(_folder(folder, need, why, cure, variable, inodes, programs)), probe.seconds)


def _folder(folder: Path, need: int, why: str, cure: str, variable: str, inodes: int, programs: bool) -> Iterable[Finding]:
    above = _above(folder)
    if not above.is_dir():
        if above.is_symlink():
            yield fault(
                f"{folder}: {above} is a link to {above.readlink()}, which is not there", f"correct it: ls -l {above}"
            )
        else:
            yield fault(f"{folder}: {above} is not a folder", f"move it away: mv {above} {above}.old")
        return
    stat = os.statvfs(above)
    if stat.f_flag & os.ST_RDONLY:
        yield fault(
            f"{folder} is on a file system that is mounted read-only",
            f"see: findmnt -T {above}; dmesg says why, if it is new",
        )
        return
    reason = _unwritable(above)
    if reason:
        owner = f"{above}, of uid {above.stat().st_uid}: {reason}"
        if above == folder:
            yield fault(
                f"{folder} cannot be written to ({owner})",
                f"sudo chown -R $(id -u):$(id -g) {folder}, or set {variable} to another folder",
            )
        else:
            make = f"sudo mkdir -p {folder} && sudo chown $(id -u):$(id -g) {folder}"
            yield fault(f"{folder} cannot be made ({owner})", f"{make}, or set {variable} to another folder")
        return
    if programs and stat.f_flag & os.ST_NOEXEC:
        yield fault(
            f"{folder} is mounted noexec: nothing installed there can run", "set ENVS_DIR to a folder on another disk"
        )
        return
    yield from _space(folder, above, need, why, cure, inodes)


def _space(folder: Path, above: Path, need: int, why: str, cure: str, inodes: int) -> Iterable[Finding]:
    stat = os.statvfs(above)
    free, left = stat.f_bavail * stat.f_frsize, stat.f_favail
    shown = f"{folder}: {size(free)} free"
    if free < need:
        yield fault(f"{shown}, {size(need)} are needed ({why})", cure)
    elif stat.f_files and left < inodes:  # file systems without a fixed number of inodes say 0
        yield fault(f"{folder}: {left} inodes are left, {inodes} are needed ({why})", "delete many small files: df -i")
    elif free < need * 11 // 10 or free < GIB // 2:
        yield warning(f"{shown}, which is little ({why})", cure)
    else:
        yield ok(f"{shown} ({why})")


def _unwritable(folder: Path) -> str:
    """Why nothing can be written there; empty if it can. A file without a name is tried, of which nothing is left."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except OSError as error:
        return error.strerror or str(error)


CHECKS = (
    Check("weights folder", weights),
    Check("environments folder", installed),
    Check("state folder", state),
    Check("temporary folder", temporary),
    Check("Docker's folder", docker_root),
)
