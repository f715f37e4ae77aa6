"""Things of a fragment that are right each and do not go together. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from stack.check import facts
from stack.check.finding import Finding
from stack.check.flags import At, Use
from stack.fragment import Fragment
from stack.values import parse_size, parse_vllm_size

# What may be an attention backend of a model with latent attention: those that have MLA in their names, and one's own.
_ANY = frozenset({"", "NONE", "CUSTOM"})
_PARALLEL = ("--tensor-parallel-size", "--pipeline-parallel-size", "--data-parallel-size")


class _Flags:
    """What the command says of each flag; the last one counts."""

    def __init__(self, uses: list[Use]) -> None:
        self.uses = {use.flag: use for use in uses if not use.keys}

    def on(self, flag: str, default: bool = False) -> bool:
        """Whether a switch is on."""
        return not self.uses[flag].negated if flag in self.uses else default

    def text(self, flag: str) -> str:
        """Its value, or an empty text."""
        return self.uses[flag].texts[0].text if flag in self.uses and self.uses[flag].texts else ""

    def number(self, flag: str) -> int | None:
        """Its value as vLLM reads a length, or None."""
        try:
            return parse_vllm_size(self.text(flag)) if self.text(flag) else None
        except ValueError:
            return None

    def at(self, flag: str, finding: Finding) -> At:
        """A finding at the flag's line."""
        return At(self.uses[flag].line, flag, finding)


def check(fragment: Fragment, uses: list[Use], gpus: Callable[[], int | None]) -> Iterator[At]:
    """What does not go together.

    Args:
        fragment: the fragment.
        uses: the flags of its command.
        gpus: tells how many GPUs this machine has, None if that is not known; asked only if it matters.
    """
    flags = _Flags(uses)
    yield from _switches(flags)
    yield from _context(fragment, flags)
    yield from _batch(flags)
    yield from _parallel(flags, gpus)
    backend = flags.text("--attention-backend").upper()
    if facts.latent_attention(fragment) and backend not in _ANY and "MLA" not in backend:
        what = f"{backend} has no latent attention (MLA), which this model needs"
        yield flags.at("--attention-backend", Finding(what, "leave it out: vLLM chooses one that works"))


def _switches(flags: _Flags) -> Iterator[At]:
    auto, parser = "--enable-auto-tool-choice", "--tool-call-parser"
    if flags.on(auto) and not flags.text(parser):
        yield flags.at(auto, Finding(f"needs {parser}", f"add {parser} with the model's format of tool calls"))
    if flags.text(parser) and not flags.on(auto):
        what = f"is used for named tools only: without {auto} a model never calls one of its own accord"
        yield flags.at(parser, Finding(what, f"add {auto}", "warning"))
    if flags.on("--enable-log-outputs") and not flags.on("--enable-log-requests"):
        yield flags.at("--enable-log-outputs", Finding("needs --enable-log-requests", "add it"))
    if flags.on("--enable-per-request-metrics") and flags.on("--disable-log-stats"):
        yield flags.at("--disable-log-stats", Finding("does not go with --enable-per-request-metrics", "leave one out"))
    interval = flags.text("--sse-keep-alive-interval")
    if interval.startswith("-"):
        yield flags.at("--sse-keep-alive-interval", Finding(f"expected at least 0, got {interval}"))


def _context(fragment: Fragment, flags: _Flags) -> Iterator[At]:
    length, own = flags.number("--max-model-len"), facts.context(fragment)
    if length and own and length > own:
        stretched = flags.text("--hf-overrides") or str(fragment.env.get("VLLM_ALLOW_LONG_MAX_MODEL_LEN", "0")) not in (
            "0",
            "",
        )
        what = f"{length} is more than the model's own context of {own}"
        cure = f"write {own} or less; stretching a model takes --hf-overrides"
        yield flags.at("--max-model-len", Finding(what, cure, "warning" if stretched else "error"))
    limit = length or own
    place = fragment.entry("litellm", "max_tokens")
    if not limit or place is None or flags.text("--runner") == "pooling":
        return
    try:
        wanted = parse_size(place.value)
    except ValueError:
        return  # told by those who read it
    if wanted > limit:
        line = int(place.origin.rpartition(":")[2])
        what = f"{wanted} is more than the context of {limit}, which counts instead"
        yield At(line, "litellm.max_tokens", Finding(what, f"write {limit} or less", "warning"))


def _batch(flags: _Flags) -> Iterator[At]:
    tokens, requests = flags.number("--max-num-batched-tokens"), flags.number("--max-num-seqs")
    if tokens and requests and tokens < requests:
        what = f"{tokens} is less than --max-num-seqs {requests}: each running request needs a token of a step"
        yield flags.at("--max-num-batched-tokens", Finding(what, "write more, or a smaller --max-num-seqs"))
    length = flags.number("--max-model-len")
    if tokens and length and tokens < length and not flags.on("--enable-chunked-prefill", default=True):
        what = f"{tokens} is less than --max-model-len {length}, and prompts may not be split (--no-enable-chunked-prefill)"
        yield flags.at("--max-num-batched-tokens", Finding(what, f"write {length} or more"))


def _parallel(flags: _Flags, gpus: Callable[[], int | None]) -> Iterator[At]:
    sizes = {flag: flags.number(flag) or 1 for flag in _PARALLEL}
    wanted = math.prod(sizes.values())
    elsewhere = flags.text("--distributed-executor-backend") == "ray" or (flags.number("--nnodes") or 1) > 1
    local = flags.text("--data-parallel-size-local")
    if wanted <= 1 or elsewhere or local or flags.text("--data-parallel-address"):
        return
    there = gpus()
    if there is not None and wanted > there:
        flag = max((flag for flag in sizes if sizes[flag] > 1), key=lambda one: sizes[one])
        what = f"takes {wanted} GPUs, and this machine has {there}"
        yield flags.at(flag, Finding(what, "serve it on a machine that has them, or write less", "warning"))
