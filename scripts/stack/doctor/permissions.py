"""Secrets and files that somebody else left."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from stack.doctor import cache, dockerfacts
from stack.doctor.finding import Check, Finding, fault, graded, none, ok, warning
from stack.doctor.probe import Probe
from stack.runtime import secret_files
from stack.runtime.layout import REPOSITORY

MOST = 4000  # files looked at
NAMES = (*secret_files.GENERATED, *secret_files.USER_GIVEN)


def secrets(probe: Probe) -> Iterable[Finding]:
    """That each secret can be read by its owner, and by nobody else."""
    folder, containers = probe.layout.secrets, dockerfacts.runtime(probe) == "docker"
    if os.path.lexists(folder) and not folder.is_dir():
        yield fault(f"{folder} is not a folder", f"move it away: mv {folder} {folder}.old")
        return
    if folder.is_dir() and not os.access(folder, os.R_OK | os.X_OK):
        yield fault(f"{folder} cannot be entered by this user", f"sudo chown -R $(id -u):$(id -g) {folder}")
        return
    given = {} if containers else probe.environ
    found = [
        fault(f"{one.place} {one.what}", one.cure or "one line of text in a file, or no file")
        for one in secret_files.check(folder, given)
    ]
    for name in secret_files.only_in_environment(folder, probe.environ):
        if name != "HF_TOKEN":  # that has a check of its own
            found.append(
                warning(f"{name} is set in the environment only; the stack reads secrets/{name}", "put it into that file")
            )
    there = [folder / name for name in NAMES if os.path.lexists(folder / name)]
    for path in there:
        found += _secret(probe, path, containers)
    for name in NAMES if containers else ():
        if probe.environ.get(f"{name}_FILE"):
            found.append(fault(f"{name}_FILE: containers see files in secrets/ only", f"copy the file to secrets/{name}"))
    if not there and not found:
        yield ok("none yet; the first start makes them")
    else:
        yield from found or [ok(f"{', '.join(path.name for path in there)}")]


def _secret(probe: Probe, path: Path, containers: bool) -> Iterator[Finding]:
    place = f"secrets/{path.name}"
    if containers and path.is_symlink() and not path.resolve().is_relative_to(path.parent):
        yield fault(
            f"{place} is a link out of the folder, which containers cannot follow", "put a copy of the file in its place"
        )
    try:
        info = path.stat()
    except OSError:
        return  # said by secret_files.check
    if not stat.S_ISREG(info.st_mode) or path.is_symlink():
        return
    if info.st_mode & 0o077:
        yield warning(f"{place} may be used by other users (mode {info.st_mode & 0o777:o})", f"chmod 600 {path}")
    if info.st_uid not in (probe.uid, 0) and probe.uid != 0:
        yield warning(f"{place} belongs to another user (uid {info.st_uid})", f"sudo chown $(id -u):$(id -g) {path}")


def owners(probe: Probe) -> Iterable[Finding]:
    """Files of root's, from an earlier start by root or by Docker, in the way of a user."""
    if probe.uid == 0:
        yield none("root may write everywhere")
        return
    found = []
    folders = [probe.layout.state, probe.layout.secrets, cache.hub(probe)]
    if probe.layout.state not in probe.layout.environments.parents:
        folders.append(probe.layout.environments)
    for folder in folders:
        foreign = next(_foreign(probe, folder), None)
        if foreign is not None:
            what = f"{foreign} belongs to root, from a start by root or in a container: this user may not write to it"
            only_read = folder == cache.hub(probe) and cache.cached(probe).whole
            found.append(graded(not only_read, what, f"sudo chown -R $(id -u):$(id -g) {folder}"))
    yield from found or [ok(f"nothing of root's is in the way in {', '.join(map(str, folders))}")]


def _foreign(probe: Probe, folder: Path) -> Iterator[Path]:
    """What is root's and closed, down to the third level; environments, which are many and only read, are left out."""
    level, left = [folder], MOST
    if os.path.lexists(folder) and _closed(folder):
        yield folder
    for _ in range(3):
        below = []
        for one in level:
            if one in (probe.layout.environments, probe.layout.postgres):
                continue
            try:
                entries = list(one.iterdir()) if one.is_dir() and not one.is_symlink() else []
            except OSError:
                continue  # the folder itself is said to be closed by another check
            for entry in entries[:left]:
                if entry.name != "README.md" and _closed(entry):
                    yield entry
                below.append(entry)
            left -= len(entries)
            if left <= 0:
                return
        level = below


def _closed(path: Path) -> bool:
    return path.lstat().st_uid == 0 and not path.is_symlink() and not os.access(path, os.W_OK)


def scripts(probe: Probe) -> Iterable[Finding]:
    """That containers, which run as other users, may read scripts/."""
    needed = dockerfacts.runtime(probe) == "docker"
    paths = (REPOSITORY / "scripts", REPOSITORY / "scripts" / "gateway_hooks.py")
    closed = [path for path in paths if not path.stat().st_mode & 0o004]
    unrunnable = [name for name in ("entrypoint.sh", "litellm_entrypoint.sh") if not os.access(paths[0] / name, os.X_OK)]
    if unrunnable:
        what = f"scripts/{unrunnable[0]} may not be run: the file system or an archive has dropped its mode"
        yield fault(what, f"chmod +x {paths[0]}/*.sh {REPOSITORY / 'runMe.sh'}")
    elif closed:
        what = "scripts/ is readable by you alone, and containers run as other users"
        yield graded(needed, what, f"chmod -R go+rX {paths[0]}")
    else:
        yield ok("can be read and run")


CHECKS = (Check("secrets", secrets), Check("owners", owners), Check("scripts", scripts))
