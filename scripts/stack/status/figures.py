"""What the engine's metrics say, at one moment and between two. Pure.

The names are vLLM 0.32's (vllm/v1/metrics/loggers.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from stack.status.exposition import samples

_TTFT = "vllm:time_to_first_token_seconds_bucket"
_STARTED = "process_start_time_seconds"
_CACHE = "vllm:cache_config_info"
_SUMS = {
    "vllm:num_requests_running": "running",
    "vllm:num_requests_waiting": "waiting",
    "vllm:generation_tokens_total": "generated",
    "vllm:prompt_tokens_total": "read",
    "vllm:num_preemptions_total": "preempted",
}
_KV = "vllm:kv_cache_usage_perc"
_NAMES = frozenset((*_SUMS, _TTFT, _STARTED, _CACHE, _KV))
# How far back the time to first token is looked at, where requests have come meanwhile.
WINDOW = 60.0


@dataclass(frozen=True)
class Reading:
    """The engine's metrics at one moment.

    Attributes:
        time: when, seconds of the epoch.
        sums: counters and gauges by short name, over all engines.
        kv: the fullest engine's share of the KV cache in use, from 0 to 1; None if it has none.
        kv_tokens: what the KV cache holds, in tokens; 0 if not known.
        buckets: upper bound in seconds -> requests whose first token took no longer, since the start.
        started: when the engine's process started, seconds of the epoch; tells a restarted one.
    """

    time: float
    sums: dict[str, float] = field(default_factory=dict)
    kv: float | None = None
    kv_tokens: int = 0
    buckets: dict[float, float] = field(default_factory=dict)
    started: float = 0.0


def read(text: str, now: float) -> Reading | None:
    """A reading of /metrics' text; None if it is not vLLM's."""
    sums: dict[str, float] = {}
    buckets: dict[float, float] = {}
    kv: float | None = None
    tokens, started = 0, 0.0
    for sample in samples(text, _NAMES):
        if sample.name in _SUMS:
            name = _SUMS[sample.name]
            sums[name] = sums.get(name, 0.0) + sample.value
        elif sample.name == _TTFT:
            bound = float(sample.labels.get("le", "nan"))
            buckets[bound] = buckets.get(bound, 0.0) + sample.value
        elif sample.name == _KV:
            kv = max(kv or 0.0, sample.value)
        elif sample.name == _CACHE:
            size = sample.labels.get("kv_cache_size_tokens", "")
            tokens += int(size) if size.isdigit() else 0
        elif sample.name == _STARTED:
            started = sample.value
    return Reading(now, sums, kv, tokens, buckets, started) if "running" in sums else None


@dataclass(frozen=True)
class Ttft:
    """Time to first token as the engine sees it, without the gateway.

    Attributes:
        p50: median in seconds, interpolated in vLLM's buckets; None without requests.
        p95: 95th percentile, the same.
        requests: of how many.
        window: over how many seconds; None: since the engine started.
    """

    p50: float | None
    p95: float | None
    requests: int
    window: float | None


@dataclass(frozen=True)
class Rates:
    """Tokens a second between two readings.

    Attributes:
        generated: written by the model.
        read: of prompts.
        seconds: between the readings.
    """

    generated: float
    read: float
    seconds: float


def rates(before: Reading, after: Reading) -> Rates | None:
    """None if the engine was started anew between them, or no time went by."""
    seconds = after.time - before.time
    if seconds <= 0 or before.started != after.started:
        return None
    grown = {name: after.sums.get(name, 0.0) - before.sums.get(name, 0.0) for name in ("generated", "read")}
    return None if min(grown.values()) < 0 else Rates(grown["generated"] / seconds, grown["read"] / seconds, seconds)


def ttft(readings: Sequence[Reading]) -> Ttft:
    """Over the last minute of the readings if a request got its first token in it, else since the engine started.

    Args:
        readings: oldest first, at least one.
    """
    last = readings[-1]
    same = [one for one in readings[:-1] if one.started == last.started and last.time - one.time <= WINDOW]
    if same:
        grown = {bound: count - same[0].buckets.get(bound, 0.0) for bound, count in last.buckets.items()}
        if grown.get(math.inf, 0.0) > 0:
            return _ttft(grown, last.time - same[0].time)
    return _ttft(last.buckets, None)


def _ttft(buckets: dict[float, float], window: float | None) -> Ttft:
    return Ttft(quantile(buckets, 0.5), quantile(buckets, 0.95), int(buckets.get(math.inf, 0.0)), window)


def quantile(buckets: dict[float, float], share: float) -> float | None:
    """A quantile of a histogram, linear within its bucket, as Prometheus' histogram_quantile does it.

    Args:
        buckets: upper bound -> how many are no larger.
        share: from 0 to 1.

    Returns:
        None without any; the highest bound that is a number if it lies above that.
    """
    total = buckets.get(math.inf, 0.0)
    if total <= 0:
        return None
    lower, below = 0.0, 0.0
    for bound in sorted(buckets):
        count = buckets[bound]
        if count >= share * total:
            if math.isinf(bound):
                return lower
            return lower + (bound - lower) * (share * total - below) / (count - below) if count > below else bound
        lower, below = bound, count
    return lower
