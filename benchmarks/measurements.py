"""The measurements, each for one subject. Tokens a second, milliseconds; what was compared with `direct` says so."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.job import Job
from benchmarks.load import Client, measure
from benchmarks.result import Result, milliseconds
from benchmarks.subjects import Subject

ANSWER = 20  # tokens of a unary answer
SUSTAINED, FIRST_MS = 0.95, 50.0
LOWEST, HIGHEST = 125.0, 128_000.0  # tokens/s that the search tries


@dataclass(frozen=True)
class Options:
    """How much is measured.

    Attributes:
        streams: at once.
        rate: tokens a second that the upstream makes for all streams together, when paced.
        seconds: of each measurement.
        long: tokens of the long stream whose end is watched.
        search: whether to search for the highest rate that is sustained.
        quick: less of everything.
    """

    streams: int = 32
    rate: float = 20_000.0
    seconds: float = 4.0
    long: int = 16_000
    search: bool = False
    quick: bool = False


@dataclass
class Session:
    """The measurements of one subject.

    Attributes:
        requests, tokens: that were answered in full, over all measurements.
        found: figures by measurement.
    """

    subject: Subject
    options: Options
    say: Callable[[str], None]
    requests: int = 0
    tokens: int = 0
    found: dict[str, Any] = field(default_factory=dict)

    async def run(self) -> None:
        """All measurements; the figures are in `found`."""
        paced = ("chat",) if self.options.quick else ("chat", "messages")
        routes = ("chat", "completions", "messages", "responses") if self.subject.all_routes else ("chat", "messages")
        for route in routes:
            await self._step(f"streams {route}", self._streams(route))
        for route in paced:
            await self._step(f"paced {route}", self._paced(route, self.options.rate))
        for name, clients, delay in (("unary", 1, 0.0), ("unary 20 ms", 1, 0.02), ("unary 16", 16, 0.0)):
            await self._step(name, self._unary(clients, delay))
        await self._step("end of a long stream", self._long_end())
        if self.options.search:
            await self._step("sustained chat", self._search("chat"))

    async def _step(self, name: str, work: Any) -> None:
        self.say(name)
        self.found[name] = await work
        await asyncio.sleep(0.3)  # what was dropped is cleared away meanwhile

    def _job(self, route: str, tokens: int, **values: Any) -> Job:
        return Job(self.subject.base, route, tokens, key=self.subject.key, **values)

    async def _measure(self, job: Job, streams: int, seconds: float, spread: float = 0.0) -> Result:
        # Answers under way at the end are waited for only where every token will be looked for in the database.
        result = await measure(job, streams, seconds, spread=spread, drain=self.subject.recorded is not None)
        self._count(result)
        return result

    def _count(self, result: Result) -> None:
        self.requests += result.answered
        self.tokens += result.answered_tokens

    async def _streams(self, route: str) -> dict[str, Any]:
        return (await self._measure(self._job(route, 500), self.options.streams, self.options.seconds)).summary()

    async def _paced(self, route: str, rate: float, seconds: float = 0.0, tokens: int = 2000) -> dict[str, Any]:
        """Streams of an upstream that makes `rate` tokens a second, as many for each stream."""
        each = rate / self.options.streams
        job = self._job(route, tokens, rate=each)
        result = await self._measure(job, self.options.streams, seconds or self.options.seconds, spread=1.0)
        return {
            **result.summary(),
            "offered_per_s": round(rate),
            "delivered": round(result.tokens / result.seconds / rate, 4),
        }

    async def _unary(self, clients: int, delay: float) -> dict[str, Any]:
        job = self._job("chat", ANSWER, stream=False, delay=delay)
        return (await self._measure(job, clients, self.options.seconds * 0.6)).summary()

    async def _long_end(self) -> dict[str, Any]:
        """One long stream ends while eight slow ones run: their longest pauses before, during, and around its end."""
        result = Result()
        rate = 50.0
        tokens = int(rate * (5.5 + self.options.long / 1000))
        clients = [Client(self._job("chat", tokens, rate=rate), result) for _ in range(8)]
        pauses: list[tuple[float, float]] = []
        for client in clients:
            client.pauses = pauses
        running = True

        async def run(client: Client) -> None:
            while running:
                await client.ask()

        tasks = [asyncio.create_task(run(client)) for client in clients]
        await asyncio.sleep(1.0)
        quiet = time.perf_counter()
        await asyncio.sleep(2.0)
        begun = time.perf_counter()
        long = Client(self._job("chat", self.options.long, rate=1000.0), result)
        await long.ask()
        last = time.perf_counter()
        await asyncio.sleep(2.0)
        running = False
        if self.subject.recorded is None:
            for task in tasks:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for client in (*clients, long):
            client.close()
        self._count(result)

        def longest(begin: float, end: float) -> float | None:
            """Of the pauses that touch a stretch of time, ms."""
            touching = [pause for now, pause in pauses if now > begin and now - pause < end]
            return round(1000 * max(touching), 1) if touching else None

        return {
            "longest_pause_ms": {
                "without": longest(quiet, begun),
                "meanwhile": longest(begun + 0.5, long.last - 1.0),
                "at_end": longest(long.last - 0.5, last + 1.5),
            },
            "tokens": long.tokens,
            "seconds": round(long.last - begun, 2),
            "pause_ms": milliseconds([pause for now, pause in pauses if begun < now < last]),
            "errors": result.errors,
            "trouble": result.trouble,
        }

    async def _search(self, route: str) -> dict[str, Any]:
        """The highest rate that is sustained: doubled until it is not (or halved until it is), then two bisections."""
        probes: list[dict[str, Any]] = []

        async def sustained(rate: float) -> bool:
            each = rate / self.options.streams
            found = await self._paced(route, rate, seconds=3.0, tokens=max(20, min(2000, int(3 * each))))
            first = found["first_ms"]["p50"]
            # The upstream's own next step is half a step away on average; slow ones are no fault of the subject.
            prompt = first is not None and first - 500 / each < FIRST_MS
            good = found["delivered"] >= SUSTAINED and prompt and not found["errors"]
            probes.append({"rate": round(rate), "delivered": found["delivered"], "first_p50_ms": first, "sustained": good})
            self.say(f"sustained {route}: {rate:.0f} tokens/s {'yes' if good else 'no'}")
            await asyncio.sleep(0.5)
            return bool(good)

        good, bad, rate = 0.0, 0.0, 1000.0
        while LOWEST <= rate <= HIGHEST and not (good and bad):
            if await sustained(rate):
                good, rate = rate, rate * 2
            else:
                bad, rate = rate, rate / 2
        for _ in range(2 if good and bad else 0):
            middle = (good * bad) ** 0.5
            good, bad = (middle, bad) if await sustained(middle) else (good, middle)
        return {"tokens_per_s": round(good), "probes": probes}
