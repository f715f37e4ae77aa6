"""A load generator that costs little: raw HTTP/1.1 over asyncio protocols.

    python benchmarks/load.py http://127.0.0.1:4000 --route chat --streams 32 --seconds 10

Each of N clients asks again as soon as its answer has ended (a closed loop). Prints JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path
from typing import cast

if not __package__:  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.http_answer import Counter, Head, UntilClosed
from benchmarks.job import COUNTED, ROUTES, Job
from benchmarks.result import Result

# Seconds after which an answer is given up.
LONGEST = 180.0
# LiteLLM asks for 16 at least on /v1/responses, as OpenAI does.
WARM_TOKENS = 20


class Client(asyncio.Protocol):
    """One client: a connection that is kept, one request at a time.

    Attributes:
        pauses: if set to a list, receives (time, seconds since the last token or the request) for every arrival.
        status, tokens, last: of the answer under way; `last` is when its last token came.
    """

    def __init__(self, job: Job, result: Result) -> None:
        self.job, self.result, self.request = job, result, job.request()
        self.transport: asyncio.Transport | None = None
        self.pauses: list[tuple[float, float]] | None = None
        self.done: asyncio.Future[None] | None = None

    async def ask(self, *, measured: bool = True, tokens: int = 0) -> None:
        """Ask once and wait for the end of the answer; the result knows how it went."""
        self.measured, self.expected = measured, tokens or self.job.tokens
        self.head, self.received, self.failed = cast(Head | None, None), b"", b""
        self.counter = Counter(self.job.stream, COUNTED.get(self.job.route, b""))
        self.status = self.tokens = 0
        self.longest = 0.0
        try:
            if self.transport is None:
                await asyncio.get_running_loop().create_connection(lambda: self, *self.job.address)
            self.done = asyncio.get_running_loop().create_future()
            self.sent = self.last = time.perf_counter()
            assert self.transport is not None
            self.transport.write(self.job.request(tokens) if tokens else self.request)
            await asyncio.wait_for(self.done, LONGEST)
        except (OSError, ValueError) as error:
            self.status, self.failed = 0, str(error or type(error).__name__).encode()
            self.close()
            await asyncio.sleep(0.1)
        self.result.ended(self, time.perf_counter())

    def close(self) -> None:
        """Give up the connection."""
        if self.transport is not None:
            self.transport.abort()
        self.transport = self.done = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """The server closed: an answer's end, or its failure."""
        self.transport = None
        if self.done and not self.done.done():
            if exc is None and self.head and isinstance(self.head.body, UntilClosed):
                self._finish()
            else:
                self.done.set_exception(ConnectionResetError("the connection was closed before the answer ended"))

    def data_received(self, data: bytes) -> None:
        """A part of an answer."""
        now = time.perf_counter()
        if self.head is None:
            self.received += data
            raw, found, data = self.received.partition(b"\r\n\r\n")
            if not found:
                return
            self.head = Head(raw)
            self.status = self.head.status
        payload = self.head.body.feed(data)
        if self.status != 200:
            self.failed += payload
        elif found_tokens := self.counter.feed(payload):
            self._arrived(found_tokens, now)
        if self.head.body.done:
            self._finish()

    def _arrived(self, tokens: int, now: float) -> None:
        pause = now - self.last
        self.last = now
        if self.pauses is not None:
            self.pauses.append((now, pause))
        if self.measured:
            result = self.result
            if result.begin <= now < result.until:
                result.tokens += tokens
            if self.tokens:
                self.longest = max(self.longest, pause)
            else:
                result.first.append(pause)
        self.tokens += tokens

    def _finish(self) -> None:
        if self.status == 200 and (left := self.counter.finish()):
            self._arrived(left, time.perf_counter())
        if self.head and self.head.close:
            done, self.done = self.done, None
            if self.transport is not None:
                self.transport.close()
            self.transport = None
        else:
            done = self.done
        if done and not done.done():
            done.set_result(None)


async def measure(job: Job, streams: int, seconds: float, *, spread: float = 0.0, drain: bool = True) -> Result:
    """Load a subject and return what was seen.

    Every client asks once for a short answer first, so that connections stand and caches know the key.

    Args:
        job: what each client asks.
        streams: clients at once.
        seconds: length of the measurement.
        spread: seconds over which the clients start, before the measurement begins.
        drain: whether the answers under way at the end are waited for (they count as answered) or dropped.
    """
    result = Result()
    clients = [Client(job, result) for _ in range(streams)]
    await asyncio.gather(*(client.ask(measured=False, tokens=WARM_TOKENS) for client in clients))
    result.start(time.perf_counter() + spread, seconds)

    async def run(client: Client, wait: float) -> None:
        await asyncio.sleep(wait)
        while time.perf_counter() < result.until:
            await client.ask()

    tasks = [asyncio.create_task(run(client, spread * place / streams)) for place, client in enumerate(clients)]
    _, left = await asyncio.wait(tasks, timeout=None if drain else result.until - time.perf_counter())
    for task in left:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for client in clients:
        client.close()
    return result


def _main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("base")
    parser.add_argument("--route", choices=ROUTES, default="chat")
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--tokens", type=int, default=500)
    parser.add_argument("--whole", action="store_true", help="answers in one piece instead of streams")
    parser.add_argument("--key", default="sk-FAKE")
    parser.add_argument("--rate", type=float, default=0, help="tokens a second of each stream that upstream.py makes")
    parser.add_argument("--delay", type=float, default=0, help="seconds that upstream.py waits before it answers")
    given = parser.parse_args()
    job = Job(given.base, given.route, given.tokens, not given.whole, given.rate, given.delay, given.key)
    print(json.dumps(asyncio.run(measure(job, given.streams, given.seconds, spread=1.0 if given.rate else 0.0)).summary()))


if __name__ == "__main__":
    _main()
