"""The clients there are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from stack.clients import agents, applications, libraries
from stack.clients.setup import Endpoint, Setup
from stack.errors import ConfigError, Problem, did_you_mean

TESTED, SCHEMA = "run in our tests", "by its configuration schema"
# What people call several clients by.
ALIASES = {"vscode": ("continue", "copilot"), "vs-code": ("continue", "copilot"), "jetbrains": ("continue",)}


@dataclass(frozen=True)
class Client:
    """A program that can use the stack.

    Attributes:
        name: what to type.
        what: what it is, in a few words.
        render: makes its set-up.
        verified: how it is known that the set-up is right: TESTED or SCHEMA.
        embeds: whether it can use a model that embeds.
    """

    name: str
    what: str
    render: Callable[[Endpoint], Setup]
    verified: str = TESTED
    embeds: bool = False


CLIENTS = (
    Client("curl", "one request from a shell", libraries.curl, embeds=True),
    Client("openai-python", "OpenAI's library for Python", libraries.openai_python, embeds=True),
    Client("openai-node", "OpenAI's library for Node.js", libraries.openai_node, embeds=True),
    Client("anthropic-python", "Anthropic's library for Python", libraries.anthropic_python),
    Client("langchain", "LangChain for Python (langchain-openai)", libraries.langchain, embeds=True),
    Client("claude-code", "Anthropic's coding agent", agents.claude_code),
    Client("codex", "OpenAI's coding agent", agents.codex),
    Client("aider", "pair programming in a terminal", agents.aider),
    Client("llm", "Simon Willison's command line for models", agents.llm),
    Client("open-webui", "chat in the browser", applications.open_webui, SCHEMA, embeds=True),
    Client("continue", "extension for VS Code and JetBrains, and cn", applications.continue_, TESTED, embeds=True),
    Client("copilot", "the chat built into VS Code", applications.copilot, SCHEMA),
)


def find(name: str) -> tuple[Client, ...]:
    """The clients of a name; several for an alias such as `vscode`.

    Raises:
        ConfigError: there is none.
    """
    names = ALIASES.get(name.lower(), (name.lower(),))
    found = tuple(client for client in CLIENTS if client.name in names)
    if not found:
        known = [*(client.name for client in CLIENTS), *ALIASES]
        raise ConfigError(
            Problem(f"client {name}", "no such client", did_you_mean(name, known) or f"there are: {', '.join(known)}")
        )
    return found


def render(client: Client, to: Endpoint) -> Setup:
    """A client's set-up.

    Raises:
        ConfigError: the client cannot use this kind of model, or has to be told what is not known.
    """
    if to.embeds and not client.embeds:
        able = ", ".join(one.name for one in CLIENTS if one.embeds)
        what = f"{to.model} embeds and does not chat; {client.name} needs a model that chats"
        raise ConfigError(Problem(f"client {client.name}", what, f"clients that can embed: {able}"))
    return client.render(to)
