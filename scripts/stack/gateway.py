"""Resolved settings to the gateway's configuration. Pure."""

from __future__ import annotations

import json
import re
from typing import Any

import jinja2

from stack import command
from stack.errors import ConfigError, Problem
from stack.fragment import RESERVED_NAME
from stack.settings import Resolved, Served, Value
from stack.values import parse_vllm_size

CANONICAL_NAME = RESERVED_NAME
# Claude Code asks for its models by names such as claude-sonnet-5, whatever it is told, for some of its requests.
CLAUDE_NAMES = "claude-*"
# What vLLM takes as a default from --override-generation-config (vllm/config/model.py: get_diff_sampling_param).
# max_new_tokens is left out: there it is a cap that a request cannot exceed, not a default.
GENERATION_PARAMS = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
SAMPLING_PARAMS = (*GENERATION_PARAMS, "max_tokens")
# Told to the virtual key and the router, not to each request.
STACK_PARAMS = ("max_parallel_requests", "num_retries", "timeout")


def render(resolved: Resolved, template: str) -> str:
    """The gateway's config.yaml.

    Args:
        resolved: every decision.
        template: the text of litellm_config.template.yaml.

    Raises:
        ConfigError: the template is not valid Jinja2 or uses a name that is not there.
    """
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 (YAML, not HTML; values go through tojson)
    )
    environment.policies["json.dumps_function"] = _dumps
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False}
    name = "litellm_config.template.yaml"
    try:
        return environment.from_string(template).render(
            models=[deployment(served, resolved) for served in resolved.models],
            settings={key: value.value for key, value in resolved.settings.items()},
        )
    except jinja2.TemplateSyntaxError as error:
        raise ConfigError(Problem(f"{name}:{error.lineno}", f"is not a valid template: {error.message}")) from None
    except (jinja2.TemplateError, TypeError) as error:
        raise ConfigError(Problem(name, f"cannot be rendered: {error}")) from None


def _dumps(value: Any, **options: Any) -> str:
    """JSON that is YAML too, which does not join the pairs of escapes that JSON has for an emoji."""
    text = json.dumps(value, ensure_ascii=False, **options)
    return re.sub(r"[^\x20-\x7e]", lambda char: f"\\U{ord(char[0]):08x}", text)


def deployment(served: Served, resolved: Resolved) -> dict[str, Any]:
    """What the template needs of one served model: names, litellm_params, model_info.

    A served model answers to its fragment's name and aliases; the first one also to `vllm_agent`, and if it generates
    to every name that begins with `claude-`.
    """
    names = [served.name, *served.fragment.aliases]
    if served is resolved.models[0]:
        names.insert(0, CANONICAL_NAME)
        if not is_pooling(served):
            names.append(CLAUDE_NAMES)
    params: dict[str, Any] = {
        # hosted_vllm/, not openai/: with the latter /v1/messages goes to the engine's /v1/responses and loses top_k.
        "model": f"hosted_vllm/{served.name}",
        "api_base": f"{engine_url(resolved)}/v1",
        "api_key": "os.environ/VLLM_API_KEY",
        "timeout": served.params["timeout"].value,
        "num_retries": served.params["num_retries"].value,
    }
    params.update(request_defaults(served))
    info: dict[str, Any] = {"mode": "embedding" if is_pooling(served) else "chat"}
    argv = served.fragment.argv()
    if command.option(argv, "--reasoning-parser"):
        info["supports_reasoning"] = True
    limit = context_length(served)
    if limit:
        info["max_input_tokens"] = limit
    return {"names": list(dict.fromkeys(names)), "params": params, "info": info}


def engine_names(served: Served) -> tuple[str, ...]:
    """What the engine lists; the first one is what its answers and metrics call the model."""
    return tuple(dict.fromkeys((served.name, CANONICAL_NAME, *served.fragment.aliases)))


def engine_url(resolved: Resolved) -> str:
    """Where the gateway finds the engine, without a path."""
    return resolved["ENGINE_URL"] or f"http://127.0.0.1:{resolved['ENGINE_PORT']}"


def request_defaults(served: Served) -> dict[str, Any]:
    """LiteLLM parameters that a request gets when it does not give them itself."""
    defaults = {
        name: value.value
        for name, value in served.params.items()
        if name not in STACK_PARAMS and not (is_pooling(served) and name in SAMPLING_PARAMS)
    }
    if "max_tokens" in defaults:
        limit = context_length(served)
        if limit is None:
            # An unknown context: the engine's own default, what the prompt leaves of it, can never be too much.
            del defaults["max_tokens"]
        else:
            # The engine answers 400 to more than its context.
            defaults["max_tokens"] = min(defaults["max_tokens"], limit)
            # The same limit by the name it has on /v1/responses; the other routes leave it out.
            defaults.setdefault("max_output_tokens", defaults["max_tokens"])
    return defaults


def generation_defaults(served: Served) -> dict[str, Any] | None:
    """Sampling defaults for the engine itself: they also reach the routes on which the gateway adds none.

    None for a model that does not generate.
    """
    if is_pooling(served):
        return None
    return {name: served.params[name].value for name in GENERATION_PARAMS if name in served.params}


def example_request(served: Served, question: str) -> tuple[str, dict[str, Any]]:
    """A route the model answers on, and a body for it."""
    if is_pooling(served):
        return "/v1/embeddings", {"model": served.name, "input": question}
    messages = [{"role": "user", "content": question}]
    return "/v1/chat/completions", {"model": served.name, "temperature": 0, "messages": messages}


def is_pooling(served: Served) -> bool:
    """Whether the model embeds, classifies or scores instead of generating."""
    return command.option(served.fragment.argv(), "--runner") == ["pooling"]


def context_length(served: Served) -> int | None:
    """The context the engine will have, in tokens: --max-model-len, else the fragment's `context`, else unknown."""
    given = command.option(served.fragment.argv(), "--max-model-len")
    if not given:
        return served.fragment.context
    try:
        return parse_vllm_size(given[-1]) or served.fragment.context
    except ValueError as error:
        raise ConfigError(Problem(served.fragment.document.place(("command",)), f"--max-model-len: {error}")) from None


def key_limit(resolved: Resolved) -> int:
    """How many requests the local key may have under way at once."""
    limit: Value = resolved.models[0].params["max_parallel_requests"]
    return int(limit.value)
