"""Clients that read a long answer as it is made.

How fast a machine is, and how long `status` takes on it beside an engine that computes, is not for tests to guess: streams
that have to outlast a look are endless, or their engine stands still meanwhile (`frozen` and `core_of` in harness.py).
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterator
from typing import IO

import httpx
import openai

from harness import Stack, wait_for

# Within the model's context, with a short prompt. Nobody reads it to its end.
ENDLESS = 4000
# Made within ENGINE_SHUTDOWN_TIMEOUT (harness.py), eight times at once, on any machine.
SHORT = 80


class Stream(threading.Thread):
    """One such client; it begins at once.

    Attributes:
        pieces: events it has read.
        finish: the reason the answer ended with, once it has.
        refused: the status of the answer instead of a stream; 0 if there was none.
        error: what broke it off or was answered instead, or empty.
    """

    def __init__(self, stack: Stack, tokens: int) -> None:
        super().__init__(daemon=True)
        self.tokens, self.client = tokens, stack.openai()
        self.pieces, self.finish, self.refused, self.error = 0, "", 0, ""
        self._left = threading.Event()
        self.start()

    def run(self) -> None:
        try:
            with self.client.chat.completions.create(
                model="vllm_agent",
                messages=[{"role": "user", "content": "Count."}],
                max_tokens=self.tokens,
                stream=True,
                extra_body={"ignore_eos": True},
            ) as chunks:
                for chunk in chunks:
                    self.pieces += 1
                    if chunk.choices and chunk.choices[0].finish_reason:
                        self.finish = chunk.choices[0].finish_reason
                    if self._left.is_set():
                        break
        except openai.APIStatusError as error:
            self.refused, self.error = error.status_code, f"{type(error).__name__}: {error}"
        except (openai.APIError, httpx.HTTPError) as error:
            self.error = f"{type(error).__name__}: {error}"

    def has_all(self) -> bool:
        """Whether it got the answer to its end."""
        self.join(120)
        return (self.error, self.finish) == ("", "length")

    def leave(self) -> None:
        """Go away in the middle: at the next event."""
        self._left.set()


def begun(stack: Stack, count: int = 1, tokens: int = ENDLESS) -> list[Stream]:
    """So many at once, each of which has read some of its answer."""
    streams = _opened(stack, count, tokens)
    assert [stream.error for stream in streams] == [""] * count
    return streams


@contextlib.contextmanager
def endless(stack: Stack, count: int) -> Iterator[list[Stream]]:
    """So many at once for as long as the block lasts, some of which may be refused; then they go away."""
    streams = _opened(stack, count, ENDLESS)
    try:
        yield streams
    finally:
        for stream in streams:
            stream.leave()
        for stream in streams:
            stream.join(60)


def _opened(stack: Stack, count: int, tokens: int) -> list[Stream]:
    streams = [Stream(stack, tokens) for _ in range(count)]
    wait_for(lambda: all(stream.pieces > 3 or stream.error for stream in streams), "the streams to begin")
    return streams


# What the data of a piece of text has in it.
_TEXT = {
    "/v1/chat/completions": b'"content":',
    "/v1/completions": b'"text":',
    "/v1/messages": b'"text_delta"',
    "/v1/responses": b'"response.output_text.delta"',
}


def read_pieces(answer: IO[bytes], path: str, count: float = math.inf) -> int:
    """Read pieces of text of a streamed answer: so many, or those that come before the connection's time limit.

    Returns:
        How many.
    """
    read = 0
    while read < count:
        try:
            line = answer.readline()
        except TimeoutError:
            assert count == math.inf, "nothing comes"
            break
        assert line, "the stream ended before its client went away"
        # The first of a chat is empty.
        read += line.startswith(b"data: ") and _TEXT[path] in line and b'"role":"assistant"' not in line
    return read
