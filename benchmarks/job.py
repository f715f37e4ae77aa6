"""What a load generator asks, as bytes."""

from __future__ import annotations

import json
import urllib.parse
from dataclasses import dataclass
from typing import Any

PROMPT = "Say something long."
# Path, what to say in the body, the field for the length of an answer.
ROUTES: dict[str, tuple[str, str, str]] = {
    "chat": ("/v1/chat/completions", "messages", "max_tokens"),
    "completions": ("/v1/completions", "prompt", "max_tokens"),
    "messages": ("/v1/messages", "messages", "max_tokens"),
    "responses": ("/v1/responses", "input", "max_output_tokens"),
}
# The last events of /v1/responses say the whole text again.
COUNTED = {"responses": b"output_text.delta"}


@dataclass(frozen=True)
class Job:
    """What is asked.

    Attributes:
        base: address without a path.
        route: one of ROUTES.
        tokens: length of an answer.
        stream: server-sent events, or one answer.
        rate: tokens a second that the upstream makes for each stream; 0: as fast as it goes.
        delay: seconds the upstream waits before it answers.
        key: bearer token.
    """

    base: str
    route: str = "chat"
    tokens: int = 500
    stream: bool = True
    rate: float = 0.0
    delay: float = 0.0
    key: str = "sk-FAKE"

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        parts = urllib.parse.urlsplit(self.base)
        return parts.hostname or "127.0.0.1", parts.port or 80

    def request(self, tokens: int = 0) -> bytes:
        """The request as bytes; for an answer of another length if `tokens` is given."""
        path, field, limit = ROUTES[self.route]
        prompt = PROMPT + (f" rate={self.rate:g}" if self.rate else "") + (f" delay={self.delay:g}" if self.delay else "")
        said = [{"role": "user", "content": prompt}] if field == "messages" else prompt
        body: dict[str, Any] = {"model": "vllm_agent", field: said, limit: tokens or self.tokens, "stream": self.stream}
        raw = json.dumps(body).encode()
        parts = urllib.parse.urlsplit(self.base)
        lines = [f"POST {parts.path}{path} HTTP/1.1", f"host: {parts.netloc}", f"authorization: Bearer {self.key}"]
        lines += ["content-type: application/json", f"content-length: {len(raw)}"]
        lines += ["anthropic-version: 2023-06-01"] if self.route == "messages" else []
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + raw
