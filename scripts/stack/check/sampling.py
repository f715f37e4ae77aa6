"""What a request's sampling parameters may be, as vLLM's SamplingParams says (vllm/sampling_params.py). Pure.

A test asks the real class at both sides of each bound.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stack.check.finding import Finding
from stack.values import parse_number, parse_size


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included, without `low` if `above`; only whole ones if `whole`."""

    low: float
    high: float = math.inf
    above: bool = False
    whole: bool = False


RANGES: Mapping[str, Range] = {
    "temperature": Range(0, 2),
    "top_p": Range(0, 1, above=True),
    "top_k": Range(-1, whole=True),
    "min_p": Range(0, 1),
    "repetition_penalty": Range(0, above=True),
    "presence_penalty": Range(-2, 2),
    "frequency_penalty": Range(-2, 2),
    "max_new_tokens": Range(1, whole=True),
    "min_tokens": Range(0, whole=True),
    "n": Range(1, whole=True),
    "logprobs": Range(-1, whole=True),
    "prompt_logprobs": Range(-1, whole=True),
    "stream_interval": Range(1, whole=True),
}
# Written as sizes such as 16K in a fragment.
SIZES = frozenset({"max_tokens", "max_completion_tokens", "max_output_tokens"})


def check_param(name: str, value: Any) -> Finding | None:
    """What is wrong with a parameter's value, or None."""
    if name in SIZES:
        try:
            parse_size(value)
        except ValueError as error:
            return Finding(str(error))
        return None
    if name not in RANGES or isinstance(value, bool):
        return None if name not in RANGES or "logprobs" in name else Finding("expected a number, got a boolean")
    wanted = RANGES[name]
    try:
        number = parse_number(value)
    except ValueError as error:
        return Finding(str(error))
    if wanted.whole and number != int(number):
        return Finding(f"expected a whole number, got {value!r}")
    if number < wanted.low or number > wanted.high or (wanted.above and number == wanted.low):
        least = f"above {wanted.low:g}" if wanted.above else f"at least {wanted.low:g}"
        most = f" and at most {wanted.high:g}" if math.isfinite(wanted.high) else ""
        return Finding(f"expected a number {least}{most}, got {value!r}")
    return None
