"""The native runtime's installed environments, as runtime/install.py names them."""

from __future__ import annotations

import os
import sys

from stack.doctor import dockerfacts, gpufacts
from stack.doctor.knobs import knobs
from stack.doctor.probe import Probe

# Bytes each takes: docs/native-runtime.md.
SIZES = {
    "engine-cpu": int(3.5e9),
    "engine-cuda": int(10e9),
    "gateway": int(0.9e9),
    "database": int(0.31e9),
    "chat": int(0.7e9),
    "cli": int(0.07e9),
}


def wanted(probe: Probe) -> list[str]:
    """Environments the native runtime needs."""
    build = str(knobs(probe)["ENGINE_BUILD"])
    if build == "auto":
        build = "cuda" if gpufacts.facts(probe).gpus or gpufacts.facts(probe).device else "cpu"
    chat = ["chat"] if knobs(probe)["CHAT"] else []
    return ["database", f"engine-{build}", "gateway", *chat]


def missing(probe: Probe) -> list[str]:
    """Those that `up` would have to install."""
    needed = ["cli", *([] if dockerfacts.runtime(probe) == "docker" else wanted(probe))]
    return [name for name in needed if not any(probe.layout.environments.glob(f"{name}-*/.complete"))]


def python(probe: Probe) -> str:
    """A Python that has pip: that of the command line's environment, or this one."""
    for folder in probe.layout.environments.glob("cli-*/bin/python"):
        if os.access(folder, os.X_OK):
            return str(folder)
    return sys.executable
