"""A fragment's text from what is known of a model. Pure."""

from __future__ import annotations

import shlex
import textwrap
from dataclasses import dataclass
from datetime import date

from stack.new.hub import Repository
from stack.new.traits import Traits

WIDTH = 118
# A model up to this size is worth serving on processors.
CPU_BYTES = 8 << 30
_SOURCES = {
    "hub": "the repository's files on the hub",
    "cache": "the repository's files in the hub's cache",
    "folder": "the folder's files",
    "": "its name alone: the hub could not be reached, and its cache does not have this repository",
}


@dataclass(frozen=True)
class Machine:
    """What a fragment takes into account of the machine it is written on.

    Attributes:
        gpu: whether there is one.
        context: the most tokens of context that fit here, or 0 if that is not known.
        requests: MAX_PARALLEL_REQUESTS.
    """

    gpu: bool
    context: int = 0
    requests: int = 16


def fragment(repository: Repository, traits: Traits, machine: Machine, today: date) -> str:
    """The whole text of models/NAME.yml."""
    lines = [
        "# yaml-language-server: $schema=schema.json",
        f"description: {_quoted(describe(repository, traits))}",
        "",
        *_comment(f"Written by ./runMe.sh new on {today.isoformat()} from {_SOURCES[repository.source]}."),
        *[line for note in notes(repository, traits, machine) for line in _comment(note)],
        "command: |",
        *_command(repository, traits, machine),
    ]
    if _on_processors(repository, machine):
        lines += ["", "env:", '  VLLM_CPU_KVCACHE_SPACE: "2"  # GiB for the KV cache; CPU builds only']
    lines += _litellm(repository, traits)
    if repository.revision:
        lines += ["", "# The commit that was looked at; vLLM fetches this one.", f"revision: {repository.revision}"]
    return "\n".join(lines) + "\n"


def describe(repository: Repository, traits: Traits) -> str:
    """One line for ./runMe.sh models."""
    parts = [repository.name.rstrip("/").rpartition("/")[2]]
    if repository.weights:
        parts.append(f"{repository.weights / 1e9:.1f} GB of weights")
    if traits.quantization:
        parts.append(traits.quantization.lower())
    if traits.pooling:
        parts.append("for embeddings or scores")
    return ", ".join(parts)


def context(traits: Traits, machine: Machine) -> int:
    """The context to serve, in tokens; 0 if the model's is not known."""
    if machine.context and traits.context:
        return min(traits.context, machine.context)
    return traits.context


def notes(repository: Repository, traits: Traits, machine: Machine) -> list[str]:
    """What whoever looks at the fragment should know."""
    found = []
    served = context(traits, machine)
    if not traits.context:
        found.append("The context is not known: vLLM takes the model's own, and requests get no default output limit.")
    elif served < traits.context:
        found.append(f"The model takes {traits.context} tokens (config.json); {served} fit this machine.")
    else:
        found.append(f"--max-model-len: all the model takes (config.json), {traits.context} tokens.")
    if traits.pooling:
        found.append("--runner pooling: the model embeds or scores and does not generate.")
        return found
    if traits.tool_parser or traits.reasoning_parser:
        kinds = [f"tools {traits.tool_parser}"] * bool(traits.tool_parser)
        kinds += [f"reasoning {traits.reasoning_parser}"] * bool(traits.reasoning_parser)
        found.append(f"Parsers ({', '.join(kinds)}): vLLM's documentation for this family of models.")
    if traits.tools is False and traits.chat_template:
        found.append("No tools: the repository's chat template has no place for them.")
    elif not traits.tool_parser:
        found.append("No tool parser is known for this model; vLLM's documentation on tool calling lists them.")
    if traits.own_template:
        found.append("vLLM's documentation asks for --chat-template with one of its examples for tools of this model.")
    if traits.chat_template is False:
        found.append("The repository has no chat template: without --chat-template only /v1/completions works.")
    if traits.own_code:
        found.append(
            "The repository carries Python code of its own. If vLLM does not know the architecture, --trust-remote-code "
            "runs that code: read it first."
        )
    return found


def _command(repository: Repository, traits: Traits, machine: Machine) -> list[str]:
    flags = ["--runner pooling"] if traits.pooling else []
    served = context(traits, machine)
    if served:
        flags.append(f"--max-model-len {served}")
    if not traits.pooling:
        flags.append(f"--max-num-seqs {machine.requests}")
    if _on_processors(repository, machine):
        flags.append("--enforce-eager")
    elif not traits.pooling:
        flags.append("--gpu-memory-utilization 0.85")
    if traits.tool_parser:
        flags += ["--enable-auto-tool-choice", f"--tool-call-parser {traits.tool_parser}"]
    if traits.reasoning_parser:
        flags.append(f"--reasoning-parser {traits.reasoning_parser}")
    words = [f"vllm serve {shlex.quote(repository.name)}", *(f"  {flag}" for flag in flags)]
    return [f"  {word} \\" for word in words[:-1]] + [f"  {words[-1]}"]


def _on_processors(repository: Repository, machine: Machine) -> bool:
    return not machine.gpu and 0 < repository.weights <= CPU_BYTES


def _litellm(repository: Repository, traits: Traits) -> list[str]:
    if traits.pooling:
        return []
    if not traits.sampling:
        why = "The vendor recommends no sampling (generation_config.json)"
        text = f"{why if repository.source else 'What sampling the vendor recommends is not known'}: vars.env decides."
        return ["", *_comment(text)]
    rows = [f"  {name}: {value!r}" for name, value in traits.sampling.items()]
    return [
        "",
        *_comment("The vendor's sampling (generation_config.json); the rest comes from vars.env."),
        "litellm:",
        *rows,
    ]


def _comment(text: str) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent="# ", subsequent_indent="# ", break_long_words=False, break_on_hyphens=False
    )


def _quoted(text: str) -> str:
    plain = all(char.isalnum() or char in " ._-/(),+" for char in text) and text[:1].isalnum()
    return text if plain else "'" + text.replace("'", "''") + "'"
