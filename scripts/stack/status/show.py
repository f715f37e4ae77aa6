"""The screen of `status`, from a snapshot."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from stack.runtime.watch import Part
from stack.status.snapshot import BAD, GOOD, TOO_MANY, Answered, Gpu, Snapshot, unwatched

UNKNOWN = "not known"
GIB = 1 << 30


def screen(shot: Snapshot) -> RenderableType:
    """All of it."""
    word, sentence = shot.verdict
    title = Text.assemble((shot.model or "no model", "bold"), "  ", (word, colour(word)), f"  {sentence}")
    blocks: list[RenderableType] = [title]
    where = ", ".join(filter(None, _where(shot)))
    if where:
        blocks.append(Text(where, style="dim"))
    if shot.parts:
        blocks += [Text(), _parts(shot.parts)]
    stopped = word == "stopped"
    gone = unwatched(shot.watchers) if shot.parts else ""
    if gone and gone != sentence and not stopped:
        blocks += [Text(gone, style="red")]
    blocks.append(Text())
    blocks.append(_figures(shot, stopped))
    return Group(*blocks)


def _where(shot: Snapshot) -> list[str]:
    up = next((part.seconds for part in shot.parts if part.name == "engine" and part.pid), 0.0)
    return [
        shot.runtime,
        f"release {shot.release}" if shot.release else "",
        f"revision {shot.revision[:12]}" if shot.revision else "",
        f"engine up {duration(up)}" if up else "",
        shot.url,
    ]


def _parts(parts: Sequence[Part]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("part", "state", "pid", "up", "restarts", "detail"):
        table.add_column(heading, overflow="fold")
    for part in parts:
        up = duration(part.seconds) if part.seconds else ""
        detail = f"{part.detail}; the one before: {part.last_end}" if part.last_end else part.detail
        state = Text(part.state, style=colour(part.state))
        table.add_row(part.name, state, str(part.pid or ""), up, str(part.restarts or ""), Text(detail))
    return table


def _figures(shot: Snapshot, stopped: bool) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")

    def row(name: str, value: str, style: str = "") -> None:
        table.add_row(name, Text(value, style=style or ("dim" if value == UNKNOWN else "")))

    if not stopped:
        row("requests", _requests(shot))
        row("tokens/s", _tokens(shot))
        row("TTFT", _ttft(shot))
        row("KV cache", _kv(shot))
        row("answered", _answered(shot.answered, shot.time))
        many = shot.answered.statuses.get(TOO_MANY, 0) if shot.answered else None
        row("429s", UNKNOWN if many is None else f"{many:,}", "yellow" if many else "")
    row("GPU", _gpus(shot.gpus))
    if shot.error:
        row("last error", f"{duration(max(shot.time - shot.error.time, 0))} ago, {shot.error.part}: {shot.error.text}")
    else:
        row("last error", "none in the logs" if shot.parts else UNKNOWN)
    return table


def _requests(shot: Snapshot) -> str:
    if shot.reading is None:
        return UNKNOWN
    sums = shot.reading.sums
    text = f"{sums.get('running', 0):.0f} running, {sums.get('waiting', 0):.0f} waiting in the engine"
    return f"{text}, {shot.answered.under_way} under way at the gateway" if shot.answered else text


def _tokens(shot: Snapshot) -> str:
    if shot.rates is None:
        return UNKNOWN
    if not shot.rates.generated and not shot.rates.read and shot.reading and not shot.reading.sums.get("running"):
        return "0: no request runs"
    return f"{shot.rates.generated:,.1f} written, {shot.rates.read:,.1f} read, over {shot.rates.seconds:.1f} s"


def _ttft(shot: Snapshot) -> str:
    found = shot.ttft
    if found is None:
        return UNKNOWN
    when = f"over {found.window:.0f} s" if found.window is not None else "since the engine started"
    if found.p50 is None or found.p95 is None:
        return f"no request {when}"
    return f"p50 {found.p50:.2f} s, p95 {found.p95:.2f} s: {counted(found.requests, 'request')} {when}"


def _kv(shot: Snapshot) -> str:
    if shot.reading is None or shot.reading.kv is None:
        return UNKNOWN
    size = f" of {shot.reading.kv_tokens:,} tokens" if shot.reading.kv_tokens else ""
    return f"{shot.reading.kv:.1%}{size}"


def _answered(answered: Answered | None, now: float) -> str:
    if answered is None:
        return UNKNOWN
    what = ", ".join(f"{count:,} x {status}" for status, count in answered.statuses.items()) or "nothing"
    return f"{what}, since the gateway started {duration(max(now - answered.since, 0))} ago"


def _gpus(gpus: Sequence[Gpu] | None) -> str:
    if gpus is None:
        return UNKNOWN
    return "\n".join(map(_gpu, gpus)) or "none"


def _gpu(gpu: Gpu) -> str:
    memory = "shares the machine's memory"
    if gpu.used is not None and gpu.total:
        memory = f"{gpu.used / GIB:.1f} of {gpu.total / GIB:.1f} GiB"
    busy = f", {gpu.busy}% busy" if gpu.busy is not None else ""
    return f"{gpu.index} {gpu.name}: {memory}{busy}"


def colour(word: str) -> str:
    """Of a state."""
    return "green" if word in GOOD else "red" if word in BAD else "yellow"


def counted(count: int, what: str) -> str:
    """A number of things."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def duration(seconds: float) -> str:
    """Seconds in words."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def padded(shot: Snapshot) -> RenderableType:
    """The screen with some air around it, for pictures."""
    return Padding(screen(shot), (1, 2))
