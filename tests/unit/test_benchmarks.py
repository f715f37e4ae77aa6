"""The load generator against the upstream, in this process: tokens are counted exactly, however they arrive."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from benchmarks import report, wire
from benchmarks.http_answer import Chunked, Counter, Head, Sized, UntilClosed
from benchmarks.job import COUNTED, ROUTES, Job
from benchmarks.load import WARM_TOKENS, Client, measure
from benchmarks.measurements import Options, Session
from benchmarks.result import Result, percentile
from benchmarks.subjects import Subject
from benchmarks.subjects import check as chosen
from benchmarks.upstream import Upstream, serve
from stack.errors import RunError


def against(work: Callable[[str], Awaitable[Any]], **options: Any) -> Any:
    """Run `work` with the address of an upstream."""

    async def run() -> Any:
        server = await serve(Upstream(**options))
        async with server:
            return await work(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")

    return asyncio.run(run())


async def ask(job: Job, pauses: list[tuple[float, float]] | None = None) -> tuple[Client, Result]:
    result = Result()
    client = Client(job, result)
    client.pauses = pauses
    result.start(time.perf_counter(), 60)
    await client.ask()
    client.close()
    return client, result


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("per_chunk", [1, 7])
def test_counts_tokens_exactly(route: str, stream: bool, per_chunk: int) -> None:
    client, result = against(lambda base: ask(Job(base, route, 333, stream)), tokens_per_chunk=per_chunk)
    assert (client.tokens, result.tokens, result.answered, result.errors, result.trouble) == (333, 333, 1, 0, "")


@pytest.mark.parametrize("route", ROUTES)
def test_one_token_is_one_token(route: str) -> None:
    assert against(lambda base: ask(Job(base, route, 1)))[0].tokens == 1


@pytest.mark.parametrize("route", wire.ROUTES)
@pytest.mark.parametrize("size", [1, 2, 3, 50, 100_000])
def test_pieces_may_end_anywhere(route: str, size: int) -> None:
    sent = wire.ROUTES[route]
    raw = sent.begin + sent.piece(1) * 20 + sent.end(20, True)
    payload = _unchunked(raw)
    # The same text in other chunks, as a proxy may cut it.
    for body in (raw, b"".join(wire.frame(payload[at : at + 11]) for at in range(0, len(payload), 11)) + b"0\r\n\r\n"):
        chunked, counter, tokens = Chunked(), Counter(True, COUNTED.get(route.rpartition("/")[2], b"")), 0
        for at in range(0, len(body), size):
            assert not chunked.done
            tokens += counter.feed(chunked.feed(body[at : at + size]))
        assert chunked.done
        assert tokens + counter.finish() == 20


def _unchunked(raw: bytes) -> bytes:
    return Chunked().feed(raw)


def test_answers_are_valid_json() -> None:
    for route in wire.ROUTES.values():
        json.loads(route.whole(3))
        lines = _unchunked(route.begin + route.piece(3) + route.end(3, True)).decode().splitlines()
        data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ") and line != "data: [DONE]"]
        assert len([json.loads(line) for line in data]) > 1


@pytest.mark.parametrize(("rate", "per_chunk"), [(200, 1), (1000, 1), (1000, 10)])
def test_pacing(rate: int, per_chunk: int) -> None:
    tokens = rate // 2
    pauses: list[tuple[float, float]] = []

    async def work(base: str) -> list[Client]:
        result = Result()
        clients = [Client(Job(base, "chat", tokens, rate=rate), result) for _ in range(4)]
        clients[0].pauses = pauses
        await asyncio.gather(*(client.ask() for client in clients))
        for client in clients:
            client.close()
        return clients

    clients = against(work, tokens_per_chunk=per_chunk)
    assert [client.tokens for client in clients] == [tokens] * 4
    assert 0.48 <= clients[0].last - clients[0].sent <= 0.8
    arrivals = len(pauses)
    assert arrivals <= tokens // per_chunk + 1


def _delayed(stream: bool, base: str) -> Awaitable[Any]:
    return ask(Job(base, "chat", 2, stream, delay=0.1))


def test_delay() -> None:
    for stream in (True, False):
        result = against(partial(_delayed, stream))[1]
        assert 0.1 <= result.whole[0] < 0.4


def test_closed_loop() -> None:
    result = against(lambda base: measure(Job(base, "chat", 10), 4, 0.3))
    assert result.errors == 0
    assert result.answered == len(result.whole) + 4
    assert result.answered_tokens == 10 * len(result.whole) + 4 * WARM_TOKENS
    assert 0 < result.tokens <= 10 * len(result.whole)
    assert result.summary()["statuses"] == {"200": len(result.whole)}


def test_what_is_dropped_is_not_answered() -> None:
    result = against(lambda base: measure(Job(base, "chat", 1000, rate=100), 3, 0.3, drain=False))
    assert (result.answered, result.errors, len(result.first)) == (3, 0, 3)
    assert 60 <= result.tokens <= 100


def test_failures_are_counted() -> None:
    answers = [
        b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 4\r\n\r\nbusy",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        + wire.frame(b"data:  word\n\n")
        + b"0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\ndata:  word word\n\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nda",
    ]

    async def serve_all(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while answers:
            await _reader.readuntil(b"\r\n\r\n")
            answer = answers.pop(0)
            writer.write(answer)
            if b"Content-Length" not in answer:
                break
        writer.close()

    async def work() -> Result:
        server = await asyncio.start_server(serve_all, "127.0.0.1", 0)
        result = Result()
        result.start(time.perf_counter(), 60)
        client = Client(Job(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", "chat", 2), result)
        while answers:
            await client.ask()
        client.close()
        server.close()
        return result

    result = asyncio.run(work())
    assert dict(result.statuses) == {429: 1, 200: 2, 0: 1}
    assert (result.answered, result.short, result.errors) == (1, 1, 3)
    assert result.trouble == "status 429: busy"


def test_heads() -> None:
    assert isinstance(Head(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked").body, Chunked)
    sized = Head(b"HTTP/1.1 503 No\r\nCONTENT-LENGTH: 3\r\nConnection: Close")
    assert isinstance(sized.body, Sized)
    assert (sized.status, sized.close) == (503, True)
    assert isinstance(Head(b"HTTP/1.1 200 OK").body, UntilClosed)


def test_the_upstream_reads_chunked_requests() -> None:
    def work(base: str) -> Any:
        pieces = iter([b'{"max_tokens": 2, ', b'"messages": []}'])
        request = urllib.request.Request(
            f"{base}/v1/chat/completions", data=pieces, headers={"Transfer-Encoding": "chunked"}
        )
        return json.load(urllib.request.urlopen(request, timeout=10))

    answer = against(lambda base: asyncio.to_thread(work, base))
    assert answer["usage"]["completion_tokens"] == 2


def test_all_measurements_of_one_subject() -> None:
    options = Options(streams=2, rate=2000, seconds=0.1, long=200, quick=True)

    async def work(base: str) -> Session:
        session = Session(Subject(base), options, lambda _: None)
        await session.run()
        return session

    session = against(work)
    assert session.requests > 0
    labels = [label for label, _ in report.rows({"direct": session.found, "other": {}}, list(session.found))]
    assert "streams chat: tokens/s" in labels
    assert not any("failed" in label for label in labels)


def test_percentile() -> None:
    assert percentile([], 0.5) is None
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0


def test_subjects() -> None:
    assert chosen([]) == ["direct", "nginx", "router", "litellm", "stack"]
    assert chosen(["stack"]) == ["direct", "stack"]
    with pytest.raises(RunError, match="no such subject"):
        chosen(["ngix"])


@pytest.mark.parametrize(("able", "found"), [(50_000, 45255), (400, 420), (10, 0), (1_000_000, 128_000)])
def test_search(able: float, found: int, monkeypatch: pytest.MonkeyPatch) -> None:
    async def paced(self: Session, route: str, rate: float, seconds: float = 0.0, tokens: int = 0) -> dict[str, Any]:
        step = 1000 * self.options.streams / rate  # ms
        return {"delivered": min(1.0, able / rate), "first_ms": {"p50": step / 2 + 10}, "errors": 0}

    async def at_once(_seconds: float) -> None: ...

    monkeypatch.setattr(Session, "_paced", paced)
    monkeypatch.setattr(asyncio, "sleep", at_once)
    session = Session(Subject(""), Options(), lambda _: None)
    assert asyncio.run(session._search("chat"))["tokens_per_s"] == found
