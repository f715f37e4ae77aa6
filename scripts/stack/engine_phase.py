"""What a loading engine is doing: the one table of phases, and the file in which the engine tells the gateway.

Standard library only: the engine's own Python, the gateway's and that of ./runMe.sh import it.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

FILE = "phase"
READY, STOPPING, DEAD = "ready", "stopping", "ending after a fatal error"
# What is known when nobody says more: the engine has been started, and is not ready.
LOADING = "loading the model"

# A text in vLLM's log -> what the engine is doing from then on. vLLM 0.32; the first one is scripts/entrypoint.sh's.
_TEXTS = (
    ("starting: ", "starting Python and vLLM"),
    ("Initializing a V1 LLM engine", LOADING),
    ("Starting to load model", "loading the model's weights"),
    ("Time spent downloading weights", "loading the model's weights"),
    ("Loading weights took", "preparing memory"),
    ("Starting torch.compile", "compiling"),
    ("Compiling a graph", "compiling"),
    ("KV cache size", "warming up"),
    ("Warming up model", "warming up"),
    ("Capturing CUDA graph", "capturing CUDA graphs"),
    ("init engine (profile, create kv cache, warmup model) took", "opening its port"),
    ("Starting vLLM server", "opening its port"),
    ("Application startup complete", READY),
    ("EngineCore encountered a fatal error", DEAD),
    ("[shutdown] API server: shutdown triggered", STOPPING),
)
_AFTER_LOADING = (READY, STOPPING, DEAD)
# Seconds after which to ask again, where it is not `_RETRY`: these phases are short.
_RETRY = 5
_RETRY_SOON = {"opening its port": 1, "warming up": 2, READY: 2, DEAD: 2}


@dataclass(frozen=True)
class Phase:
    """What the engine is doing.

    Attributes:
        name: a name of the table.
        since: when it began, in seconds of the epoch; 0 if that is not known.
    """

    name: str
    since: float = 0.0

    @property
    def retry_after(self) -> int:
        """Seconds after which asking again makes sense."""
        return _RETRY_SOON.get(self.name, _RETRY)

    def sentence(self, now: float) -> str:
        """What a client is told that got no answer from the engine."""
        if self.name == STOPPING:
            return "the engine is stopping or has stopped; try again when it is back"
        if self.name in (READY, DEAD):
            return "the engine has ended or is being started again; try again"
        seconds = f" ({max(now - self.since, 0):.0f} s so far)" if self.since else ""
        return f"the engine is {self.name}{seconds}; try again"


def recognise(line: str) -> str:
    """The phase that a line of the log begins; empty if none."""
    return next((name for text, name in _TEXTS if text in line), "")


def read(folder: Path) -> Phase:
    """The phase the engine wrote last; `loading the model` if it wrote none."""
    try:
        since, name = (folder / FILE).read_text("utf-8").strip().split(" ", 1)
        return Phase(name, float(since))
    except (OSError, ValueError):
        return Phase(LOADING)


def note(line: str, environ: Mapping[str, str] = os.environ) -> None:
    """Write the phase that a line of the log begins, if it begins one; never raises.

    Several processes of one engine write: the first one decides when a phase began, and none goes back to loading once
    the engine is ready. A new start begins with a new file, see scripts/entrypoint.sh.

    Args:
        line: the text of a log record.
        environ: where CONFIG_DIR is looked up; without it nothing is written.
    """
    name = recognise(line)
    if not name or not environ.get("CONFIG_DIR"):
        return
    folder = Path(environ["CONFIG_DIR"])
    before = read(folder).name
    if name == before or (before in _AFTER_LOADING and name not in (STOPPING, DEAD)):
        return
    temporary = folder / f".{FILE}.{os.getpid()}"
    with contextlib.suppress(OSError):
        try:
            temporary.write_text(f"{time.time():.1f} {name}\n", "utf-8")
            temporary.chmod(0o644)  # the gateway may run as another user
            temporary.replace(folder / FILE)
        except OSError:
            temporary.unlink(missing_ok=True)
