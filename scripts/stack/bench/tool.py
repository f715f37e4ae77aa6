"""How `vllm bench serve` is called and what it answers. Pure: starts and reads nothing.

That tool measures because it is there wherever the engine is, in both runtimes, so that nothing has to be downloaded,
and because its figures are the ones vLLM's own documentation speaks of. No code of ours takes a time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stack import command
from stack.bench.report import Row
from stack.errors import Problem, RunError
from stack.gateway import CANONICAL_NAME

# Route -> the tool's backend, path.
ROUTES = {"chat": ("openai-chat", "/v1/chat/completions"), "completions": ("openai", "/v1/completions")}
SEED = 1
# Without a number asked for: two rounds, but enough for a median and, on a small machine, not too many to wait for.
FEWEST, ENOUGH = 8, 64
# An answer with a smaller share of its tokens has broken off: the tool takes any stream that began for a success. Far
# below 1, as neither of the two counts there are has to be right: where no usage reaches the tool it splits the text
# again, into up to a quarter fewer tokens, and a chunk of a stream may carry several.
WHOLE = 0.5
SHARES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True)
class Load:
    """What is asked of both sides.

    Attributes:
        concurrency: how many requests are under way at once, one after the other.
        route: one of ROUTES.
        input_tokens: length of each prompt.
        output_tokens: length of each answer.
        requests: at each concurrency; 0: by concurrency.
    """

    concurrency: tuple[int, ...] = (1, 4, 16, 64)
    route: str = "chat"
    input_tokens: int = 128
    output_tokens: int = 32
    requests: int = 0

    def count(self, concurrency: int) -> int:
        """Requests to send at a concurrency."""
        return self.requests or max(FEWEST, min(2 * concurrency, ENOUGH), concurrency)


def tokenizer(engine_argv: Sequence[str], hub: str, revision: str) -> list[str]:
    """The tool's options for the served model's tokenizer.

    Args:
        engine_argv: the `vllm serve` argument list.
        hub: the folder of the hub's cache, as the tool sees it.
        revision: the commit that is served, if known: its files are in the cache, and no hub is asked.
    """
    argv = list(engine_argv)
    name = argv[2]
    if revision and "/" in name and not name.startswith(("/", ".")):
        name = f"{hub}/models--{name.replace('/', '--')}/snapshots/{revision}"
    found = ["--tokenizer", *(command.option(argv, "--tokenizer")[-1:] or [name])]
    for mode in command.option(argv, "--tokenizer-mode")[-1:]:
        found += ["--tokenizer-mode", mode]
    if any(word.replace("_", "-") == "--trust-remote-code" for word in argv[3:]):
        found.append("--trust-remote-code")
    return found


def argv(
    vllm: str, load: Load, url: str, concurrency: int, tokenizer_options: Sequence[str], salt: str, file: str
) -> list[str]:
    """One measurement's argument list. The key travels by OPENAI_API_KEY.

    Both sides get the same prompts, by the same seed. So that neither finds them in the engine's prefix cache, each
    measurement has a salt of its own, with which the engine keeps what it caches apart.

    Args:
        vllm: the program.
        load: what is asked.
        url: of gateway or engine, without a path.
        concurrency: requests under way at once.
        tokenizer_options: see `tokenizer`.
        salt: of the prefix cache.
        file: where the tool writes its result.
    """
    backend, path = ROUTES[load.route]
    folder, _, name = file.rpartition("/")
    return [
        *(vllm, "bench", "serve", "--backend", backend, "--base-url", url, "--endpoint", path),
        *("--model", CANONICAL_NAME, *tokenizer_options),
        *("--dataset-name", "random", "--ignore-eos", "--seed", str(SEED)),
        *("--random-input-len", str(load.input_tokens), "--random-output-len", str(load.output_tokens)),
        *("--num-prompts", str(load.count(concurrency)), "--max-concurrency", str(concurrency)),
        *("--extra-body", json.dumps({"cache_salt": salt})),
        *("--save-result", "--save-detailed", "--result-dir", folder, "--result-filename", name),
    ]


def parse(text: str, load: Load, side: str, concurrency: int, called: Sequence[str]) -> Row:
    """The tool's result file to figures.

    Tokens are counted by the length that was asked for, which `--ignore-eos` makes every answer have. The tool's own
    count need not mean the same on both sides: a stream that LiteLLM makes anew has the usage in a chunk with an empty
    choice, where the tool does not look for it and splits the text into tokens again instead.

    Args:
        text: the file.
        load: what was asked.
        side: direct or gateway.
        concurrency: requests under way at once.
        called: the argument list.

    Raises:
        RunError: it is not what the tool writes.
    """
    try:
        data: Mapping[str, Any] = json.loads(text)
        answers = zip(data["errors"], data["ttfts"], data["latencies"], data["output_lens"], data["itls"], strict=True)
        errors: list[str] = []
        first: list[float] = []
        whole: list[float] = []
        for error, ttft, latency, length, pauses in answers:
            seen = max(length, len(pauses) + 1)
            if error or seen < WHOLE * load.output_tokens:
                errors.append(error or f"the answer broke off after about {seen} of {load.output_tokens} tokens")
                continue
            first.append(ttft)
            whole.append(latency)
        seconds = float(data["duration"])
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(Problem("vllm bench serve", f"its result cannot be read: {error!r}")) from None
    steps = load.output_tokens - 1
    per_token = [(end - begin) / steps for begin, end in zip(first, whole, strict=True)] if steps else []
    return Row(
        side=side,
        concurrency=concurrency,
        requests=len(first) + len(errors),
        errors=len(errors),
        error=errors[0].strip().splitlines()[-1] if errors else "",
        seconds=round(seconds, 3),
        output_tokens_per_s=round(len(first) * load.output_tokens / seconds, 2),
        requests_per_s=round(len(first) / seconds, 3),
        ttft_ms=milliseconds(first),
        tpot_ms=milliseconds(per_token),
        e2e_ms=milliseconds(whole),
        command=tuple(called),
    )


def milliseconds(seconds: Sequence[float]) -> dict[str, float | None]:
    """Percentiles of times, between the two nearest ones in proportion; None of nothing."""
    ordered = sorted(seconds)
    found: dict[str, float | None] = {}
    for name, share in SHARES.items():
        place = share * (len(ordered) - 1)
        low = int(place)
        if not ordered:
            found[name] = None
            continue
        high = min(low + 1, len(ordered) - 1)
        found[name] = round(1000 * (ordered[low] + (place - low) * (ordered[high] - ordered[low])), 2)
    return found
