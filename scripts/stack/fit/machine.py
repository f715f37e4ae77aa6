"""GPUs by name, and what this machine has. Only `here` looks at it."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stack.errors import ConfigError, Problem, did_you_mean

GIB = 1 << 30
# What of a card's nominal memory vLLM sees, where the table below has no better figure.
_SEEN = 0.98


@dataclass(frozen=True)
class Machine:
    """What a model is to fit.

    Attributes:
        name: for people.
        memory: bytes of one GPU, or of the machine without one, as vLLM sees them.
        count: GPUs of that kind.
        shared: CPU and GPU share the memory: the system and the gateway live in it too.
        cpu: there is no GPU.
    """

    name: str
    memory: int
    count: int = 1
    shared: bool = False
    cpu: bool = False


# GiB as vLLM sees them ("Free memory on device (free/total GiB)" in its log), not as the card is sold:
# part of it is the driver's and the error correction's.
GPUS: Mapping[str, float] = {
    "gb10": 121.69,  # DGX Spark; shared with the CPU
    "l4": 22.03,
    "a10": 22.06,
    "3090": 23.56,
    "4090": 23.52,
    "5090": 31.36,
    "a100-40": 39.39,
    "l40s": 44.39,
    "a6000": 47.40,
    "h100": 79.18,
    "a100-80": 79.25,
    "rtx-6000-pro": 94.97,
    "h200": 139.80,
    "b200": 178.35,
}
_SHARED = frozenset({"gb10"})
# Parts of nvidia-smi's names, the longer first.
_NAMES = (
    ("gb10", "gb10"),
    ("rtx pro 6000", "rtx-6000-pro"),
    ("rtx 3090", "3090"),
    ("rtx 4090", "4090"),
    ("rtx 5090", "5090"),
    ("l40s", "l40s"),
    ("h200", "h200"),
    ("b200", "b200"),
    ("h100", "h100"),
)


def named(text: str) -> Machine:
    """`h100`, `24GB`, and `4xh100` for several.

    Raises:
        ConfigError: no such name.
    """
    word = text.strip().lower()
    match = re.fullmatch(r"(?:(\d{1,2})x)?(.+)", word)
    count, name = (int(match[1] or 1), match[2]) if match else (1, word)
    size = re.fullmatch(r"(\d{1,4})\s*gi?b?", name)
    if count and name in GPUS:
        return Machine(_several(name, count), int(GPUS[name] * GIB), count, name in _SHARED)
    if count and size and int(size[1]):
        return Machine(_several(f"{size[1]} GB", count), int(int(size[1]) * _SEEN * GIB), count)
    cure = did_you_mean(name, GPUS) or f"names are {', '.join(GPUS)}, or a size such as 24GB; 4xh100 means four"
    raise ConfigError(Problem(f"--gpu {text}", "is no GPU known here", cure))


def here(environ: Mapping[str, str], build: str = "auto") -> Machine:
    """This machine: its GPUs by nvidia-smi, or its own memory.

    Args:
        environ: CUDA_VISIBLE_DEVICES counts.
        build: ENGINE_BUILD; `cpu` does not use a GPU.
    """
    rows = [] if build == "cpu" else _nvidia_smi()
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and rows:
        wanted = [part.strip() for part in visible.split(",") if part.strip()]
        numbers = [int(part) for part in wanted if part.isdecimal()]
        # Other names than numbers (UUIDs): so many, of the first kind.
        rows = [rows[n] for n in numbers if n < len(rows)] if len(numbers) == len(wanted) else rows[: len(wanted)]
    if not rows:
        return Machine("this machine without a GPU", _system_memory(), shared=True, cpu=True)
    name, memory = min(rows, key=lambda row: row[1] or _system_memory())
    count = len(rows)
    known = next((key for part, key in _NAMES if part in name.lower()), "")
    if not memory or known in _SHARED:
        return Machine(_several(name, count), _system_memory(), count, shared=True)
    return Machine(_several(name, count), memory, count)


def _several(name: str, count: int) -> str:
    return f"{count} x {name}" if count > 1 else name


def _nvidia_smi() -> list[tuple[str, int]]:
    """Name and bytes of each GPU; 0 bytes where the memory is the system's."""
    program = shutil.which("nvidia-smi")
    if not program:
        return []
    query = [program, "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return []
    rows = []
    for line in done.stdout.splitlines() if done.returncode == 0 else ():
        name, comma, memory = line.rpartition(",")
        if comma:
            rows.append((name.strip(), int(memory) << 20 if memory.strip().isdecimal() else 0))
    return rows


def _system_memory() -> int:
    """Bytes that processes here may have: the machine's, or less if a control group says so."""
    found = re.search(r"^MemTotal:\s+(\d+) kB", _text("/proc/meminfo"), re.MULTILINE)
    total = int(found[1]) << 10 if found else 0
    limit = _text("/sys/fs/cgroup/memory.max").strip()
    return min(total, int(limit)) if limit.isdecimal() else total


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
