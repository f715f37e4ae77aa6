"""How much memory each part of a native stack takes: its proportional share (PSS) of what its processes map."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from stack.runtime.processes import Identity, session_members
from stack.runtime.watch import Watch

AROUND = ("database", "gateway", "database client", "supervisor", "guard")


def pss(smaps_rollup: str) -> int:
    """The proportional share in bytes; 0 if the text does not say.

    Args:
        smaps_rollup: what /proc/PID/smaps_rollup holds.
    """
    found = re.search(r"^Pss:\s+(\d+) kB$", smaps_rollup, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def summed(parts: Mapping[str, int]) -> dict[str, int]:
    """The parts that there are, in bytes, and `around the engine`: all but the engine."""
    return {**parts, "around the engine": sum(parts.get(name, 0) for name in AROUND)}


def measure(watch: Watch) -> dict[str, int]:
    """Bytes of each part that runs, by name, and their sum without the engine.

    A process that may not be looked at counts nothing.
    """
    found: dict[str, int] = {}
    for part in watch.parts():
        for member in session_members(part.pid) if part.pid else ():
            client = part.name == "gateway" and _is_node(member)
            name = "database client" if client else part.name
            found[name] = found.get(name, 0) + _of(member)
    for name, identity in (("supervisor", watch.supervisor()), ("guard", watch.guard())):
        if identity:
            found[name] = _of(identity)
    return summed(found)


def _of(process: Identity) -> int:
    return pss(_read(process, lambda folder: (folder / "smaps_rollup").read_text()))


def _is_node(process: Identity) -> bool:
    # LiteLLM's own client is a program called query-engine-...; the bridge runs on Node.
    name = _read(process, lambda folder: (folder / "cmdline").read_text("utf-8", "replace")).split("\0")[0]
    return Path(name).name.startswith(("node", "query-engine", "prisma-query"))


def _read(process: Identity, what: Callable[[Path], str]) -> str:
    try:
        return what(Path(f"/proc/{process.pid}"))
    except OSError:
        return ""
