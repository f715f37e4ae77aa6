"""The exceptions in a log of vLLM: several processes' lines, tracebacks of many lines, causes and wrappers. Pure."""

from __future__ import annotations

import re

# The exceptions of one traceback, the cause first and what was made of it last. Each is its text as in the log.
Chain = tuple[str, ...]

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_PROCESS = re.compile(r"^(\([^()]+ pid=\d+\)|\[rank\d+\]:) ?")
_LEVEL = re.compile(r"^(DEBUG|INFO|WARNING|ERROR|CRITICAL) \d\d-\d\d \d\d:\d\d:\d\d (\[[^\]]*\]) ?")
_TRACEBACK = "Traceback (most recent call last):"
_LINKS = ("The above exception was the direct cause of", "During handling of the above exception")
# An exception that was never raised, only named as a cause, has no traceback above it. argparse has none either.
_PLAIN = re.compile(r"^([A-Za-z_][\w.]*(Error|Exception|Enabled)(: |$)|vllm( serve)?: error: |ERROR: )")
_FRAME = re.compile(r'^  File ".*", line \d+, in ')
_MOST_LINES = 12
# What pydantic puts around the sentence of a refused configuration.
_PYDANTIC = re.compile(
    r"^pydantic_core\S+: \d+ validation errors? for \w+\n(?P<field>\S+)?\s+(?P<message>.*?)\s*\[type=.*", re.S
)
# What the entrypoint prints before vLLM, and the server when all has been loaded.
_STARTS = ("starting: ", "Application startup complete.")


def chains(log: str) -> list[Chain]:
    """The errors since the last start, or since the end of loading, in their order."""
    found: list[tuple[int, Chain]] = []
    streams: dict[str, _Stream] = {}
    for index, line in enumerate(log.splitlines()):
        text = _COLOUR.sub("", line).rstrip()
        if text.startswith(_STARTS[0]) or text.endswith(_STARTS[1]):
            found.clear()
            streams.clear()
            continue
        process, level, text = _parts(text)
        stream = streams.setdefault(process, _Stream(found))
        stream.feed(index, text, level in ("ERROR", "CRITICAL"), ordinary=bool(level))
    for stream in streams.values():
        stream.end()
    return [chain for _, chain in sorted(found)]


def before_last_start(log: str) -> str:
    """The log without what has been printed since the last start."""
    lines = log.splitlines(keepends=True)
    starts = [index for index, line in enumerate(lines) if line.startswith(_STARTS[0])]
    return "".join(lines[: starts[-1]]) if starts else ""


def _parts(text: str) -> tuple[str, str, str]:
    """Who said it (a process and a line of vLLM's source; empty for what is printed raw), its level, and the text."""
    process = _PROCESS.match(text)
    who = process[1] if process else ""
    text = text[process.end() :] if process else text
    level = _LEVEL.match(text)
    if level is None:
        return who, "", text
    return f"{who} {level[2]}", level[1], text[level.end() :]


class _Stream:
    """What one process says at one place: knows whether a traceback or a message is under way."""

    def __init__(self, found: list[tuple[int, Chain]]) -> None:
        self.found = found
        self.chain: list[list[str]] = []
        self.frames = self.linked = self.message = False
        self.last = self.ended = -1
        self.function = ""

    def feed(self, index: int, text: str, error: bool, ordinary: bool) -> None:
        """Take a line.

        Args:
            index: its number; a message that was printed raw goes on only in the very next line.
            text: without process and level.
            error: its level is ERROR.
            ordinary: it has a level.
        """
        adjacent, self.last = index == self.last + 1, index
        if ordinary and not error:
            return
        if text == _TRACEBACK:
            self._begin()
            self.frames = True
        elif text.startswith(_LINKS):
            self.linked, self.message = True, False
        elif self.frames:
            if text and not text[0].isspace():
                self.frames, self.message = False, True
                # A bare exception, such as an AssertionError, says nothing but where it was raised.
                self.chain.append([text if ":" in text else f"{text} (in {self.function})"])
                self.ended = index
            elif _FRAME.match(text):
                self.function = text.rpartition(" in ")[2]
        elif self.message and (adjacent or error):
            self.chain[-1].append(text)
        elif text and not text[0].isspace() and (error or _PLAIN.match(text)):
            self._begin()
            self.message, self.ended = True, index
            self.chain.append([text])
        elif text:
            self.message = False

    def _begin(self) -> None:
        if not self.linked:
            self.end()
        self.linked = self.message = False

    def end(self) -> None:
        """The traceback is over; a new one is none of its consequences."""
        if self.chain:
            chain = tuple(_unwrap("\n".join(lines[:_MOST_LINES])) for lines in self.chain)
            self.found.append((self.ended, chain))
        self.chain = []


def _unwrap(text: str) -> str:
    refused = _PYDANTIC.match(text)
    if refused is None:
        return text
    message = refused["message"].removeprefix("Value error, ")
    return f"{refused['field']}: {message}" if refused["field"] else message
