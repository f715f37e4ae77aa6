"""What earlier starts have left behind."""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from stack.doctor import dockerfacts
from stack.doctor.finding import Check, Finding, fault, none, ok, warning
from stack.doctor.ports import program
from stack.doctor.probe import Probe, read

# What was written in this time may still be in use.
FRESH = 600.0
POSTGRES = "16"
# As files.write_atomic names them: .NAME.xxxxxxxx
_TEMPORARY = re.compile(r"^\..+\.[a-z0-9_]{8}$")


def processes(probe: Probe) -> Iterable[Finding]:
    """Process files of the native runtime whose process is gone."""
    run = probe.layout.run
    if dockerfacts.native_runs(probe):
        yield none("the stack runs; see `running stack`")
        return
    found = []
    for name in ("supervisor", "guard"):
        text = read(run / f"{name}.pid").split()
        if not text or _alive(name, run):
            continue
        what = f"{run / name}.pid names process {text[0]}, which is gone"
        cure = f"./runMe.sh starts anew; or: rm {run / name}.pid"
        found.append(warning(f"{what}: killed, or the machine was restarted", cure))
    yield from found or [ok("none that are gone")]


def _alive(name: str, run: Path) -> bool:
    from stack.runtime.processes import Identity

    return Identity.read(run / f"{name}.pid") is not None


def environments(probe: Probe) -> Iterable[Finding]:
    """Environments whose installation was broken off, or whose Python has been removed since."""
    found = []
    for folder in _folders(probe.layout.environments):
        if folder.name == "weights":
            continue
        if (folder / ".complete").exists():
            if not os.access(folder / "bin" / "python", os.X_OK):
                what = f"the Python that {folder} was made with is gone"
                found.append(fault(what, f"rm -rf {folder}; the next ./runMe.sh makes it again"))
            continue
        if holder(probe, folder.with_name(f"{folder.name}.lock")):
            found.append(ok(f"{folder.name} is being installed"))
        else:
            what = f"{folder} is half made: its installation was broken off"
            log = folder.with_name(f"{folder.name}.log")
            cure = f"the next ./runMe.sh makes it again; rm -rf {folder} frees the space; why: {log}"
            found.append(warning(what, cure))
    weights = probe.layout.weights
    for part in weights.glob("*.part"):
        lock = part.with_name(f"{part.name[: -len('.part')]}.lock")
        if not holder(probe, lock):
            found.append(warning(f"{part} is a half-made model", f"the next start makes it again; or: rm -rf {part}"))
    yield from found or [ok("none half made")]


def locks(probe: Probe) -> Iterable[Finding]:
    """Locks that somebody holds: a ./runMe.sh that is still at work, or hangs."""
    found = []
    paths = [
        probe.layout.lock,
        *sorted(probe.layout.environments.glob("*.lock")),
        *sorted(probe.layout.weights.glob("*.lock")),
    ]
    for path in paths:
        who = holder(probe, path)
        if who:
            cure = f"wait for it; if it does nothing any more: kill {who[0]}" if who[0] else "wait for it"
            found.append(warning(f"{path} is held by {who[1]} (pid {who[0] or 'not known'}); others wait for it", cure))
    yield from found or [ok("none is held")]


def holder(probe: Probe, path: Path) -> tuple[int, str] | None:
    """Who holds a lock file; None if nobody does. A file that is merely there means nothing."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        inode = os.fstat(handle).st_ino
        for line in read(probe.proc / "locks").splitlines():
            words = line.split()
            if len(words) > 5 and words[1] == "FLOCK" and words[5].endswith(f":{inode}"):
                pid = int(words[4])
                return max(pid, 0), program(probe.proc / words[4]) if pid > 0 else "a process"
        return 0, "a process"
    finally:
        os.close(handle)
    return None


def temporary(probe: Probe) -> Iterable[Finding]:
    """Files that were being written when something was killed."""
    layout = probe.layout
    folders = [layout.state, layout.run, layout.generated, layout.releases, layout.secrets, *_folders(layout.releases)]
    old = []
    for folder in folders:
        for path in _entries(folder):
            if _TEMPORARY.match(path.name) and path.is_file() and probe.now() - path.lstat().st_mtime > FRESH:
                old.append(path)
    half = [
        path for path in (layout.postgres.with_name("postgres.part"), layout.state / "postgres.password") if path.exists()
    ]
    found = [
        warning(f"{path} is left from a start that was broken off", f"the next start makes it anew; or: rm -rf {path}")
        for path in half
        if probe.now() - path.stat().st_mtime > FRESH
    ]
    if old:
        what = f"{len(old)} half-written files, such as {old[0]}"
        found.append(warning(what, "delete them: rm " + " ".join(map(str, old[:5]))))
    yield from found or [ok("none")]


def releases(probe: Probe) -> Iterable[Finding]:
    """The record of what runs."""
    folder = probe.layout.releases
    link = folder / "current"
    numbered = [one for one in _folders(folder) if one.name.isdecimal()]
    broken = [one for one in numbered if not _readable(one)]
    found = []
    if os.path.lexists(link) and not link.is_symlink():
        found.append(fault(f"{link} is not a link", f"./runMe.sh makes it anew once it is gone: rm -r {link}"))
    elif link.is_symlink() and not link.exists():
        what = f"{link} points to {link.readlink()}, which is not there: nothing can be restarted from it"
        found.append(fault(what, "./runMe.sh accepts the configuration anew; earlier ones: ./runMe.sh releases"))
    elif link.is_symlink() and not _readable(link):
        what = f"the record of the current release cannot be read: {link / 'release.json'}"
        found.append(fault(what, "./runMe.sh accepts the configuration anew; earlier ones: ./runMe.sh releases"))
        broken = [one for one in broken if one.name != link.readlink().name]
    for one in broken:
        found.append(warning(f"release {one.name} has no readable release.json: it cannot be gone back to", f"rm -rf {one}"))
    yield from found or [ok(f"{len(numbered)}, current: {link.readlink()}" if link.is_symlink() else "none yet")]


def _readable(folder: Path) -> bool:
    try:
        return isinstance(json.loads((folder / "release.json").read_text("utf-8")), dict)
    except (OSError, ValueError):
        return False


def database(probe: Probe) -> Iterable[Finding]:
    """The native runtime's data folder: made by this version of PostgreSQL."""
    folder = probe.layout.postgres
    if not folder.exists():
        yield ok("none yet")
        return
    number = read(folder / "PG_VERSION")
    if not number:
        cure = f"move it away: mv {folder} {folder}.old; keys and usage in it are lost to the stack"
        if _closed(folder):
            yield ok(f"{folder}, which its own user alone may read")
        else:
            yield fault(f"{folder} is not a database: it has no PG_VERSION", cure)
    elif number != POSTGRES:
        cure = f"dump it with PostgreSQL {number}, or move it away: mv {folder} {folder}.old"
        yield fault(f"{folder} was made by PostgreSQL {number}; the stack has {POSTGRES}", cure)
    else:
        yield ok(f"{folder}, PostgreSQL {number}")


def _closed(folder: Path) -> bool:
    return not os.access(folder, os.R_OK | os.X_OK)


def _entries(folder: Path) -> Iterator[Path]:
    try:
        yield from sorted(folder.iterdir())
    except OSError:
        return


def _folders(folder: Path) -> list[Path]:
    return [one for one in _entries(folder) if one.is_dir() and not one.is_symlink()]


CHECKS = (
    Check("processes", processes),
    Check("environments", environments),
    Check("locks", locks),
    Check("half-written files", temporary),
    Check("releases", releases),
    Check("database files", database),
)
