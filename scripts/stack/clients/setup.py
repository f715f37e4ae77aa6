"""What a client's set-up is made from and made of. Pure."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from stack import command, gateway
from stack.local_key import LOCAL_KEY
from stack.plan import Plan
from stack.runtime.probe import reachable

# Where a set-up looks for a key that may not be printed. Not VLLM_…: those are settings of the engine.
KEY_VARIABLE = "GATEWAY_API_KEY"
# The name under which clients that have several providers list this one.
PROVIDER, TITLE = "vllm", "vLLM Multi-Model Server"
QUESTION = "What is the capital of France?"
END = "END_OF_FILE"
PLAIN = re.compile(r"[A-Za-z][\w./-]*(://[\w./:-]+)?", re.ASCII)


@dataclass(frozen=True)
class Key:
    """The key a client sends.

    Attributes:
        literal: the key itself, or None if the set-up only names the variable that holds it.
        secret: whether others must not read it; `sk-FAKE` is no secret.
    """

    literal: str | None
    secret: bool = False

    @property
    def text(self) -> str:
        """The key, or the variable as shells and programs write it."""
        return self.literal if self.literal is not None else f"${KEY_VARIABLE}"

    @property
    def shell(self) -> str:
        """As a word of a shell's command."""
        return shlex.quote(self.literal) if self.literal is not None else f'"${KEY_VARIABLE}"'


@dataclass(frozen=True)
class Endpoint:
    """What a client has to know of the stack.

    Attributes:
        url: the gateway's address without a path; Anthropic's clients want it so.
        key: the key to send.
        model: the name to ask for.
        names: every name the model answers to.
        context: length of prompt and answer together, in tokens; None if it is not known.
        max_output: the longest answer to ask for, in tokens; None if the context is not known.
        embeds: whether the model embeds and does not generate.
        tools: whether the engine parses tool calls.
        reasons: whether the engine parses reasoning.
    """

    url: str
    key: Key
    model: str
    names: tuple[str, ...]
    context: int | None = None
    max_output: int | None = None
    embeds: bool = False
    tools: bool = False
    reasons: bool = False

    @property
    def openai(self) -> str:
        """The base URL as OpenAI's clients want it."""
        return f"{self.url}/v1"


@dataclass(frozen=True)
class File:
    """A client's own configuration file.

    Attributes:
        name: its path within `folder`.
        text: what the client needs to find in it.
        folder: where the client looks, `.` for the project it is started in, or below `~`.
        variable: the environment variable that names another folder, or empty.
        secret: whether a secret is in it.
    """

    name: str
    text: str
    folder: str = "."
    variable: str = ""
    secret: bool = False

    @property
    def shell(self) -> str:
        """The path as a word of a shell's command."""
        return self.name if self.folder == "." else f'{self.shell_folder[:-1]}/{self.name}"'

    @property
    def shell_folder(self) -> str:
        """The folder as a word of a shell's command."""
        folder = self.folder.replace("~", "$HOME", 1)
        return f'"${{{self.variable}:-{folder}}}"' if self.variable else f'"{folder}"'


@dataclass(frozen=True)
class Setup:
    """What to give to a client.

    Attributes:
        text: a script or file to paste, whole.
        command: starts the client once it is set up; empty for those that are no commands.
        environment: variables the client reads.
        files: its configuration files, where it has any.
        notes: what the user should know besides.
        paste: where the text goes, for who pastes it.
    """

    text: str
    command: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    files: tuple[File, ...] = ()
    notes: tuple[str, ...] = ()
    paste: str = ""


def endpoint(plan: Plan, key: str = "") -> Endpoint:
    """What clients have to know of a planned stack.

    Args:
        plan: of the release that runs.
        key: the key to use; empty: the local key if that is on, else the variable of KEY_VARIABLE.
    """
    served, resolved = plan.served, plan.resolved
    context, argv = gateway.context_length(served), list(plan.engine_argv)
    local = LOCAL_KEY if resolved["LOCAL_KEY"] else None
    return Endpoint(
        url=f"http://{reachable(resolved['BIND_ADDRESS'])}:{resolved['LITELLM_PORT']}",
        key=Key(key or local, secret=bool(key) and key != LOCAL_KEY),
        model=served.name,
        names=(served.name, gateway.CANONICAL_NAME),
        context=context,
        max_output=_max_output(context, gateway.request_defaults(served).get("max_tokens")),
        embeds=gateway.is_pooling(served),
        tools="--enable-auto-tool-choice" in argv,
        reasons=bool(command.option(argv, "--reasoning-parser")),
    )


def _max_output(context: int | None, default: int | None) -> int | None:
    """The model's own default, but never more than a quarter of the context: programs take it off what a prompt may be."""
    if context is None:
        return None
    return min(default or context, context // 4)


def exports(variables: Mapping[str, str]) -> str:
    """Shell lines that set variables; a value that is the key's variable stays one."""
    quoted = (
        (name, f'"{value}"' if value == f"${KEY_VARIABLE}" else shlex.quote(value)) for name, value in variables.items()
    )
    return "".join(f"export {name}={value}\n" for name, value in quoted)


def here_document(target: str, text: str) -> str:
    """Shell lines that send `text` to `target`, a redirection such as `cat > FILE`."""
    return f"{target} <<'{END}'\n{text}{END}\n"


def agent_notes(to: Endpoint, name: str, first_request: int) -> tuple[str, ...]:
    """What keeps a coding agent from working with the model.

    Args:
        to: the stack.
        name: the agent's.
        first_request: what it sends before any work, in tokens.
    """
    notes = []
    if to.context is not None and to.context < 2 * first_request:
        notes.append(f"{name} needs about {first_request} tokens for its first request; {to.model} takes {to.context}")
    if not to.tools:
        notes.append(f"{to.model} is served without --enable-auto-tool-choice, and {name} works by tool calls")
    return tuple(notes)


def lines(*parts: str) -> str:
    """Lines of a file or script."""
    return "".join(f"{part}\n" for part in parts)


def present(pairs: Sequence[tuple[str, str | int | None]]) -> list[tuple[str, str | int]]:
    """The pairs that have a value."""
    return [(name, value) for name, value in pairs if value is not None]


def yaml_pairs(pairs: Mapping[str, str | bool | None]) -> list[tuple[str, str]]:
    """The pairs that have a value, as YAML: in JSON's quotes where they are not plain words."""
    return [(key, _yaml(value)) for key, value in pairs.items() if value is not None]


def _yaml(value: str | bool) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    words = value.lower() in ("true", "false", "null", "yes", "no", "on", "off", "y", "n")
    return value if PLAIN.fullmatch(value) and not words else json.dumps(value)
