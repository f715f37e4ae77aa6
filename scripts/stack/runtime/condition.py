"""What to call the condition of a part that runs, from what it answers and what it said last. Pure."""

from __future__ import annotations

from stack import engine_phase
from stack.engine_phase import Phase
from stack.runtime.probe import Health

READY, STARTING, DRAINING, FAILING = "ready", "starting", "draining", "failing"
UNRESPONSIVE, DEGRADED, RESTARTING, STOPPED = "unresponsive", "degraded", "restarting", "stopped"
# Seconds after which gateway and database have certainly started, and are silent for another reason.
_QUIET_AFTER = 180.0


def engine(health: Health, phase: Phase, doing: str, began: float, now: float) -> tuple[str, str]:
    """State and detail of an engine whose process lives.

    Args:
        health: what it answers.
        phase: what it wrote last.
        doing: what its log says it does; empty if nothing.
        began: when its process was started, seconds of the epoch; what was written before is an earlier one's.
        now: seconds of the epoch.
    """
    if phase.since and phase.since < began - 1:
        phase = Phase(engine_phase.LOADING)
    seconds = f" ({max(now - phase.since, 0):.0f} s so far)" if phase.since else ""
    if phase.name == engine_phase.STOPPING:
        return DRAINING, f"is stopping: finishes what it has, takes nothing new{seconds}"
    if phase.name == engine_phase.DEAD or health.dead:
        return FAILING, "its core has ended; it is about to be started again"
    if health.ready:
        return READY, health.detail
    if phase.name == engine_phase.READY and not health.answers:
        return UNRESPONSIVE, "was ready, and does not answer now"
    if phase.since and phase.name not in (engine_phase.READY, engine_phase.LOADING):
        return STARTING, f"{phase.name}{seconds}"
    return STARTING, doing or health.detail


def other(health: Health, seconds: float, stopping: bool = False) -> tuple[str, str]:
    """State and detail of gateway, database or chat page whose process lives.

    Args:
        health: what it answers.
        seconds: for how long it has lived.
        stopping: whether its log says that it stops.
    """
    if health.ready:
        return READY, health.detail
    if stopping and not health.answers:
        return DRAINING, "is stopping: finishes what it has, takes nothing new"
    if health.partly:
        return DEGRADED, health.detail
    if not health.answers and seconds > _QUIET_AFTER:
        return UNRESPONSIVE, "does not answer"
    return STARTING, health.detail
