"""Which values are not to be shown: what looks like a secret, wherever somebody has put one. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from stack.runtime.services import SECRET_NAME
from stack.settings import BY_KEY

HIDDEN = "(not shown)"
_SECRET_FLAG = re.compile(r"-(token|key|password|secret)\Z")


def shown(key: str, value: Any) -> Any:
    """A value as it may be shown."""
    if SECRET_NAME.search(key.upper()) and key not in BY_KEY and not isinstance(value, int | float):
        return value if str(value).startswith("os.environ/") else HIDDEN
    if isinstance(value, dict):
        return {name: HIDDEN if name.lower() == "authorization" else shown(name, one) for name, one in value.items()}
    return value


def kept(name: str, text: str) -> str:
    """The same for what is kept as text: a parameter such as litellm.max_tokens is a number, not a token."""
    number = name.startswith("litellm.") and re.fullmatch(r"-?\d+(\.\d+)?[KMG]?|True|False", text)
    return text if number or not text else str(shown(name, text))


def flag(name: str, value: str) -> str:
    """The same for a flag of the engine's command, where `token` is mostly a part of a text."""
    return HIDDEN if value and _SECRET_FLAG.search(name) else value


# Keys as OpenAI, LiteLLM, Hugging Face and HTTP write them, and a password in a URL.
_LOOKS_SECRET = re.compile(r"\b(sk-|hf_)[\w-]{8,}|(?<=Bearer )\S+|(?<=://)[^/\s:@]*:[^/\s@]+(?=@)")


def line(text: str, secrets: Iterable[str] = ()) -> str:
    """A line of a log as it may be shown: without these secrets, and what looks like one."""
    for secret in secrets:
        if len(secret) >= 8:
            text = text.replace(secret, HIDDEN)
    return _LOOKS_SECRET.sub(HIDDEN, text)
