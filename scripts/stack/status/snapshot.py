"""Everything that `status` shows, as data, and what the stack as a whole is called. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from stack.runtime.condition import DEGRADED, DRAINING, FAILING, READY, RESTARTING, STARTING, STOPPED, UNRESPONSIVE
from stack.runtime.watch import CHAT, Part
from stack.status.figures import Rates, Reading, Ttft

TOO_MANY = "429"


@dataclass(frozen=True)
class Gpu:
    """A GPU, as nvidia-smi sees it.

    Attributes:
        index: its number.
        name: as the driver calls it.
        used: bytes in use; None if the driver does not say (it shares the machine's memory).
        total: bytes there are; None likewise.
        busy: percent of the last moment in which it computed; None if not known.
    """

    index: int
    name: str
    used: int | None
    total: int | None
    busy: int | None


@dataclass(frozen=True)
class Answered:
    """What the gateway has answered to the APIs since it started.

    Attributes:
        since: when that was, seconds of the epoch.
        under_way: requests that it is serving.
        statuses: HTTP status -> how many.
    """

    since: float
    under_way: int
    statuses: Mapping[str, int]


@dataclass(frozen=True)
class LastError:
    """The newest line of a log that says that something went wrong.

    Attributes:
        part: whose.
        time: when, seconds of the epoch.
        text: the line, without secrets.
    """

    part: str
    time: float
    text: str


@dataclass(frozen=True)
class Snapshot:
    """The stack at one moment. What could not be found out is None, and shown as `not known`.

    Attributes:
        time: when, seconds of the epoch.
        runtime: native or docker.
        model: what is served, or empty.
        release: its number; 0 if there is none.
        revision: the model's commit, or empty.
        url: the gateway's address.
        parts: engine, gateway, database and the chat page, if there is one; empty if not known.
        watchers: whether those that start again what ends are there.
        reading: the engine's metrics.
        rates: tokens a second.
        ttft: time to first token.
        answered: the gateway's answers.
        gpus: there may be none.
        error: the newest one; None: none in the logs.
        why_unknown: why the parts are not known.
    """

    time: float
    runtime: str
    model: str
    parts: Sequence[Part]
    watchers: Mapping[str, bool]
    release: int = 0
    revision: str = ""
    url: str = ""
    reading: Reading | None = None
    rates: Rates | None = None
    ttft: Ttft | None = None
    answered: Answered | None = None
    gpus: Sequence[Gpu] | None = field(default=None)
    error: LastError | None = None
    why_unknown: str = ""

    @property
    def verdict(self) -> tuple[str, str]:
        """A word for the whole stack and what clients have of it; see `verdict`."""
        if not self.parts:
            return "unknown", f"how it is cannot be found out: {self.why_unknown}"
        return verdict(self.parts, self.watchers)

    @property
    def state(self) -> str:
        """The word."""
        return self.verdict[0]

    def data(self) -> dict[str, Any]:
        """For programs; docs/status.md says what each means."""
        word, sentence = self.verdict
        reading, answered = self.reading, self.answered
        return {
            "time": round(self.time, 3),
            "model": self.model,
            "state": word,
            "says": sentence,
            "runtime": self.runtime,
            "release": self.release or None,
            "revision": self.revision or None,
            "url": self.url or None,
            "parts": [vars(part) for part in self.parts],
            "watchers": dict(self.watchers),
            "requests": None
            if reading is None
            else {name: int(reading.sums.get(name, 0)) for name in ("running", "waiting", "preempted")},
            "tokens_per_second": self.rates and asdict(self.rates),
            "ttft_seconds": self.ttft and asdict(self.ttft),
            "kv_cache": None if reading is None else {"used": reading.kv, "tokens": reading.kv_tokens or None},
            "gateway": None
            if answered is None
            else {
                "since": round(answered.since, 3),
                "under_way": answered.under_way,
                "answered": dict(answered.statuses),
                "too_many": answered.statuses.get(TOO_MANY, 0),
            },
            "gpus": None if self.gpus is None else [asdict(gpu) for gpu in self.gpus],
            "last_error": self.error and asdict(self.error),
        }


def verdict(parts: Sequence[Part], watchers: Mapping[str, bool]) -> tuple[str, str]:
    """A word for the whole stack and what clients have of it.

    ready, degraded (serves, but not as it should), starting, draining, down (serves nobody), or stopped.

    Args:
        parts: at least the three that are always there.
        watchers: name -> whether it is there.
    """
    needed = {part.name: part for part in parts if part.name != CHAT}
    states = {name: part.state for name, part in needed.items()}
    if set(states.values()) == {STOPPED}:
        return STOPPED, "nothing runs: ./runMe.sh starts it"
    engine, gateway = states.get("engine", STOPPED), states.get("gateway", STOPPED)
    if gateway == DRAINING:
        return DRAINING, "requests under way finish, new ones are not taken: the gateway is stopping"
    if gateway not in (READY, DEGRADED):
        word = STARTING if gateway == STARTING and engine in (READY, STARTING) else "down"
        return word, f"no request is answered: the gateway is {gateway}"
    if engine != READY:
        word = {STARTING: STARTING, DRAINING: DRAINING}.get(engine, "down")
        what = {
            DRAINING: "requests under way finish, new ones get 503",
            FAILING: "requests get 503: the engine's core has ended",
            UNRESPONSIVE: "requests hang: the engine does not answer",
        }
        return word, what.get(engine, f"requests get 503: the engine is {engine}")
    if gateway == DEGRADED:
        return DEGRADED, f"requests are answered, but the gateway {needed['gateway'].detail}"
    if set(states.values()) != {READY}:
        name = next(name for name, state in states.items() if state != READY)
        return DEGRADED, f"requests are answered, but the {name} is {states[name]}"
    if not all(watchers.values()):
        return DEGRADED, unwatched(watchers)
    return READY, "requests are answered"


def unwatched(watchers: Mapping[str, bool]) -> str:
    """What it means that some watchers are gone; empty if none is."""
    gone = [name for name, alive in watchers.items() if not alive]
    if not gone:
        return ""
    if len(gone) < len(watchers):
        return f"the {gone[0]} is gone; it comes back by itself"
    there = " and ".join(gone)
    return f"{there} gone: nothing starts again what ends; ./runMe.sh brings it back"


# Sorted by how bad, for colours: what is not here is in between.
GOOD, BAD = frozenset({READY}), frozenset({RESTARTING, STOPPED, FAILING, UNRESPONSIVE, "down"})
