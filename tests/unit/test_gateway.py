"""Decisions to the gateway's configuration."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from stack import gateway
from stack.errors import ConfigError
from stack.settings import Resolved

Decide = Callable[..., Resolved]
TEMPLATE = (Path(__file__).resolve().parents[2] / "litellm_config.template.yaml").read_text()
CHAT = "command: vllm serve m --max-model-len 4096\n"
UNKNOWN = "command: vllm serve m\n"
POOLING = "command: vllm serve m --runner pooling --max-model-len 512\n"


def test_deployment_of_a_chat_model(decide: Decide) -> None:
    resolved = decide(CHAT + "litellm:\n  min_p: 0.1\n  extra_body: {a: [1]}\n")
    assert gateway.deployment(resolved.models[0], resolved) == {
        "names": ["vllm_agent", "m", "claude-*"],
        "params": {
            "model": "hosted_vllm/m",
            "api_base": "http://127.0.0.1:8000/v1",
            "api_key": "os.environ/VLLM_API_KEY",
            "timeout": 600.0,
            "num_retries": 0,
            "temperature": 0.7,
            "top_p": 0.9,
            "top_k": 50,
            "repetition_penalty": 1.1,
            "max_tokens": 4096,
            "max_output_tokens": 4096,
            "min_p": 0.1,
            "extra_body": {"a": [1]},
        },
        "info": {"mode": "chat", "max_input_tokens": 4096},
    }


def test_aliases_reach_the_gateway_and_the_engine(decide: Decide) -> None:
    resolved = decide(CHAT + "aliases: [gpt-4o, m]\n")
    assert gateway.deployment(resolved.models[0], resolved)["names"] == ["vllm_agent", "m", "gpt-4o", "claude-*"]
    assert gateway.engine_names(resolved.models[0]) == ("m", "vllm_agent", "gpt-4o")


def test_deployment_of_a_pooling_model(decide: Decide) -> None:
    resolved = decide(POOLING + "litellm:\n  user: me\n  timeout: 5\n")
    assert gateway.deployment(resolved.models[0], resolved) == {
        "names": ["vllm_agent", "m"],
        "params": {
            "model": "hosted_vllm/m",
            "api_base": "http://127.0.0.1:8000/v1",
            "api_key": "os.environ/VLLM_API_KEY",
            "timeout": 5.0,
            "num_retries": 0,
            "user": "me",
        },
        "info": {"mode": "embedding", "max_input_tokens": 512},
    }


@pytest.mark.parametrize(
    ("text", "overrides", "sent"),
    [
        pytest.param(CHAT, {}, (4096, 4096), id="no-more-than-the-context"),
        pytest.param(CHAT, {"LITELLM_MAX_TOKENS": "100"}, (100, 100), id="less"),
        pytest.param(UNKNOWN, {}, (None, None), id="unknown-context"),
        pytest.param(UNKNOWN + "context: 2K\n", {}, (2048, 2048), id="context-of-the-fragment"),
        pytest.param(
            "command: vllm serve m --max_model_len=32k\ncontext: 8K\n", {}, (32000, 32000), id="command-before-context"
        ),
        pytest.param("command: vllm serve m --max-model-len auto\ncontext: 8K\n", {}, (8192, 8192), id="auto"),
    ],
)
def test_max_tokens(decide: Decide, text: str, overrides: dict[str, str], sent: tuple[object, object]) -> None:
    served = decide(text, overrides=overrides).models[0]
    defaults = gateway.request_defaults(served)
    assert (defaults.get("max_tokens"), defaults.get("max_output_tokens")) == sent


def test_bad_context_has_place(decide: Decide) -> None:
    served = decide("env: {}\ncommand: vllm serve m --max-model-len 32q\n").models[0]
    with pytest.raises(ConfigError) as caught:
        gateway.context_length(served)
    assert str(caught.value) == (
        "error: models/m.yml:2: --max-model-len: expected a length such as 8192, 8k (8000) or 8K (8192), got '32q'"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (CHAT, {"temperature": 0.7, "top_p": 0.9, "top_k": 50, "repetition_penalty": 1.1}),
        (
            CHAT + "litellm: {min_p: 0.2, top_k: 0, max_tokens: 5, seed: 1}\n",
            {"temperature": 0.7, "top_p": 0.9, "top_k": 0, "min_p": 0.2, "repetition_penalty": 1.1},
        ),
        (POOLING, None),
    ],
    ids=["defaults", "own", "pooling"],
)
def test_engine_generation_defaults(decide: Decide, text: str, expected: dict[str, Any] | None) -> None:
    assert gateway.generation_defaults(decide(text).models[0]) == expected


@pytest.mark.parametrize(
    ("environment", "url"),
    [
        ({}, "http://127.0.0.1:8000"),
        ({"ENGINE_PORT": "8001"}, "http://127.0.0.1:8001"),
        ({"ENGINE_URL": "http://vllm-node:8000", "ENGINE_PORT": "8001"}, "http://vllm-node:8000"),
    ],
)
def test_engine_url(decide: Decide, environment: dict[str, str], url: str) -> None:
    assert gateway.engine_url(decide(CHAT, environment=environment)) == url


@pytest.mark.parametrize(
    ("text", "environment", "limit"),
    [(CHAT, {}, 16), (CHAT, {"MAX_PARALLEL_REQUESTS": "3"}, 3), (CHAT + "litellm: {max_parallel_requests: 2}\n", {}, 2)],
)
def test_key_limit(decide: Decide, text: str, environment: dict[str, str], limit: int) -> None:
    assert gateway.key_limit(decide(text, environment=environment)) == limit


def test_render_is_the_configuration_the_gateway_needs(decide: Decide) -> None:
    resolved = decide(CHAT, environment={"LITELLM_REQUEST_TIMEOUT": "30"})
    config = yaml.safe_load(gateway.render(resolved, TEMPLATE))
    deployment = gateway.deployment(resolved.models[0], resolved)
    one = {"litellm_params": deployment["params"], "model_info": deployment["info"]}
    assert config["model_list"] == [{"model_name": name, **one} for name in ("vllm_agent", "m", "claude-*")]
    assert config["litellm_settings"]["drop_params"] is True
    assert config["litellm_settings"]["request_timeout"] == 30
    assert config["litellm_settings"]["num_retries"] == 0
    assert config["router_settings"] == {
        "routing_strategy": "simple-shuffle",
        "num_retries": 0,
        "disable_cooldowns": True,
        "enable_pre_call_checks": True,
    }
    assert config["general_settings"]["master_key"] == "os.environ/LITELLM_MASTER_KEY"
    assert config["general_settings"]["allow_requests_on_db_unavailable"] is False


TRICKY = [
    "yes",
    "a: b",
    "{{ x }}",
    "{% x %}",
    "# no",
    "<b>&'\"",
    "größe",
    "😀 \x7f\u2028",
    "\\ud83d",
    "line\nline",
    "- a",
    "",
]


@pytest.mark.parametrize("text", TRICKY, ids=ascii)
def test_values_survive_the_template(decide: Decide, text: str) -> None:
    resolved = decide(CHAT + yaml.safe_dump({"litellm": {"user": text, "extra_body": {"x": [text, None, True, 1.5]}}}))
    params = yaml.safe_load(gateway.render(resolved, TEMPLATE))["model_list"][0]["litellm_params"]
    assert (params["user"], params["extra_body"]) == (text, {"x": [text, None, True, 1.5]})


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("a: 1\n{% if %}\n", "error: litellm_config.template.yaml:2: is not a valid template: Expected an expression"),
        ("a: {{ nothing }}", "error: litellm_config.template.yaml: cannot be rendered: 'nothing' is undefined"),
        (
            "a: {{ settings.NOPE }}",
            "error: litellm_config.template.yaml: cannot be rendered: 'dict object' has no attribute 'NOPE'",
        ),
    ],
)
def test_bad_template(decide: Decide, template: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        gateway.render(decide(CHAT), template)
    assert str(caught.value).startswith(message)
