"""Clients that go on asking while something is done to the stack, and what became of each request."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, TypeVar

from harness import Stack, core_of, frozen, wait_for

T = TypeVar("T")
BODY = {"model": "vllm_agent", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}


@dataclass(frozen=True)
class Outcome:
    """One request.

    Attributes:
        began: time.monotonic() when it was sent.
        seconds: how long it took.
        status: of the answer; 0 if there was none.
        retry_after: that header, or empty.
        body: the start of what an unsuccessful one answered.
    """

    began: float
    seconds: float
    status: int
    retry_after: str = ""
    body: str = ""


def ask(stack: Stack, key: str = "sk-FAKE", body: Any = None, path: str = "/v1/chat/completions") -> Outcome:
    """One request."""
    request = urllib.request.Request(
        stack.url + path,
        data=json.dumps(body or BODY).encode(),
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    began = time.monotonic()
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            answer.read()
            return Outcome(began, time.monotonic() - began, answer.status)
    except urllib.error.HTTPError as error:
        text = error.read().decode(errors="replace")[:300]
        return Outcome(began, time.monotonic() - began, error.code, error.headers.get("Retry-After", ""), text)
    except OSError as error:
        return Outcome(began, time.monotonic() - began, 0, body=str(error))


def crowd(stack: Stack, one: Callable[[], T], count: int, refused: int) -> list[T]:
    """What becomes of as many requests at the same moment, of which so many are refused.

    The engine's core stands still until they have been: no place is free again before the last has asked for one.
    """
    with ThreadPoolExecutor(count) as pool:
        with frozen(core_of(stack.pids()["engine"])):
            asked = [pool.submit(one) for _ in range(count)]
            wait_for(lambda: sum(answer.done() for answer in asked) >= refused, f"{refused} to be refused")
        return [answer.result() for answer in asked]


@dataclass
class Load:
    """Clients, each asking again as soon as it is answered, for as long as the block lasts."""

    stack: Stack
    clients: int = 4
    key: str = "sk-FAKE"
    pause: float = 0.05
    outcomes: list[Outcome] = field(default_factory=list)

    def __enter__(self) -> Load:
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._client) for _ in range(self.clients)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _client(self) -> None:
        while not self._over.is_set():
            self.outcomes.append(ask(self.stack, self.key))
            self._over.wait(self.pause)

    @property
    def lost(self) -> list[Outcome]:
        """Those that were not answered with 200."""
        return [outcome for outcome in self.outcomes if outcome.status != 200]

    def recovered_after(self, moment: float) -> float:
        """Seconds from `moment` to the end of the first request sent after the last loss; 0 if nothing was lost."""
        if not self.lost:
            return 0.0
        last = max(outcome.began for outcome in self.lost)
        good = [one.began + one.seconds for one in self.outcomes if one.status == 200 and one.began > last]
        return min(good) - moment
