"""Clients that read a long answer as it is made, sized by the clock: machines of any speed finish none too early."""

from __future__ import annotations

import functools
import threading
import time
from typing import IO

import httpx
import openai

from harness import Stack

# Within the model's context, with a short prompt.
ENDLESS = 4000


class Stream(threading.Thread):
    """One such client; it begins at once.

    Attributes:
        pieces: events it has read.
        finish: the reason the answer ended with, once it has.
        error: what broke it off, or empty.
    """

    def __init__(self, stack: Stack, tokens: int = ENDLESS) -> None:
        super().__init__()
        self.tokens, self.client = tokens, stack.openai()
        self.pieces, self.finish, self.error = 0, "", ""
        self.start()

    def run(self) -> None:
        try:
            for chunk in self.client.chat.completions.create(
                model="vllm_agent",
                messages=[{"role": "user", "content": "Count."}],
                max_tokens=self.tokens,
                stream=True,
                extra_body={"ignore_eos": True},
            ):
                self.pieces += 1
                if chunk.choices and chunk.choices[0].finish_reason:
                    self.finish = chunk.choices[0].finish_reason
        except (openai.APIError, httpx.HTTPError) as error:
            self.error = f"{type(error).__name__}: {error}"

    def has_all(self) -> bool:
        """Whether it got the answer to its end."""
        self.join(60)
        return (self.error, self.finish) == ("", "length")


def tokens_in(stack: Stack, seconds: float, streams: int = 1) -> int:
    """How many each of so many streams at once is given in that time on this machine, within the model's context."""
    return min(int(seconds * _rate(stack, streams)), ENDLESS)


@functools.cache
def _rate(stack: Stack, streams: int) -> float:
    """Tokens/s of each of so many streams at once."""
    for tokens in (8, 80):  # the first of so many at once are slower
        began = time.monotonic()
        probes = [Stream(stack, tokens) for _ in range(streams)]
        assert [probe.has_all() for probe in probes] == [True] * streams, [probe.error for probe in probes]
        seconds = time.monotonic() - began
    return tokens / seconds


# What the data of a piece of text has in it.
_TEXT = {
    "/v1/chat/completions": b'"content":',
    "/v1/completions": b'"text":',
    "/v1/messages": b'"text_delta"',
    "/v1/responses": b'"response.output_text.delta"',
}


def read_pieces(answer: IO[bytes], path: str, count: int) -> None:
    """Read so many pieces of text of a streamed answer; no more."""
    read = 0
    while read < count:
        line = answer.readline()
        assert line, "the stream ended before its client went away"
        # The first of a chat is empty.
        read += line.startswith(b"data: ") and _TEXT[path] in line and b'"role":"assistant"' not in line
