"""Reads HTTP/1.1 answers and counts the tokens in them, by find and count alone: no JSON while it is measured."""

from __future__ import annotations

from typing import Protocol

TOKEN = b" word"


class Body(Protocol):
    """Takes the body of an answer apart, however it arrives.

    Attributes:
        done: whether all of it was there.
    """

    done: bool

    def feed(self, data: bytes) -> bytes:
        """Raw bytes in, payload out."""


class Chunked:
    """Transfer-Encoding: chunked. A chunk counts once it is whole."""

    def __init__(self) -> None:
        self.done = False
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        """Raw bytes in, payload out."""
        if self._rest:
            data = self._rest + data
        place, parts = 0, []
        while (line := data.find(b"\r\n", place)) >= 0:
            size = int(data[place:line].partition(b";")[0], 16)
            stop = line + 2 + size
            if len(data) < stop + 2:
                break
            place = stop + 2
            if not size:
                self.done = True
                break
            parts.append(data[line + 2 : stop])
        self._rest = data[place:]
        return b"".join(parts)


class Sized:
    """Content-Length."""

    def __init__(self, length: int) -> None:
        self._left = length
        self.done = length == 0

    def feed(self, data: bytes) -> bytes:
        """Raw bytes in, payload out."""
        self._left -= len(data)
        self.done = self._left <= 0
        return data


class UntilClosed:
    """Neither: the connection's end is the answer's."""

    done = False

    def feed(self, data: bytes) -> bytes:
        """Raw bytes in, payload out."""
        return data


class Head:
    """The head of an answer.

    Attributes:
        status: the status.
        close: whether the server closes the connection after this answer.
        body: takes the body apart.
    """

    def __init__(self, raw: bytes) -> None:
        lines = raw.lower().split(b"\r\n")
        self.status = int(lines[0].split(b" ")[1])
        fields = {name.strip(): value.strip() for name, _, value in (line.partition(b":") for line in lines[1:])}
        self.close = fields.get(b"connection") == b"close"
        self.body: Body
        if b"chunked" in fields.get(b"transfer-encoding", b""):
            self.body = Chunked()
        elif b"content-length" in fields:
            self.body = Sized(int(fields[b"content-length"]))
        else:
            self.body = UntilClosed()
            self.close = True


class Counter:
    """Tokens of an answer: words, wherever packets, chunks and events begin and end.

    Args:
        stream: whether the answer is server-sent events, which are counted as each one becomes whole.
        only: if not empty, only events with this in them count.
    """

    def __init__(self, stream: bool, only: bytes = b"") -> None:
        self._stream, self._only = stream, only
        self._rest = b""

    def feed(self, payload: bytes) -> int:
        """Tokens that came with this."""
        text = self._rest + payload
        if not self._stream:
            self._rest = text
            return 0
        end = text.rfind(b"\n\n") + 2
        if end < 2:
            self._rest = text
            return 0
        self._rest = text[end:]
        return self._count(text[:end])

    def finish(self) -> int:
        """Tokens in what was left."""
        text, self._rest = self._rest, b""
        return self._count(text)

    def _count(self, text: bytes) -> int:
        if not (self._stream and self._only):
            return text.count(TOKEN)
        return sum(event.count(TOKEN) for event in text.split(b"\n\n") if self._only in event)
