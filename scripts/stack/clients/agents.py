"""Programs for the terminal: coding agents and llm. Pure."""

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
    agent_notes,
    exports,
    here_document,
    lines,
    present,
    yaml_pairs,
)

# What the programs send before any work, in tokens, roughly: measured with the versions in docs/clients.md.
CLAUDE_CODE_FIRST, CODEX_FIRST = 20_000, 10_000


def claude_code(to: Endpoint) -> Setup:
    """Claude Code: variables, or the same under `env` in its settings.

    Every kind of model it may ask for is named, as it would otherwise ask for Anthropic's. The context is what it
    compacts by; unless told, it takes a model it does not know for one of 200,000 tokens. The attribution header is a
    line with a version at the start of each prompt, which would make the engine's prefix cache miss between versions.
    """
    kinds = ("OPUS", "SONNET", "HAIKU", "FABLE")
    own = {
        "ANTHROPIC_BASE_URL": to.url,
        "ANTHROPIC_AUTH_TOKEN": to.key.text,
        "ANTHROPIC_MODEL": to.model,
        **{f"ANTHROPIC_DEFAULT_{kind}_MODEL": to.model for kind in kinds},
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "CLAUDE_CODE_ATTRIBUTION_HEADER": "0",
        **{
            name: str(value)
            for name, value in present(
                [("CLAUDE_CODE_MAX_CONTEXT_TOKENS", to.context), ("CLAUDE_CODE_MAX_OUTPUT_TOKENS", to.max_output)]
            )
        },
    }
    # Its settings are no shell: a variable would be sent as it stands. What they do not name comes from the shell.
    kept = {name: value for name, value in own.items() if to.key.literal is not None or name != "ANTHROPIC_AUTH_TOKEN"}
    settings = json.dumps({"env": kept}, indent=2) + "\n"
    notes = agent_notes(to, "Claude Code", CLAUDE_CODE_FIRST)
    if to.key.literal is None:
        notes = (*notes, f'with --write the key still comes from the shell: export ANTHROPIC_AUTH_TOKEN="${KEY_VARIABLE}"')
    return Setup(
        "unset ANTHROPIC_API_KEY\n" + exports(own) + "claude\n",
        "claude",
        own,
        (File(".claude/settings.local.json", settings, secret=to.key.secret),),
        notes,
    )


def codex(to: Endpoint) -> Setup:
    """OpenAI's Codex: a profile file of its own, as a project's configuration may not choose a provider.

    It speaks the Responses API only. Web search is a tool of OpenAI's own servers.
    """
    pairs = present(
        [
            ("model", to.model),
            ("model_provider", PROVIDER),
            ("model_context_window", to.context),
            ("web_search", "disabled"),
        ]
    )
    provider = {"name": TITLE, "base_url": to.openai, "env_key": KEY_VARIABLE, "wire_api": "responses"}
    # Strings and numbers are written in TOML as in JSON.
    text = lines(
        *(f"{name} = {json.dumps(value)}" for name, value in pairs),
        "",
        f"[model_providers.{PROVIDER}]",
        *(f"{name} = {json.dumps(value)}" for name, value in provider.items()),
    )
    file = File(f"{PROVIDER}.config.toml", text, "~/.codex", "CODEX_HOME")
    environment = {KEY_VARIABLE: to.key.text}
    command = f"codex --profile {PROVIDER}"
    script = (
        f"mkdir -p {file.shell_folder}\n"
        + here_document(f"cat > {file.shell}", text)
        + (exports(environment) if to.key.literal is not None else "")
        + f"{command}\n"
    )
    reads = f"Codex reads the key from the environment: export {KEY_VARIABLE}={to.key.literal or '...'}"
    notes = (*agent_notes(to, "Codex", CODEX_FIRST), reads)
    return Setup(script, command, environment, (file,), notes)


def aider(to: Endpoint) -> Setup:
    """Aider: `openai/` in front of a model's name says which API to speak."""
    name = f"openai/{to.model}"
    environment = {"OPENAI_API_BASE": to.openai, "OPENAI_API_KEY": to.key.text}
    command = f"aider --model {shlex.quote(name)}"
    config: dict[str, str | bool | None] = {"model": name, "openai-api-base": to.openai, "openai-api-key": to.key.literal}
    files = [File(".aider.conf.yml", lines(*(f"{key}: {value}" for key, value in yaml_pairs(config))), secret=to.key.secret)]
    script = exports(environment)
    if to.context is not None:
        limits = {
            "max_tokens": to.max_output,
            "max_input_tokens": to.context,
            "max_output_tokens": to.max_output,
            "input_cost_per_token": 0,
            "output_cost_per_token": 0,
            "litellm_provider": "openai",
            "mode": "chat",
        }
        metadata = File(".aider.model.metadata.json", json.dumps({name: limits}, indent=2) + "\n")
        files.append(metadata)
        script += here_document(f"[ -e {metadata.name} ] || cat > {metadata.name}", metadata.text)
    notes = (
        () if to.key.literal is not None else (f'with --write the key still comes from OPENAI_API_KEY="${KEY_VARIABLE}"',)
    )
    return Setup(f"{script}{command}\n", command, environment, tuple(files), notes)


def llm(to: Endpoint) -> Setup:
    """Simon Willison's llm: an entry of a list of models; keys are kept apart, under a name."""
    entry: dict[str, str | bool | None] = {
        "model_id": to.model,
        "model_name": to.model,
        "api_base": to.openai,
        "api_key_name": PROVIDER,
        "supports_schema": True,
    }
    if to.tools:
        entry["supports_tools"] = True
    pairs = [f"{key}: {value}" for key, value in yaml_pairs(entry)]
    text = lines(f"- {pairs[0]}", *(f"  {pair}" for pair in pairs[1:]))
    file = File("extra-openai-models.yaml", text, "~/.config/io.datasette.llm", "LLM_USER_PATH")
    command = f"llm -m {shlex.quote(to.model)} {shlex.quote(QUESTION)}"
    keys = f"llm keys set {PROVIDER} --value {to.key.shell}\n"
    script = (
        'models=$(dirname "$(llm logs path)")/extra-openai-models.yaml\n'
        + here_document(f'grep -qsxF -- {shlex.quote(f"- {pairs[0]}")} "$models" || cat >> "$models"', text)
        + f"{keys}{command}\n"
    )
    return Setup(script, command, {}, (file,), (f"it keeps the key itself: {keys.strip()}",))
