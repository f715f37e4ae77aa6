"""A stand-in for an engine that costs next to nothing: vLLM's wire format, precomputed.

    python benchmarks/upstream.py --port 9000 [--rate 0] [--delay 0] [--tokens-per-chunk 1]

It answers the four routes, streamed and whole, so that what is measured behind it is the gateway. With a rate it makes
one token for each of its streams at a time, as an engine's steps do, that many steps a second; without, tokens go out as
fast as connections take them. A request may say it itself by text in its prompt, which every gateway passes on:
`rate=625` (steps a second), `delay=0.02` (seconds before the first token, or before a whole answer).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import selectors
import sys
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote

if not __package__:  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import wire

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
RATE = re.compile(rb"\brate=([0-9.]*[0-9])")
DELAY = re.compile(rb"\bdelay=([0-9.]*[0-9])")


class Stream:
    """An answer under way."""

    def __init__(self, connection: Connection, route: wire.Route, tokens: int, usage: bool, chunk: int) -> None:
        self.connection, self.route, self.tokens, self.usage, self.chunk = connection, route, tokens, usage, chunk
        self.made = self.sent = 0

    def step(self) -> bool:
        """Make one token; sent by itself, or with others as vLLM does with --stream-interval. False after the last."""
        self.made += 1
        ready = self.made - self.sent
        if ready >= self.chunk or self.sent == 0 or self.made == self.tokens:
            self.connection.transport.write(self.route.piece(ready))
            self.sent = self.made
        if self.made < self.tokens:
            return not self.connection.gone
        self.connection.transport.write(self.route.end(self.tokens, self.usage))
        return False


class Clock:
    """The steps of an engine: one token for every stream, then all wait. A step that comes late is made up for."""

    def __init__(self, rate: float) -> None:
        self.rate, self.streams, self.begun, self.steps = rate, list[Stream](), 0.0, 0

    def add(self, stream: Stream) -> None:
        """Take part from the next step on."""
        self.streams.append(stream)
        if len(self.streams) == 1:
            self.begun, self.steps = asyncio.get_running_loop().time(), 0
            self._wait()

    def _wait(self) -> None:
        asyncio.get_running_loop().call_at(self.begun + (self.steps + 1) / self.rate, self._tick)

    def _tick(self) -> None:
        due = int((asyncio.get_running_loop().time() - self.begun) * self.rate + 1e-6)
        while self.steps < due and self.streams:
            self.steps += 1
            self.streams = [stream for stream in self.streams if stream.step()]
        if self.streams:
            self._wait()


class Pump:
    """As fast as connections take it; streams take turns, and each chunk is a packet of its own."""

    def __init__(self) -> None:
        self.streams: list[Stream] = []
        self.running = False

    def add(self, stream: Stream) -> None:
        """Take part from now on."""
        self.streams.append(stream)
        self.wake()

    def wake(self) -> None:
        """Some connection takes more."""
        if not self.running:
            self.running = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self.streams = [stream for stream in self.streams if stream.connection.full or stream.step()]
        self.running = any(not stream.connection.full for stream in self.streams)
        if self.running:
            asyncio.get_running_loop().call_soon(self._turn)


class Upstream:
    """What all connections share.

    Args:
        tokens: length of an answer whose request sets no limit.
        rate: steps a second; 0: as fast as it goes.
        delay: seconds before an answer begins.
        tokens_per_chunk: tokens sent together after the first.
    """

    def __init__(self, tokens: int = 500, rate: float = 0.0, delay: float = 0.0, tokens_per_chunk: int = 1) -> None:
        self.tokens, self.rate, self.delay, self.chunk = tokens, rate, delay, tokens_per_chunk
        self.pump = Pump()
        self.clocks: dict[float, Clock] = {}

    def begin(self, stream: Stream, rate: float) -> None:
        """Let a stream have its tokens."""
        stream.connection.transport.write(HEAD + stream.route.begin)
        if rate:
            self.clocks.setdefault(rate, Clock(rate)).add(stream)
        else:
            self.pump.add(stream)


class Connection(asyncio.Protocol):
    """One client's connection; it asks one thing at a time."""

    transport: asyncio.Transport

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self.received = b""
        self.full = self.gone = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The client is there."""
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone; its stream ends at its next token."""
        self.gone, self.full = True, False
        self.upstream.pump.wake()

    def pause_writing(self) -> None:
        """The client reads more slowly than this writes."""
        self.full = True

    def resume_writing(self) -> None:
        """The client has caught up."""
        self.full = False
        self.upstream.pump.wake()

    def data_received(self, data: bytes) -> None:
        """Answer once the whole request is there."""
        self.received += data
        head, found, body = self.received.partition(b"\r\n\r\n")
        if not found:
            return
        lower = head.lower()
        if b"\r\ntransfer-encoding: chunked" in lower:
            if not body.endswith(b"0\r\n\r\n"):
                return
            body = b"".join(re.split(rb"\r\n[0-9a-f]+\r\n", b"\r\n" + body, flags=re.IGNORECASE))[:-2]
        else:
            length = re.search(rb"\r\ncontent-length: *(\d+)", lower)
            if len(body) < int(length[1] if length else 0):
                return
        self.received = b""
        self.answer(unquote(head.split(b" ")[1].decode().partition("?")[0]), body)

    def answer(self, path: str, body: bytes) -> None:
        """Send what `path` answers."""
        route = wire.ROUTES.get(path)
        if route is None:
            self._whole(wire.MODELS if path == "/v1/models" else b"{}")
            return
        request: dict[str, Any] = json.loads(body)
        given = request.get("max_tokens") or request.get("max_completion_tokens") or request.get("max_output_tokens")
        tokens = int(given or self.upstream.tokens)
        rate, delay = _number(RATE, body, self.upstream.rate), _number(DELAY, body, self.upstream.delay)
        loop = asyncio.get_running_loop()
        if request.get("stream"):
            usage = bool((request.get("stream_options") or {}).get("include_usage"))
            stream = Stream(self, route, tokens, usage, self.upstream.chunk)
            loop.call_later(delay, self.upstream.begin, stream, rate)
        else:
            loop.call_later(delay, self._whole, route.whole(tokens))

    def _whole(self, body: bytes) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        self.transport.write(head + body)


def _number(pattern: re.Pattern[bytes], body: bytes, otherwise: float) -> float:
    found = pattern.search(body)
    return float(found[1]) if found else otherwise


async def serve(upstream: Upstream, port: int = 0, host: str = "127.0.0.1") -> asyncio.Server:
    """Listen; on a free port if none is named."""
    return await asyncio.get_running_loop().create_server(lambda: Connection(upstream), host, port, backlog=1024)


async def _main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--tokens", type=int, default=500, help="tokens of an answer whose request sets no limit")
    parser.add_argument("--rate", type=float, default=0, help="steps a second; 0: as fast as it goes")
    parser.add_argument("--delay", type=float, default=0, help="seconds before an answer begins")
    parser.add_argument("--tokens-per-chunk", type=int, default=1, help="as vLLM's --stream-interval")
    options = parser.parse_args()
    upstream = Upstream(options.tokens, options.rate, options.delay, options.tokens_per_chunk)
    await (await serve(upstream, options.port, options.host)).serve_forever()


if __name__ == "__main__":
    # select() waits for microseconds, epoll for whole milliseconds: too coarse for an engine's steps.
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        runner.run(_main())
