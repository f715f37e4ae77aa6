"""What there is of NVIDIA GPUs, asked once for all checks."""

from __future__ import annotations

import re
from dataclasses import dataclass

from stack.doctor.probe import Probe, Ran, read

NVIDIA = "0x10de"
_FIELDS = ("index", "name", "driver_version", "memory.total", "memory.free", "compute_cap")
MIB = 1 << 20


@dataclass(frozen=True)
class Gpu:
    """One GPU.

    Attributes:
        index: its number.
        name: as the driver calls it.
        driver: the driver's version.
        total: bytes of memory; 0 if it has none of its own (GB10 shares the machine's).
        free: bytes of it that nobody uses.
        capability: compute capability, such as 9.0; empty if not known.
    """

    index: str
    name: str
    driver: str
    total: int
    free: int
    capability: str


@dataclass(frozen=True)
class User:
    """A process that has memory of a GPU.

    Attributes:
        pid: its number.
        name: its program.
        used: bytes; 0 if the driver does not say.
    """

    pid: int
    name: str
    used: int


@dataclass(frozen=True)
class Facts:
    """NVIDIA GPUs, as far as they can be seen.

    Attributes:
        cards: PCI addresses of NVIDIA's display and compute devices.
        device: whether the driver has made a device file.
        program: path of nvidia-smi; empty if there is none.
        ran: what became of asking it.
        gpus: what it said.
    """

    cards: tuple[str, ...]
    device: bool
    program: str
    ran: Ran
    gpus: tuple[Gpu, ...]

    @property
    def there(self) -> bool:
        """Whether the machine has one, usable or not."""
        return bool(self.cards or self.device or self.gpus)


def facts(probe: Probe) -> Facts:
    """Look; only the first call does."""
    return probe.once("gpu", lambda: _look(probe))


def users(probe: Probe) -> list[User]:
    """Processes that compute on a GPU."""
    ran = probe.run("nvidia-smi", "--query-compute-apps=pid,process_name,used_memory", "--format=csv,noheader,nounits")
    found = []
    for line in ran.out.splitlines() if ran.status == 0 else ():
        pid, _, rest = line.partition(",")
        name, _, used = rest.rpartition(",")
        if pid.strip().isdigit():
            found.append(User(int(pid), name.strip().rpartition("/")[2] or "?", _bytes(used)))
    return found


def _look(probe: Probe) -> Facts:
    cards = []
    for vendor in sorted((probe.sys / "bus" / "pci" / "devices").glob("*/vendor")):
        # Class 0x03: display controllers, compute cards among them; a GPU's sound device is another.
        if read(vendor) == NVIDIA and read(vendor.with_name("class")).startswith("0x03"):
            cards.append(vendor.parent.name)
    device = (probe.dev / "nvidia0").exists() or (probe.dev / "nvhost-gpu").exists()
    program = probe.which("nvidia-smi")
    ran = probe.run("nvidia-smi", f"--query-gpu={','.join(_FIELDS)}", "--format=csv,noheader,nounits")
    gpus = [_gpu(line) for line in ran.out.splitlines()] if ran.status == 0 else []
    return Facts(tuple(cards), device, program, ran, tuple(gpu for gpu in gpus if gpu))


def _gpu(line: str) -> Gpu | None:
    words = [word.strip() for word in line.split(",")]
    if len(words) != len(_FIELDS):
        return None
    index, name, driver, total, free, capability = words
    known = capability if re.match(r"^\d+\.\d+$", capability) else ""
    return Gpu(index, name, driver, _bytes(total), _bytes(free), known)


def _bytes(mib: str) -> int:
    """From MiB; 0 for `[N/A]` and `[Not Supported]`."""
    return int(mib) * MIB if mib.strip().isdigit() else 0
