"""RAM and swap."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from stack.doctor import dockerfacts
from stack.doctor.finding import Check, Finding, fault, none, ok, warning
from stack.doctor.probe import Probe, read, size

# Engine 4.3 GB, all around it 0.7 GB: docs/performance.md, the smallest model on a CPU.
SMALLEST_STACK = 5 << 30


def meminfo(probe: Probe) -> Mapping[str, int]:
    """/proc/meminfo in bytes."""
    lines = re.findall(r"^(\w+):\s+(\d+) kB$", read(probe.proc / "meminfo"), re.MULTILINE)
    return {name: int(count) * 1024 for name, count in lines}


def memory(probe: Probe) -> Iterable[Finding]:
    """RAM and swap."""
    found = meminfo(probe)
    if "MemTotal" not in found:
        yield none("the system does not say how much memory there is")
        return
    total, free = found["MemTotal"], found.get("MemAvailable", found.get("MemFree", 0))
    swap, swap_free = found.get("SwapTotal", 0), found.get("SwapFree", 0)
    shown = f"{size(free)} of {size(total)} are available"
    shown += f", swap {size(swap - swap_free)} of {size(swap)} in use" if swap else ", no swap"
    if total < SMALLEST_STACK:
        yield fault(f"{shown}; even the smallest model's stack takes 5 GiB", "a machine with more memory")
    elif free < SMALLEST_STACK and not dockerfacts.stack_runs(probe):
        largest = _largest(probe)
        what = f"{shown}; even the smallest model's stack takes 5 GiB{largest and f'. Most has {largest}'}"
        yield warning(what, "end programs that are not needed (ps aux --sort=-rss | head)")
    elif swap and swap - swap_free > swap // 2 and free < total // 10:
        what = f"{shown}: the machine is swapping, and a model that is swapped out answers slowly"
        yield warning(what, "end programs that are not needed (ps aux --sort=-rss | head), or choose a smaller model")
    else:
        yield ok(shown)


def _largest(probe: Probe) -> str:
    best, shown = 0, ""
    for status in probe.proc.glob("[0-9]*/status"):
        text = read(status)
        match = re.search(r"^VmRSS:\s+(\d+) kB$", text, re.MULTILINE)
        if match and int(match[1]) > best:
            best = int(match[1])
            name = re.search(r"^Name:\s+(.+)$", text, re.MULTILINE)
            shown = f"{name[1] if name else '?'} (pid {status.parent.name}, {size(best * 1024)})"
    return shown


CHECKS = (Check("memory", memory),)
