"""The ports the stack listens on, and who has them now."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from stack.doctor import dockerfacts
from stack.doctor.finding import Check, Finding, fault, ok
from stack.doctor.knobs import knobs
from stack.doctor.probe import Probe, read
from stack.runtime.probe import why_not_bind
from stack.runtime.watch import Watch

_LISTEN = "0A"


def ports(probe: Probe) -> Iterable[Finding]:
    """Each port: free, ours, or somebody else's."""
    wanted = knobs(probe)
    native = dockerfacts.runtime(probe) == "native"
    asked = [("LITELLM_PORT", wanted["BIND_ADDRESS"]), ("ENGINE_PORT", "127.0.0.1")]
    asked += [("POSTGRES_PORT", "127.0.0.1")] if native else []
    asked += [("CHAT_PORT", wanted["CHAT_ADDRESS"])] if wanted["CHAT"] else []
    ours = _ours(probe)
    found, said = [], []
    for key, host in asked:
        port = int(wanted[key])
        reason = "" if port in ours else why_not_bind(host, port)
        if reason:
            found.append(_taken(probe, key, host, port, reason))
        else:
            said.append(f"{port} {'is this stack' if port in ours else 'is free'}{chr(39) + 's' if port in ours else ''}")
    yield from found or [ok(", ".join(said))]


def _ours(probe: Probe) -> set[int]:
    """Ports our own stack listens on, in either runtime."""
    found = set(Watch(probe.layout).own_ports())
    for one in dockerfacts.containers(probe):
        if dockerfacts.labels(one).get("com.docker.compose.project") == dockerfacts.PROJECT:
            found |= {int(port) for port in re.findall(r":(\d+)->", str(one.get("Ports", "")))}
    return found


def _taken(probe: Probe, key: str, host: str, port: int, reason: str) -> Finding:
    setting = f"{key}={port}"
    if "taken" not in reason:
        if port < 1024 and "ermission" in reason:
            return fault(f"{setting}: ports below 1024 are root's", f"choose a port from 1024 on: {key}=...")
        cure = "choose an address this machine has (ip addr), or 0.0.0.0" if "assign" in reason else "choose another port"
        return fault(f"{setting}: {host} {reason}", cure)
    other = f"choose another port: {key}=..."
    who = owner(probe, port)
    if who is None:
        what = f"{setting} is taken by a program of another user"
        return fault(what, f"see which: sudo ss -ltnp 'sport = :{port}'; stop it, or {other}")
    pid, program = who
    if "docker-proxy" in program:
        what = f"{setting} is taken by a container of another stack (pid {pid}, docker-proxy)"
        return fault(what, f"see which: docker ps --filter publish={port}; stop it, or {other}")
    return fault(f"{setting} is taken by {program} (pid {pid})", f"stop it (kill {pid}), or {other}")


def owner(probe: Probe, port: int) -> tuple[int, str] | None:
    """Pid and command of who listens on a port; None if it cannot be seen."""
    inodes = set()
    for name in ("tcp", "tcp6"):
        for line in read(probe.proc / "net" / name).splitlines()[1:]:
            words = line.split()
            if len(words) > 9 and words[3] == _LISTEN and int(words[1].rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{words[9]}]")
    for folder in probe.proc.glob("[0-9]*/fd") if inodes else ():
        if inodes.intersection(_handles(folder)):
            return int(folder.parent.name), program(folder.parent)
    return None


def _handles(folder: Path) -> Iterator[str]:
    with contextlib.suppress(OSError):  # gone meanwhile, or another user's
        for handle in folder.iterdir():
            with contextlib.suppress(OSError):
                yield str(handle.readlink())


def program(process: Path) -> str:
    """A process's command, short: its arguments may hold secrets, so only the first two words count."""
    words = [word for word in read(process / "cmdline").split("\0") if word]
    if not words:
        return read(process / "comm") or "?"
    name = Path(words[0]).name
    script = (
        words[1] if len(words) > 1 and not words[1].startswith("-") else " ".join(words[1:3]) if words[1:2] == ["-m"] else ""
    )
    return f"{name} {script}".strip()[:80]


CHECKS = (Check("ports", ports),)
