"""Editors and the web: Continue, VS Code's own chat, Open WebUI. Pure."""

from __future__ import annotations

import json
import shlex

from stack.clients.setup import (
    KEY_VARIABLE,
    PROVIDER,
    QUESTION,
    TITLE,
    Endpoint,
    File,
    Setup,
    exports,
    lines,
    present,
    yaml_pairs,
)
from stack.errors import ConfigError, Problem

CONTEXT_CURE = "give --max-model-len in the model's command, or context: in its fragment"


def continue_(to: Endpoint) -> Setup:
    """Continue for VS Code and JetBrains, and its command `cn`: a model of the project, added to the user's own."""
    roles = ["embed"] if to.embeds else ["chat", "edit", "apply", "summarize"]
    key = to.key.literal if to.key.literal is not None else f"${{{{ secrets.{KEY_VARIABLE} }}}}"
    entry = {"name": to.model, "provider": "openai", "model": to.model, "apiBase": to.openai, "apiKey": key}
    model = [f"{name}: {value}" for name, value in yaml_pairs(entry)]
    model.append(f"roles: [{', '.join(roles)}]")
    limits = present([("contextLength", to.context), ("maxTokens", to.max_output)])
    if to.tools and not to.embeds:
        model.append("capabilities: [tool_use]")
    if to.embeds and to.context:
        model.extend(["embedOptions:", f"  maxChunkSize: {to.context}"])
    elif limits:
        model.extend(["defaultCompletionOptions:", *(f"  {name}: {value}" for name, value in limits)])
    text = lines(
        f"name: {TITLE}",
        "version: 1.0.0",
        "schema: v1",
        "models:",
        f"  - {model[0]}",
        *(f"    {line}" for line in model[1:]),
    )
    file = File(f".continue/models/{PROVIDER}.yaml", text, secret=to.key.secret)
    paste = f"save it as {file.name} in the project, or in your home folder for all projects"
    notes = (f"it reads the key from a line {KEY_VARIABLE}=... in ~/.continue/.env or the project's .env",)
    # The editors need no command. cn takes the file as a whole configuration, where the model chats.
    command = "" if to.embeds else f"cn --config {file.name} -p {shlex.quote(QUESTION)}"
    return Setup(text, command, {}, (file,), () if to.key.literal is not None else notes, paste)


def copilot(to: Endpoint) -> Setup:
    """The chat of VS Code: its `Custom Endpoint`, which needs no GitHub account.

    VS Code takes a key only from its own store and silently leaves out one that stands in the file under `apiKey`; the
    local key, which is no secret, goes as a header. Its two limits have to be given.
    """
    if to.context is None or to.max_output is None:
        raise ConfigError(
            Problem(
                "client copilot", f"the context length of {to.model} is not known, and VS Code has to be told", CONTEXT_CURE
            )
        )
    model: dict[str, object] = {
        "id": to.model,
        "name": to.model,
        "url": f"{to.openai}/chat/completions",
        "toolCalling": to.tools,
        "vision": False,
        "thinking": to.reasons,
        "maxInputTokens": to.context - to.max_output,
        "maxOutputTokens": to.max_output,
    }
    if to.key.literal is not None:
        model["requestHeaders"] = {"authorization": f"Bearer {to.key.literal}"}
    group = {"vendor": "customendpoint", "name": TITLE, "apiType": "chat-completions", "models": [model]}
    text = json.dumps([group], indent=2) + "\n"
    notes = ["choose the model in the chat's list; this needs VS Code 1.122 or newer"]
    if to.key.literal is None:
        notes.append('the key: "Chat: Manage Language Models", the group\'s wheel, update the API key')
    if not to.tools:
        notes.append(
            f"{to.model} is served without --enable-auto-tool-choice: VS Code offers it for asking, not as an agent"
        )
    file = File("chatLanguageModels.json", text, "~/.config/Code/User", secret=to.key.secret)
    paste = 'paste it into the file that VS Code\'s command "Chat: Open Language Models (JSON)" opens'
    return Setup(text, "", {}, (file,), tuple(notes), paste)


def open_webui(to: Endpoint) -> Setup:
    """Open WebUI, a chat in the browser; it has no file of its own, and keeps what it is told at its first start."""
    environment = {
        "OPENAI_API_BASE_URL": to.openai,
        "OPENAI_API_KEY": to.key.text,
        "ENABLE_OLLAMA_API": "false",
        "DEFAULT_MODELS": to.model,
    }
    if to.embeds:
        environment = {
            "RAG_EMBEDDING_ENGINE": "openai",
            "RAG_EMBEDDING_MODEL": to.model,
            "RAG_OPENAI_API_BASE_URL": to.openai,
            "RAG_OPENAI_API_KEY": to.key.text,
        }
    command = "open-webui serve --host 127.0.0.1 --port 8080"
    notes = (
        "it needs: pip install open-webui (Python 3.11 or 3.12)",
        "what its database already holds wins over these variables; ENABLE_PERSISTENT_CONFIG=false turns that round",
    )
    return Setup(f"{exports(environment)}{command}\n", command, environment, (), notes)
