"""One start as it goes on, for both runtimes: from states of the parts and lines of the log to what is reported."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from stack import engine_phase
from stack.errors import Problem, RunError
from stack.files import write_atomic
from stack.progress import estimate, shown, timings
from stack.progress.download import EVERY, Rate
from stack.progress.estimate import Left, Timed
from stack.progress.follow import Log
from stack.progress.steps import BEGIN, Phase, after
from stack.progress.timings import Expected, Key, Past
from stack.runtime.report import TOTAL, Report
from stack.runtime.watch import EARLIER, ENGINE, KEY_MISSING, Part

DOWNLOADING = "downloading the model's weights"
FIRST = engine_phase.recognise(BEGIN)
STOPPING, AGAIN, STARTING, KEYS = "stopping the earlier one", "being started again", "starting", "making the local key"
# What says nothing of the next start.
_ONCE = frozenset({DOWNLOADING, STOPPING, AGAIN})
_NO_STEPS = ("", engine_phase.READY, engine_phase.STOPPING, engine_phase.DEAD)
# An engine that has run for so many seconds when it is first looked at was started by somebody else.
_JOINED = 5.0
# Files come one after the other; so many seconds without any mean that the download is over.
_PAUSE = 2.0

# Bytes of the weights that are here and in all (0: not known), while they are being downloaded.
Weights = Callable[[], tuple[int, int] | None]


@dataclass
class _Track:
    """One part's way: the steps behind it, and the one it is in."""

    part: str
    started: float
    step: str = ""
    began: float = 0.0
    gone: list[Timed] = field(default_factory=list)
    ready: bool = False
    restarted: bool = False
    failed: tuple[str, float] = ("", 0.0)

    @property
    def name(self) -> str:
        return f"{self.part}: {self.step}"

    def once(self, now: float) -> float:
        """Seconds spent with what is done only once."""
        running = now - self.began if self.step in _ONCE else 0.0
        return running + sum(seconds for name, seconds in self.gone if name in _ONCE)


class Start:
    """Watches parts until they are ready, and remembers how long it took.

    Args:
        report: is told.
        file: where starts are remembered.
        key: what is started.
        log: the engine's lines.
        usual: is written for the gateway: what the engine's steps took; beside the release, before the engine starts.
        weights: how much of a download is here.
        clock: seconds of the epoch.
    """

    def __init__(
        self,
        report: Report,
        file: Path,
        key: Key,
        log: Log,
        usual: Path,
        weights: Weights = lambda: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._report, self._file, self._key, self._log, self._weights, self._clock = report, file, key, log, weights, clock
        self.expected: Expected = timings.expected(timings.read(file), key)
        self._usual_file = usual
        if self.expected.same and self.expected.past:
            self._tell(self.expected.past)
        self._began = self._ready = clock()
        self._tracks: dict[str, _Track] = {}
        self._phase, self._said, self._seen_begin, self._joined = Phase(), 0.0, False, False
        self._rate, self._looked, self._coming = Rate(), 0.0, 0.0
        self._transfer: tuple[str, float | None, float | None] | None = None

    def begin(self) -> None:
        """The parts have been told to start."""
        self._began = self._clock()

    def _tell(self, past: Past) -> None:
        with contextlib.suppress(RunError):
            write_atomic(self._usual_file, engine_phase.usual_text(past.parts.get(ENGINE, ())))

    def look(self, part: Part) -> None:
        """Take note of a part that is not ready."""
        now = self._clock()
        track = self._tracks.get(part.name) or self._new(part, now)
        track.ready = False
        if part.detail == EARLIER:
            self._begin(track, STOPPING, now)
        elif part.name == ENGINE:
            self._engine(track, part, now)
        elif part.restarts and part.state != "starting":
            self._ended(track, now)
        else:
            self._begin(track, KEYS if part.detail == KEY_MISSING else STARTING, now)
        if track.step:
            self._total(now)
            text, done = self._where(track, now)
            self._report.phase(track.name, text or ("" if part.name == ENGINE else part.detail), done)

    def ready(self, name: str) -> None:
        """A part is ready."""
        track = self._tracks.get(name)
        if track is not None:
            self._ready = self._clock()
            self._begin(track, "", self._ready)
            track.ready = True

    def _total(self, now: float) -> None:
        """Report on the whole."""
        lefts = [self._left(track, now) for track in self._tracks.values() if not track.ready]
        known = [left for left in lefts if left is not None]
        if not known or not self.expected.same:
            return
        elapsed, usual = self._elapsed(now), self._usual()
        left = estimate.whole(known)
        late = estimate.longer(elapsed, usual)
        done = None if late else elapsed / max(elapsed + left.seconds, 0.1)
        self._report.phase(TOTAL, shown.total(elapsed, left, usual), done)

    def done(self) -> None:
        """All are ready: say how long it took and remember it, if the engine was started."""
        if not self._tracks:
            return
        now = self._ready
        elapsed = self._elapsed(now)
        compare = self.expected.same and now - self._began - elapsed < 1
        before = f" (last time {shown.duration(self._usual())})" if compare else ""
        self._report.finished(TOTAL, f"ready after {shown.duration(now - self._began)}{before}")
        if ENGINE not in self._tracks or self._joined or any(track.restarted for track in self._tracks.values()):
            return
        parts = {
            name: tuple((step, round(seconds, 2)) for step, seconds in track.gone if step not in _ONCE)
            for name, track in self._tracks.items()
        }
        past = Past(self._key, round(elapsed, 2), parts)
        timings.add(self._file, past)
        self._tell(past)

    def doing(self, name: str) -> tuple[str, float]:
        """The step a part is in, or was in when it last ended, and how long its start had taken until then."""
        track = self._tracks.get(name)
        if track is None:
            return "", 0.0
        if track.failed[0] and track.step in ("", AGAIN, FIRST, STARTING):
            return track.failed
        return track.step, self._clock() - track.started

    def explained(self, name: str, problem: Problem) -> Problem:
        """A problem of a part, with the step that it failed in."""
        step, seconds = self.doing(name)
        if not step or name != ENGINE:
            return problem
        return replace(problem, what=f"failed while {step} after {shown.duration(seconds)}: {problem.what}")

    def still(self) -> str:
        """What the engine is in, to be put behind another sentence."""
        step = self.doing(ENGINE)[0]
        return f", still {step}" if step else ""

    def _new(self, part: Part, now: float) -> _Track:
        joined = part.name == ENGINE and part.detail != EARLIER and part.seconds > _JOINED
        track = self._tracks[part.name] = _Track(part.name, now - part.seconds if joined else now)
        if part.name == ENGINE:
            self._joined = joined
            self._began = min(self._began, track.started)
            self._report.note(shown.beforehand(self.expected))
        return track

    def _engine(self, track: _Track, part: Part, now: float) -> None:
        if not track.step or track.step == STOPPING:
            self._begin(track, FIRST, max(track.started, now - part.seconds))
        for when, line in self._log.read():
            if line.startswith(BEGIN):
                if self._seen_begin:
                    self._ended(track, when)
                self._seen_begin = True
                self._begin(track, FIRST, when)
            if self._seen_begin:
                before, self._phase = self._phase, after(self._phase, line)
                self._said = self._said if self._phase == before else when
                if self._phase.name not in _NO_STEPS and track.step != DOWNLOADING:
                    self._begin(track, self._phase.name, max(when, track.began))
        if part.state != "starting" and part.restarts:
            self._ended(track, now)
            self._seen_begin = False
        elif track.step in (FIRST, "loading the model", "loading the model's weights", DOWNLOADING):
            self._look_for_weights(track, now)

    def _look_for_weights(self, track: _Track, now: float) -> None:
        if now - self._looked < EVERY:
            return
        self._looked = now
        found = self._weights()
        if found is not None:
            got, of = found
            of = of if of >= got else 0
            rate = self._rate.add(now, got)
            self._coming = now
            self._transfer = (
                shown.transfer(got, of, rate),
                got / of if of else None,
                (of - got) / rate if of and rate else None,
            )
            self._begin(track, DOWNLOADING, now)
        elif track.step == DOWNLOADING and (now - self._coming > _PAUSE or self._phase.detail):
            self._begin(track, self._phase.name if self._phase.name not in _NO_STEPS else FIRST, now)

    def _begin(self, track: _Track, step: str, now: float) -> None:
        """Go on to another step; the empty one ends the last."""
        if step == track.step:
            return
        if track.step == STOPPING:
            track.started = now
        if track.step:
            seconds = max(now - track.began, 0.0)
            track.gone.append((track.step, seconds))
            self._report.finished(track.name, f"done in {shown.duration(seconds)}")
        track.step, track.began = step, now

    def _ended(self, track: _Track, now: float) -> None:
        """A part has ended by itself: what it did until then says nothing of the next attempt."""
        if track.step in ("", AGAIN):
            return
        track.failed = track.step, now - track.started
        self._report.finished(track.name, f"ended after {shown.duration(now - track.began)}")
        track.gone = []
        track.step, track.began, track.started, track.restarted = AGAIN, now, now, True

    def _where(self, track: _Track, now: float) -> tuple[str, float | None]:
        """How far the running step is, in words and as a fraction: as it says itself, else by what it took last time."""
        elapsed, left = now - track.began, self._left(track, now)
        if track.step == DOWNLOADING and self._transfer:
            return self._transfer[:2]
        phase = self._phase if track.part == ENGINE and track.step == self._phase.name else Phase()
        if phase.done is not None:
            return shown.step(phase.detail, left), phase.done
        by_time = left is not None and left.usual > 0 and not left.over
        return shown.step("", left), min(elapsed / left.usual, 0.99) if by_time and left else None

    def _left(self, track: _Track, now: float) -> Left | None:
        if not self.expected.same or self.expected.past is None:
            return None
        elapsed, measured = now - track.began, None
        if track.step == DOWNLOADING:
            measured = self._transfer[2] if self._transfer else None
        elif track.part == ENGINE and track.step == self._phase.name and self._phase.whole and self._phase.done is not None:
            measured = estimate.of_fraction(self._phase.done, self._said - track.began, elapsed)
        past = self.expected.past.parts.get(track.part, ())
        return estimate.left(past, [name for name, _ in track.gone], track.step, elapsed, measured)

    def _elapsed(self, now: float) -> float:
        """Seconds of this start, without what is done only once."""
        once = max((track.once(now) for track in self._tracks.values()), default=0.0)
        return max(now - self._began - once, 0.0)

    def _usual(self) -> float:
        """Seconds the same parts took last time."""
        past = self.expected.past
        if past is None:
            return 0.0
        if ENGINE in self._tracks:
            return past.seconds
        return max((sum(took for _, took in past.parts.get(name, ())) for name in self._tracks), default=0.0)
