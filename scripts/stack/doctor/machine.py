"""The machine itself: platform, Python, libraries, memory, clock."""

from __future__ import annotations

import ctypes
import email.utils
import importlib.util
import os
import platform
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from stack.doctor import dockerfacts, web
from stack.doctor.finding import Check, Finding, fault, none, ok, warning
from stack.doctor.knobs import knobs
from stack.doctor.probe import Probe, first_line, read, version

PYTHONS = ("python3", "python3.13", "python3.12", "python3.11")  # as in runMe.sh
OLDEST_GLIBC = (2, 28)  # what the pinned packages' wheels are built for (manylinux_2_28)
OLDEST_KERNEL = (5, 3)  # pidfd_open, by which the supervisor waits for processes that are not its children
GET_VENV = "install it (Debian, Ubuntu: apt install python3-venv)"
GET_PYTHON = (
    "install it (Debian, Ubuntu: apt install python3 python3-venv), or name it: PYTHON=/path/to/python3.12 ./runMe.sh"
)


def platform_(probe: Probe) -> Iterable[Finding]:
    """Linux on x86_64 or aarch64."""
    system, processor, release = platform.system(), platform.machine(), platform.release()
    shown = f"{system} {release} on {processor}, {os.cpu_count()} processors"
    if "microsoft" in release.lower():
        shown += ", in WSL"
    if system != "Linux" or processor not in ("x86_64", "aarch64"):
        yield fault(f"{shown} is not supported", "Linux on x86_64 or aarch64 is")
    elif version(release) and version(release) < OLDEST_KERNEL and dockerfacts.runtime(probe) == "native":
        yield warning(
            f"{shown}: the native runtime's supervisor needs Linux 5.3", "use the docker runtime, or a newer kernel"
        )
    else:
        yield ok(shown)


def python(probe: Probe) -> Iterable[Finding]:
    """A Python from 3.11 to 3.13 with what environments are made with."""
    here = sys.version_info[:2]
    if (3, 11) <= here < (3, 14):
        shown = f"Python {platform.python_version()} ({sys.executable})"
        if all(importlib.util.find_spec(name) for name in ("venv", "ensurepip")):
            yield ok(shown)
        else:
            yield fault(f"{shown} has no venv module", GET_VENV)
        return
    asked = "import sys, venv, ensurepip; print('.'.join(map(str, sys.version_info[:2])))"
    for name in (*probe.environ.get("PYTHON", "").split(), *PYTHONS):
        ran = probe.run(name, "-c", asked)
        if (3, 11) <= version(ran.out) < (3, 14):
            yield ok(f"Python {ran.out} ({probe.which(name)})")
            return
    yield fault(f"Python 3.11, 3.12 or 3.13 is needed; this is {here[0]}.{here[1]} and no other was found", GET_PYTHON)


def command_line(probe: Probe) -> Iterable[Finding]:
    """The small environment of ./runMe.sh itself."""
    folders = sorted(probe.layout.environments.glob("cli-*/"), key=lambda one: one.stat().st_mtime)
    made = [folder for folder in folders if (folder / ".complete").exists()]
    if made:
        # The folder may be there and its Python gone: a version manager has removed it.
        alive = [folder for folder in made if os.access(folder / "bin" / "python", os.X_OK)]
        if alive:
            yield ok(f"{alive[-1]}")
        else:
            what = f"{made[-1]}: its Python is gone"
            yield warning(what, "./runMe.sh makes another; delete that folder")
        return
    logs = sorted(probe.layout.environments.glob("cli-*.log"), key=lambda one: one.stat().st_mtime)
    said = read(logs[-1]).splitlines() if logs else []
    errors = [line for line in said if re.match(r"(ERROR|Error|error)\b", line)] or said
    if errors:
        what = f"its environment could not be installed: {first_line(errors[-1])}"
        yield fault(what, f"is the package index reachable (see below)? all of it: {logs[-1]}")
    else:
        yield none("its environment is not made yet; the first ./runMe.sh does that")


def glibc(probe: Probe) -> Iterable[Finding]:
    """What the pinned wheels are linked against."""
    if dockerfacts.runtime(probe) == "docker":
        yield none("the containers have their own")
        return
    name, number = platform.libc_ver()
    if name != "glibc":
        what = f"the native runtime needs glibc 2.28 or newer, this is {name or 'another C library'}"
        yield fault(what, "use the docker runtime, or a distribution such as Debian or Ubuntu")
    elif version(number) < OLDEST_GLIBC:
        yield fault(f"glibc {number}: the pinned packages need 2.28", "use the docker runtime, or a newer distribution")
    else:
        yield ok(f"glibc {number}")


def libnuma(probe: Probe) -> Iterable[Finding]:
    """A library that vLLM loads at its start."""
    if dockerfacts.runtime(probe) == "docker":
        yield none("the containers have their own")
        return
    found = probe.library("numa")
    if found:
        yield ok(found)
    else:
        yield fault(
            "libnuma.so.1 is missing, and vLLM ends without it", "install it: apt install libnuma1 (or numactl-libs)"
        )


def clock(probe: Probe) -> Iterable[Finding]:
    """Against a server's, else against the age of this program; certificates and tokens depend on it."""
    cure = "set it: sudo timedatectl set-ntp true (or date, hwclock)"
    now = probe.now()
    answer = web.hub(probe)
    said = email.utils.parsedate_tz(answer.headers.get("date", "")) if answer.status else None
    if said:
        seconds = now - email.utils.mktime_tz(said)
        if abs(seconds) < 60:
            yield ok(f"within a minute of the hub's ({abs(seconds):.0f} s)")
        else:
            shown = f"{_duration(abs(seconds))} {'ahead of' if seconds > 0 else 'behind'} the hub's"
            # Certificates are valid for days on either side at the least; tokens and logs suffer before.
            yield (fault if abs(seconds) > 86400 else warning)(shown, cure)
        return
    made = max((path.stat().st_mtime for path in _own_files() if path.exists()), default=0.0)
    if now < made - 86400:
        yield fault(f"is {_duration(made - now)} before this program's own files were written", cure)
        return
    synchronised = kernel_clock()
    if synchronised is False:
        yield warning("no time service keeps it (adjtimex: unsynchronised), and no server could be asked", cure)
    elif synchronised:
        yield ok("kept by a time service (adjtimex)")
    else:
        yield none("nothing to compare it with can be reached")


def _own_files() -> list[Path]:
    return [Path(__file__), Path(__file__).resolve().parents[3] / "vars.env"]


def kernel_clock() -> bool | None:
    """Whether a time service keeps the kernel's clock; None if the kernel does not say."""
    try:
        # struct timex with modes = 0 only reads; 208 bytes on 64-bit Linux. TIME_ERROR (5): not synchronised.
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(512))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else bool(state != 5)


def _duration(seconds: float) -> str:
    for name, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {name}"
    return f"{seconds:.0f} s"


def home(probe: Probe) -> Iterable[Finding]:
    """Where ~ leads: HF_HOME lies there by default."""
    wanted = str(knobs(probe)["HF_HOME"])
    if not wanted.startswith("~"):
        yield ok(f"HF_HOME={wanted}")
    elif str(probe.expand("~")) == "~":
        yield fault("HOME is not set and this user has none", f"set HOME, or HF_HOME to a folder for weights (now {wanted})")
    elif not probe.environ.get("HOME"):
        # Docker Compose and the parts of the stack read the variable.
        what = f"HOME is not set; ~ is taken to be {probe.expand('~')}"
        yield warning(what, f"set it: export HOME={probe.expand('~')}")
    else:
        yield ok(str(probe.expand("~")))


CHECKS = (
    Check("platform", platform_),
    Check("Python", python),
    Check("command line", command_line),
    Check("glibc", glibc),
    Check("libnuma", libnuma),
    Check("clock", clock),
    Check("home", home),
)
