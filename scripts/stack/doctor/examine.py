"""Runs all checks at the same time, each on its own: one that raises or hangs becomes a line."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable
from dataclasses import replace

from stack.doctor import disk, docker, gpu, hub, limits, machine, memory, network, permissions, ports, running, state
from stack.doctor.finding import FAULT, Check, Finding, hidden, warning
from stack.doctor.probe import Probe, read

# In the order in which they are shown: what others depend on first, the configuration and what runs last.
CHECKS: tuple[Check, ...] = (
    *machine.CHECKS,
    *memory.CHECKS,
    *limits.CHECKS,
    *docker.CHECKS,
    *gpu.CHECKS,
    *network.CHECKS,
    *hub.CHECKS,
    *disk.CHECKS,
    *permissions.CHECKS,
    *ports.CHECKS,
    *state.CHECKS,
    *running.CHECKS,
)
# Seconds after which a check is given up; twice what a program may take, as one may wait for another's.
LIMIT = 9.0
_SECRET_VARIABLES = ("TOKEN", "KEY", "PASSWORD", "SECRET")


def examine(probe: Probe, checks: Iterable[Check] = CHECKS, limit: float = LIMIT) -> list[Finding]:
    """Every finding, in the order of the checks.

    Args:
        probe: the machine.
        checks: what to examine.
        limit: seconds after which a check that has not ended is given up.
    """
    found: dict[str, list[Finding]] = {}
    wanted = list(checks)

    def work(check: Check) -> None:
        found[check.name] = _findings(check, probe)

    # Daemons: one that hangs must not keep the program from ending.
    threads = [threading.Thread(target=work, args=(check,), daemon=True) for check in wanted]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + limit
    for thread in threads:
        thread.join(max(deadline - time.monotonic(), 0))
    late = [warning(f"was not finished within {limit:g} s", "something hangs there: a disk, a device or the network")]
    secrets = _secrets(probe)
    return [
        replace(one, what=hidden(one.what, secrets), cure=hidden(one.cure, secrets), check=check.name)
        for check in wanted
        for one in found.get(check.name, late)
    ]


def broken(findings: Iterable[Finding]) -> bool:
    """Whether one of them is a fault."""
    return any(one.level == FAULT for one in findings)


def _findings(check: Check, probe: Probe) -> list[Finding]:
    try:
        return list(check.run(probe))
    except ImportError as error:
        what = f"was not examined: the Python package {error.name} is not there"
        return [warning(what, "./runMe.sh status installs what the command line needs")]
    except TimeoutError:
        return [warning("did not answer in time", "something hangs there: a disk, a device or the network")]
    except OSError as error:
        what = f"was not examined: {error.filename or 'system'}: {error.strerror or error}"
        return [warning(what, "see whether that file or folder can be read")]
    except Exception as error:  # whatever it is, the other lines must come
        return [warning(f"was not examined: {type(error).__name__}: {error}", "a mistake in this program: please report it")]


def _secrets(probe: Probe) -> list[str]:
    """Values that must not be shown, longest first, so that none is left in part."""
    values = {
        value
        for name, value in probe.environ.items()
        if any(word in name.upper() for word in _SECRET_VARIABLES) and not value.startswith("/")  # a file's name is none
    }
    with contextlib.suppress(OSError):
        files = [path for path in probe.layout.secrets.iterdir() if path.name != "README.md" and path.is_file()]
        values |= {read(path) for path in files if path.stat().st_size <= 64 << 10}
    # What is too short to be a secret may stand in a text by chance.
    return sorted((value for value in values if len(value) >= 8), key=len, reverse=True)
