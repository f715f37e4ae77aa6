"""What a loading engine is doing: the one table of phases, and the files in which the gateway is told.

Standard library only: the engine's own Python, the gateway's and that of ./runMe.sh import it.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stack.progress import estimate

FILE = "phase"
# What each step took last time; ./runMe.sh puts it beside a release, scripts/entrypoint.sh beside the phase.
USUAL = "usual"
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
    ("Warming up model for the compilation", "compiling"),  # the CPU build, where that is its only word on it
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
        usual: the steps of the last start and their seconds; empty if there was none like this.
    """

    name: str
    since: float = 0.0
    usual: tuple[estimate.Timed, ...] = ()

    @property
    def retry_after(self) -> int:
        """Seconds after which asking again makes sense."""
        return _RETRY_SOON.get(self.name, _RETRY)

    def left(self, now: float) -> estimate.Left | None:
        """How long it takes until the engine is ready, as last time; None if nothing is known."""
        if self.name in _AFTER_LOADING or not self.since:
            return None
        return estimate.left(self.usual, (), self.name, max(now - self.since, 0.0))

    def sentence(self, now: float) -> str:
        """What a client is told that got no answer from the engine."""
        if self.name == STOPPING:
            return "the engine is stopping or has stopped; try again when it is back"
        if self.name in (READY, DEAD):
            return "the engine has ended or is being started again; try again"
        if not self.since:
            return f"the engine is {self.name}; try again"
        left = self.left(now)
        rest = f", {'at least' if left.least else 'about'} {left.seconds:.0f} s left" if left and left.seconds >= 1 else ""
        return f"the engine is {self.name} ({max(now - self.since, 0):.0f} s so far{rest}); try again"


def recognise(line: str) -> str:
    """The phase that a line of the log begins; empty if none."""
    return next((name for text, name in _TEXTS if text in line), "")


def read(folder: Path) -> Phase:
    """The phase the engine wrote last; `loading the model` if it wrote none."""
    try:
        return replace(parse((folder / FILE).read_text("utf-8")), usual=_usual(folder))
    except (OSError, ValueError):
        return Phase(LOADING)


def parse(text: str) -> Phase:
    """The same from the file's text."""
    try:
        since, name = text.strip().split(" ", 1)
        return Phase(name, float(since))
    except ValueError:
        return Phase(LOADING)


def current() -> Phase:
    """What the engine wrote last, for the gateway and what runs beside it: they are told the folder as CONFIG_DIR."""
    return read(Path(os.environ.get("CONFIG_DIR", "")))


def usual_text(steps: Sequence[estimate.Timed]) -> str:
    """The content of the file USUAL."""
    return "".join(f"{seconds:.1f} {name}\n" for name, seconds in steps)


def _usual(folder: Path) -> tuple[estimate.Timed, ...]:
    try:
        pairs = [line.split(" ", 1) for line in (folder / USUAL).read_text("utf-8").splitlines()]
        return tuple((name, float(seconds)) for seconds, name in pairs)
    except (OSError, ValueError):
        return ()


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
