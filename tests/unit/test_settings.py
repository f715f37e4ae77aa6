"""Precedence, origins, and the agreement of the settings table with vars.env."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stack import settings, sources
from stack.errors import ConfigError
from stack.settings import BY_KEY, BY_PARAM, PASS_THROUGH_PREFIXES, Resolved, Value

Decide = Callable[..., Resolved]
VARS_ENV = Path(__file__).resolve().parents[2] / "vars.env"
COMMAND = "command: vllm serve m --max-model-len 4096\n"
SET_BY_COMPOSE = {"ENGINE_HOST", "ENGINE_URL"}
# Layers from the highest to the lowest: the keyword of `decide`, what it gets, the value it leads to.
LAYERS: dict[str, tuple[str, Any, float, str]] = {
    "set": ("overrides", {"LITELLM_TEMPERATURE": "0.1"}, 0.1, "--set"),
    "fragment": ("text", COMMAND + "litellm:\n  temperature: 0.2\n", 0.2, "models/m.yml:3"),
    "environment": ("environment", {"LITELLM_TEMPERATURE": "0.3"}, 0.3, "environment"),
    "local": ("local", "LITELLM_TEMPERATURE=0.4\n", 0.4, "vars.local.env:1"),
    "shared": ("shared", "# all\nLITELLM_TEMPERATURE=0.5\n", 0.5, "vars.env:2"),
    "default": ("shared", "", 0.7, "built-in default"),
}


@pytest.mark.parametrize("highest", LAYERS)
def test_parameter_precedence(decide: Decide, highest: str) -> None:
    names = list(LAYERS)[list(LAYERS).index(highest) :]
    given = {keyword: text for keyword, text, *_ in (LAYERS[name] for name in reversed(names))}
    *_, value, origin = LAYERS[highest]
    overrode = tuple((LAYERS[name][3], str(LAYERS[name][2])) for name in names[1:])
    assert decide(**given).models[0].params["temperature"] == Value(value, origin, overrode)


PORTS: dict[str, tuple[str, Any, int, str]] = {
    "set": ("overrides", {"LITELLM_PORT": "4001"}, 4001, "--set"),
    "environment": ("environment", {"LITELLM_PORT": "4002"}, 4002, "environment"),
    "local": ("local", "\nLITELLM_PORT=4003\n", 4003, "vars.local.env:2"),
    "shared": ("shared", "LITELLM_PORT=4004\n", 4004, "vars.env:1"),
    "default": ("shared", "", 4000, "built-in default"),
}


@pytest.mark.parametrize("highest", PORTS)
def test_setting_precedence(decide: Decide, highest: str) -> None:
    names = list(PORTS)[list(PORTS).index(highest) :]
    given = {keyword: text for keyword, text, *_ in (PORTS[name] for name in reversed(names))}
    *_, value, origin = PORTS[highest]
    overrode = tuple((PORTS[name][3], str(PORTS[name][2])) for name in names[1:])
    assert decide(**given).settings["LITELLM_PORT"] == Value(value, origin, overrode)


def test_engine_environment_precedence(decide: Decide) -> None:
    made = decide(
        COMMAND + "env:\n  NCCL_A: fragment\n  NCCL_B: fragment\n  PLAIN: fragment\n",
        overrides={"env.NCCL_A": "set", "env.NEW": "set"},
        environment={"NCCL_A": "environment", "NCCL_C": "environment", "PLAIN": "environment", "OTHER": "x"},
        local="NCCL_C=local\nVLLM_D=local\n",
        shared="NCCL_B=shared\nVLLM_D=shared\n",
    )
    assert made.models[0].env == {
        "NCCL_A": Value("set", "--set", (("models/m.yml:3", "fragment"), ("environment", "environment"))),
        "NCCL_B": Value("fragment", "models/m.yml:4", (("vars.env:1", "shared"),)),
        "NCCL_C": Value("environment", "environment", (("vars.local.env:1", "local"),)),
        "NEW": Value("set", "--set"),
        "PLAIN": Value("fragment", "models/m.yml:5", (("environment", "environment"),)),
        "VLLM_D": Value("local", "vars.local.env:2", (("vars.env:2", "shared"),)),
    }


def test_environment_loses_to_fragment_and_beats_vars_env(decide: Decide) -> None:
    given = {"environment": {"LITELLM_TEMPERATURE": "0.2"}, "shared": "LITELLM_TEMPERATURE=0.7\n"}
    plain, own = decide(COMMAND, **given), decide(COMMAND + "litellm: {temperature: 1.0}\n", **given)
    assert plain.models[0].params["temperature"] == Value(
        0.2, "environment", (("vars.env:1", "0.7"), ("built-in default", "0.7"))
    )
    assert own.models[0].params["temperature"].value == 1.0


@pytest.mark.parametrize(
    ("key", "text", "param", "value"),
    [
        ("LITELLM_MAX_TOKENS", "2K", "max_tokens", 2048),
        ("litellm.max_tokens", "2K", "max_tokens", 2048),
        ("litellm.top_k", "5", "top_k", 5),
        ("MAX_PARALLEL_REQUESTS", "3", "max_parallel_requests", 3),
        ("litellm.min_p", "0.05", "min_p", 0.05),
        ("litellm.seed", "7", "seed", 7),
        ("litellm.skip_special_tokens", "false", "skip_special_tokens", False),
        ("litellm.extra_body", '{"cache_salt": "x"}', "extra_body", {"cache_salt": "x"}),
        ("litellm.reasoning_effort", "low", "reasoning_effort", "low"),
    ],
)
def test_set_reaches_parameters_with_their_type(decide: Decide, key: str, text: str, param: str, value: object) -> None:
    found = decide(COMMAND, overrides={key: text}).models[0].params[param]
    assert (found.value, type(found.value), found.origin) == (value, type(value), "--set")


def test_set_of_a_parameter_shows_in_settings_too(decide: Decide) -> None:
    assert decide(COMMAND, overrides={"litellm.top_k": "5"})["LITELLM_TOP_K"] == 5


def test_fragment_parameter_without_setting(decide: Decide) -> None:
    made = decide(COMMAND + "litellm:\n  min_p: 0.1\n", overrides={"litellm.min_p": "0.2"})
    assert made.models[0].params["min_p"] == Value(0.2, "--set", (("models/m.yml:3", "0.1"),))


def test_sampling_value_in_the_command_counts_as_the_fragments(decide: Decide) -> None:
    made = decide("command: vllm serve m --override-generation-config '{\"top_k\":9}'\n", environment={"LITELLM_TOP_K": "3"})
    assert made.models[0].params["top_k"] == Value(9, "models/m.yml:1", (("environment", "3"), ("built-in default", "50")))


NEAR_TABLE = "keys are those of vars.env, litellm.PARAMETER and env.VARIABLE"


@pytest.mark.parametrize(
    ("given", "problems"),
    [
        pytest.param(
            {"overrides": {"LITELM_TOP_K": "1"}},
            ["--set: LITELM_TOP_K: unknown setting\n  did you mean LITELLM_TOP_K or LITELLM_TOP_P?"],
            id="set-near",
        ),
        pytest.param({"overrides": {"x": "1"}}, [f"--set: x: unknown setting\n  {NEAR_TABLE}"], id="set-unknown"),
        pytest.param(
            {"overrides": {"litellm.tempurature": "1"}},
            ["--set: litellm.tempurature: unknown key\n  did you mean temperature?"],
            id="set-unknown-parameter",
        ),
        pytest.param(
            {"overrides": {"litellm.api_key": "x"}},
            ["--set: litellm.api_key: is the stack's to set\n  leave it out: it follows from the fragment"],
            id="set-owned-parameter",
        ),
        pytest.param(
            {"overrides": {"env.HF_TOKEN": "hf_x"}},
            ["--set: env.HF_TOKEN: is not to be set here\n  put the token into the file secrets/HF_TOKEN"],
            id="set-secret",
        ),
        pytest.param(
            {"overrides": {"env.a-b": "x"}}, ["--set: env.a-b: is not a name for an environment variable"], id="set-env-name"
        ),
        pytest.param(
            {"shared": "LITELM_PORT=1\n"},
            ["vars.env:1: LITELM_PORT: unknown setting\n  did you mean LITELLM_PORT?"],
            id="vars-near",
        ),
        pytest.param(
            {"local": "ELSEWHERE_QQ=1\n"},
            [
                "vars.local.env:1: ELSEWHERE_QQ: unknown setting\n"
                "  its comments list the settings there are; NCCL_* and VLLM_* pass too"
            ],
            id="vars-unknown",
        ),
        pytest.param(
            {"shared": "LITELLM_TOP_P=2\nENGINE_PORT=x\n"},
            [
                "vars.env:1: LITELLM_TOP_P: expected a number above 0 and at most 1, got '2'",
                "vars.env:2: ENGINE_PORT: expected a number, got 'x'",
            ],
            id="wrong-values",
        ),
        pytest.param(
            {"text": COMMAND + "litellm:\n  temperature: hot\n  max_tokens: 128Q\n"},
            [
                "models/m.yml:3: LITELLM_TEMPERATURE: expected a number, got 'hot'",
                "models/m.yml:4: LITELLM_MAX_TOKENS: expected a size such as 8192 or 128K, got '128Q'",
            ],
            id="wrong-fragment-values",
        ),
        pytest.param(
            {"environment": {"LITELLM_PORT": "8000"}},
            ["built-in default: ENGINE_PORT=8000 is also LITELLM_PORT\n  choose another port"],
            id="port-twice",
        ),
        pytest.param(
            {"environment": {"BIND_ADDRESS": "0.0.0.0"}},
            [
                "environment: BIND_ADDRESS=0.0.0.0 would offer the well-known key sk-FAKE to other machines\n"
                "  set LOCAL_KEY=false and give each client a key of its own (README: Keys)"
            ],
            id="local-key-for-all",
        ),
        pytest.param(
            {"environment": {"CHAT": "true", "CHAT_ADDRESS": "0.0.0.0"}},
            [
                "environment: CHAT_ADDRESS=0.0.0.0 would let other machines use and administer the chat page without a login\n"
                "  set CHAT_LOGIN=true (docs/chat.md: Other machines)"
            ],
            id="chat-without-login-for-all",
        ),
        pytest.param(
            {"environment": {"CHAT": "true", "CHAT_PORT": "4000"}},
            ["environment: CHAT_PORT=4000 is also LITELLM_PORT\n  choose another port"],
            id="chat-port-twice",
        ),
        pytest.param(
            {"environment": {"METRICS": "true", "GRAFANA_PORT": "9090", "PROMETHEUS_PORT": "8000"}},
            ["environment: PROMETHEUS_PORT=8000 is also ENGINE_PORT\n  choose another port"],
            id="metrics-port-twice",
        ),
    ],
)
def test_problems(decide: Decide, given: dict[str, Any], problems: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        decide(**{"text": COMMAND, **given})
    assert [str(problem) for problem in caught.value.problems] == [f"error: {problem}" for problem in problems]


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.2", "::1"])
def test_local_key_on_loopback(decide: Decide, address: str) -> None:
    assert decide(COMMAND, environment={"BIND_ADDRESS": address})["BIND_ADDRESS"] == address


def test_other_address_without_local_key(decide: Decide) -> None:
    assert decide(COMMAND, environment={"BIND_ADDRESS": "0.0.0.0", "LOCAL_KEY": "off"})["BIND_ADDRESS"] == "0.0.0.0"


@pytest.mark.parametrize(
    "environment",
    [
        {"CHAT": "true", "CHAT_ADDRESS": "0.0.0.0", "CHAT_LOGIN": "true"},
        {"CHAT": "true", "CHAT_ADDRESS": "::1"},
        # The gateway's address is not the page's.
        {"CHAT": "true", "BIND_ADDRESS": "0.0.0.0", "LOCAL_KEY": "false"},
        # What is off stands in nobody's way.
        {"CHAT": "false", "CHAT_ADDRESS": "0.0.0.0", "CHAT_PORT": "4000"},
    ],
    ids=["login", "loopback", "gateway-open", "off"],
)
def test_chat_page_that_may_be(decide: Decide, environment: dict[str, str]) -> None:
    resolved = decide(COMMAND, environment=environment)
    assert resolved["CHAT"] is (environment["CHAT"] == "true")
    assert resolved["CHAT_ADDRESS"] == environment.get("CHAT_ADDRESS", "127.0.0.1")


def test_no_chat_page_unless_asked(decide: Decide) -> None:
    assert decide(COMMAND)["CHAT"] is False


@pytest.mark.parametrize("name", ["VLLM_API_KEY", "VLLM_API_KEY_FILE", "VLLM_IMAGE"])
def test_never_passed_through(decide: Decide, name: str) -> None:
    assert name not in decide(COMMAND, environment={name: "x"}).models[0].env


def test_vars_env_agrees_with_the_table() -> None:
    written = sources.parse_vars(VARS_ENV.read_text(), "vars.env")
    own = {key: entry.value for key, entry in written.items() if not key.startswith(PASS_THROUGH_PREFIXES) or key in BY_KEY}
    assert own == {key: setting.default for key, setting in BY_KEY.items() if key not in SET_BY_COMPOSE}


@pytest.mark.parametrize("setting", settings.TABLE, ids=lambda setting: setting.key)
def test_every_default_is_valid_and_explained(setting: settings.Setting) -> None:
    setting.parse(setting.default)
    assert setting.help


def test_defaults_of_the_founding_document(decide: Decide) -> None:
    served = decide(COMMAND, shared=VARS_ENV.read_text()).models[0]
    assert {param: served.params[param].value for param in BY_PARAM} == {
        "temperature": 0.7,
        "top_p": 0.9,
        "top_k": 50,
        "repetition_penalty": 1.1,
        "max_tokens": 131072,
        "max_parallel_requests": 16,
        "timeout": 600.0,
        "num_retries": 0,
    }
    assert {name: value.value for name, value in served.env.items()} == {"NCCL_IB_DISABLE": "1", "NCCL_ENABLE_SO_RCLO": "1"}
