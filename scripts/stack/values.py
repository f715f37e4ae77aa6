"""How a setting's text becomes a value. Pure; every parser raises ValueError with a message for the user."""

from __future__ import annotations

import ipaddress
import math
import re

_SIZE = re.compile(r"^(\d+(?:\.\d+)?)\s*([kKmMgG])?$")
_BINARY = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_TRUE, _FALSE = frozenset({"1", "true", "yes", "on"}), frozenset({"0", "false", "no", "off"})


def parse_size(value: object) -> int:
    """`128K` -> 131072: a count of tokens, K, M and G being powers of 1024 in either case.

    Raises:
        ValueError: not a positive whole number with an optional K, M or G.
    """
    if isinstance(value, bool):
        raise ValueError("expected a size such as 8192 or 128K, got a boolean")
    match = _SIZE.match(str(value).strip())
    if not match:
        raise ValueError(f"expected a size such as 8192 or 128K, got {str(value)!r}")
    size = float(match[1]) * _BINARY[(match[2] or "").upper()]
    if size < 1 or not math.isfinite(size) or size != int(size):
        raise ValueError(f"expected a whole number of at least 1, got {str(value)!r}")
    return int(size)


def parse_vllm_size(text: str) -> int | None:
    """A size as `vllm serve` reads it: `32k` is 32000, `32K` is 32768; `auto` and -1 mean unknown (None).

    Source: vllm/engine/arg_utils.py, human_readable_int (vLLM 0.32.0).
    """
    text = text.strip()
    if text in {"auto", "-1"}:
        return None
    match = re.match(r"^(\d+(?:\.\d+)?)([kmgtKMGT])?$", text)
    if not match:
        raise ValueError(f"expected a length such as 8192, 8k (8000) or 8K (8192), got {text!r}")
    unit = match[2] or ""
    power = " kmgt".index(unit.lower()) if unit else 0
    length = float(match[1]) * (1000 if unit.islower() else 1024) ** power
    if not math.isfinite(length):
        raise ValueError(f"expected a length that a model can have, got {text[:20]!r}...")
    return int(length)


def parse_number(value: object) -> float:
    """A finite number; booleans, NaN and infinities are refused."""
    if isinstance(value, bool):
        raise ValueError("expected a number, got a boolean")
    try:
        number = float(str(value))
    except ValueError:
        raise ValueError(f"expected a number, got {str(value)!r}") from None
    if not math.isfinite(number):
        raise ValueError(f"expected a finite number, got {str(value)!r}")
    return number


def number_between(low: float, high: float = math.inf, *, above: bool = False) -> NumberRange:
    """A parser for numbers in [low, high], or (low, high] when `above`."""
    return NumberRange(low, high, above)


class NumberRange:
    """Parses a number and checks that it lies in a range."""

    def __init__(self, low: float, high: float, above: bool) -> None:
        self.low, self.high, self.above = low, high, above

    def __call__(self, value: object) -> float:
        """Parse and check."""
        number = parse_number(value)
        if number < self.low or number > self.high or (self.above and number == self.low):
            least = f"above {self.low:g}" if self.above else f"at least {self.low:g}"
            most = f" and at most {self.high:g}" if math.isfinite(self.high) else ""
            raise ValueError(f"expected a number {least}{most}, got {str(value)!r}")
        return number


class IntRange:
    """Parses a whole number and checks that it lies in [low, high]."""

    def __init__(self, low: int, high: int | None = None) -> None:
        self.low, self.high = low, high

    def __call__(self, value: object) -> int:
        """Parse and check."""
        number = parse_number(value)
        if number != int(number):
            raise ValueError(f"expected a whole number, got {str(value)!r}")
        if number < self.low or (self.high is not None and number > self.high):
            bounds = f"at least {self.low}" if self.high is None else f"from {self.low} to {self.high}"
            raise ValueError(f"expected a whole number {bounds}, got {str(value)!r}")
        return int(number)


def parse_top_k(value: object) -> int:
    """Top-k: a pool size of at least 1, or 0 or -1 for no limit (vLLM: sampling_params.py)."""
    return IntRange(-1)(value)


def parse_bool(value: object) -> bool:
    """true/false, yes/no, on/off, 1/0 in any case."""
    text = str(value).strip().lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError(f"expected true or false, got {str(value)!r}")


def parse_address(value: object) -> str:
    """An IP address to bind to (not a host name: what it binds must be plain to see)."""
    text = str(value).strip()
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise ValueError(f"expected an IP address such as 127.0.0.1 or 0.0.0.0, got {text!r}") from None


def parse_text(value: object) -> str:
    """Any single line of text."""
    text = str(value).strip()
    if "\n" in text or "\0" in text:
        raise ValueError("expected one line of text")
    return text


class OneOf:
    """Parses one of a few words."""

    def __init__(self, *words: str) -> None:
        self.words = words

    def __call__(self, value: object) -> str:
        """Parse and check."""
        text = str(value).strip().lower()
        if text not in self.words:
            raise ValueError(f"expected {', '.join(self.words[:-1])} or {self.words[-1]}, got {str(value)!r}")
        return text


def parse_memory(value: object) -> str:
    """An amount of memory as Docker writes it: 0, or a whole number with b, k, m or g."""
    text = str(value).strip().lower()
    if not re.match(r"^(0|[1-9]\d*[bkmg])\Z", text):
        raise ValueError(f"expected an amount of memory such as 48g, or 0 for no limit, got {str(value)!r}")
    return text


def parse_user(value: object) -> str:
    """`auto`, or numbers UID:GID."""
    text = str(value).strip().lower()
    if not re.match(r"^(auto|\d+:\d+)\Z", text):
        raise ValueError(f"expected auto or numbers such as 1000:1000, got {str(value)!r}")
    return text
