"""From a plan to one row for each argument, variable and parameter. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from stack import command, gateway, hidden
from stack.explain import meaning
from stack.plan import Plan
from stack.settings import BY_KEY, Value

COMMAND, ENV, LITELLM, SETTINGS = "command", "env", "litellm", "settings"
TITLES = {
    COMMAND: "engine command",
    ENV: "environment of the engine",
    LITELLM: "litellm parameters",
    SETTINGS: "settings",
}
_OWN = "the stack"
# Flags the stack adds, and the setting that decides them.
_BY_SETTING = {
    "--host": "ENGINE_HOST",
    "--port": "ENGINE_PORT",
    "--shutdown-timeout": "ENGINE_SHUTDOWN_TIMEOUT",
    "--enable-log-requests": "ENGINE_LOG_REQUESTS",
}


@dataclass(frozen=True)
class Row:
    """One value that is in effect.

    Attributes:
        section: command, env, litellm or settings.
        key: a flag, a variable, a parameter or a setting.
        value: as it is given to the engine or the gateway; text.
        origin: `file:line`, `environment`, `--set`, `built-in default`, or what of the stack's decides it.
        overrode: the (origin, text) pairs it won over, nearest first.
        help: one line on what it does; empty if nobody says.
    """

    section: str
    key: str
    value: str
    origin: str
    overrode: tuple[tuple[str, str], ...] = ()
    help: str = ""


def of(plan: Plan) -> list[Row]:
    """Every row of the model that a plan serves; without the settings, which are not the model's own."""
    return [*_command(plan), *_env(plan), *_litellm(plan)]


def setting_of_flag(flag: str) -> str:
    """The setting that decides a flag the stack adds, or empty."""
    return _BY_SETTING.get(flag, "")


def settings(plan: Plan) -> list[Row]:
    """A row for each setting that no fragment has a say in; without MODEL, which the caller has chosen by name."""
    return [
        Row(SETTINGS, key, text(value.value), value.origin, value.overrode, BY_KEY[key].help)
        for key, value in plan.resolved.settings.items()
        if not BY_KEY[key].param and key != "MODEL"
    ]


def _command(plan: Plan) -> Iterator[Row]:
    fragment = plan.served.fragment
    written = fragment.argv()
    place = fragment.document.place(("command",))
    own = "" if plan.engine_argv[2] == written[2] else written[2]
    origin = "local copy of the weights" if own else _line(plan, written[2])
    yield Row(COMMAND, "MODEL", plan.engine_argv[2], origin, ((place, own),) if own else (), meaning.MODEL)
    for flag, value in _flags(list(plan.engine_argv)):
        given = command.option(written, flag)
        here = _line(plan, flag) if flag in _names(written) else ""
        origin, overrode = here or _OWN, []
        if flag in _BY_SETTING:
            decided = plan.resolved.settings[_BY_SETTING[flag]]
            wins = here and (flag == "--shutdown-timeout" or not decided.value)
            origin = origin if wins else f"{_BY_SETTING[flag]}, {decided.origin}"
            if wins and not isinstance(decided.value, bool):
                overrode.append((f"{_BY_SETTING[flag]}, {decided.origin}", text(decided.value)))
            elif here and given:
                overrode.append((here, " ".join(given)))
        elif flag == "--served-model-name":
            origin = "the fragment's name, aliases" + (f", {here}" if here else "")
        elif flag == "--revision" and not here:
            origin = fragment.document.place(("revision",))
        elif flag == "--override-generation-config":
            origin = "the litellm parameters below" + (f", {here}" if here else "")
        default = meaning.default_of(flag)
        if default:
            overrode.append(("vLLM's default", default))
        yield Row(COMMAND, flag, hidden.flag(flag, value) or "on", origin, tuple(overrode), meaning.of_flag(flag))


def _flags(argv: list[str]) -> Iterator[tuple[str, str]]:
    """Each flag with its value, a space between several; names with dashes."""
    index = 3
    while index < len(argv):
        name, equals, value = argv[index].partition("=")
        index += 1
        values = [value] if equals else []
        while not equals and index < len(argv) and not argv[index].startswith("--"):
            values.append(argv[index])
            index += 1
        yield name.replace("_", "-"), " ".join(values)


def _names(argv: list[str]) -> set[str]:
    return {flag for flag, _ in _flags(argv)}


def _line(plan: Plan, word: str) -> str:
    """Where a word of the command stands in the fragment."""
    document = plan.served.fragment.document
    for found in plan.served.fragment.words()[2:]:
        if word in (found.text, found.text.partition("=")[0].replace("_", "-")):
            return f"{document.name}:{found.line}"
    return document.place(("command",))


def _env(plan: Plan) -> Iterator[Row]:
    for name, value in plan.served.env.items():
        yield Row(ENV, name, *_decided(name, value), meaning.of_variable(name))
    home = plan.resolved.settings["HF_HOME"]
    yield Row(ENV, "HF_HOME", plan.engine_env["HF_HOME"], home.origin, home.overrode, BY_KEY["HF_HOME"].help)


def _litellm(plan: Plan) -> Iterator[Row]:
    """What the gateway's deployment gets, and the limit of the local key."""
    served = plan.served
    deployed: dict[str, Any] = gateway.deployment(served, plan.resolved)["params"]
    limit = gateway.context_length(served)
    for name, value in deployed.items():
        decided = served.params.get(name)
        if decided is None:
            row = Row(LITELLM, name, text(hidden.shown(name, value)), _follows(plan, name))
        elif name == "max_tokens" and value != decided.value:
            lost = ((decided.origin, text(decided.value)), *decided.overrode)
            row = Row(LITELLM, name, text(value), f"the context of {limit}", lost)
        else:
            row = Row(LITELLM, name, *_decided(name, decided))
        yield replace(row, help=meaning.of_parameter(name))
    name = "max_parallel_requests"
    yield Row(LITELLM, name, *_decided(name, served.params[name]), meaning.of_parameter(name))


def _decided(name: str, value: Value) -> tuple[str, str, tuple[tuple[str, str], ...]]:
    """Text, origin and what was overrode, as they may be shown."""
    lost = tuple((origin, hidden.kept(f"litellm.{name}", one)) for origin, one in value.overrode)
    return text(hidden.shown(name, value.value)), value.origin, lost


def _follows(plan: Plan, name: str) -> str:
    """Where a parameter comes from that the stack derives."""
    if name == "max_output_tokens":
        return "max_tokens"
    if name == "api_base":
        key = "ENGINE_URL" if plan.resolved["ENGINE_URL"] else "ENGINE_PORT"
        return f"{key}, {plan.resolved.settings[key].origin}"
    if name == "model":
        return "the fragment's name"
    return "secrets/VLLM_API_KEY" if name == "api_key" else _OWN


def text(value: Any) -> str:
    """A value as people write it."""
    return "true" if value is True else "false" if value is False else str(value)
