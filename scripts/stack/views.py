"""Tables and texts of the command line, each also as JSON."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from stack import gateway, hidden
from stack.local_key import LOCAL_KEY
from stack.plan import Plan
from stack.releases import Release, changes
from stack.runtime import chat
from stack.runtime.probe import reachable
from stack.settings import BY_KEY, BY_PARAM, Value


def console(stderr: bool = False) -> Console:
    """A console that never breaks long lines when its output goes to a file or another program."""
    made = Console(stderr=stderr, highlight=False)
    return made if made.is_terminal else Console(stderr=stderr, highlight=False, width=240)


def print_json(data: Any) -> None:
    """For programs."""
    print(json.dumps(data, indent=2, default=str))


def print_json_line(data: Any) -> None:
    """The same on one line, at once."""
    print(json.dumps(data, default=str), flush=True)


def print_ready(plan: Plan, as_json: bool) -> None:
    """The last lines of `up`: what is ready, where, and a request to paste."""
    resolved = plan.resolved
    base = f"http://{reachable(resolved['BIND_ADDRESS'])}:{resolved['LITELLM_PORT']}"
    key = LOCAL_KEY if resolved["LOCAL_KEY"] else "$(cat secrets/LITELLM_MASTER_KEY)"
    name = plan.served.name
    if as_json:
        urls = {"url": base, "openai_base_url": f"{base}/v1", "chat": chat.url(resolved)}
        print_json({"model": name, "aliases": [gateway.CANONICAL_NAME], **urls})
        return
    path, body = gateway.example_request(plan.served, "What is the capital of France?")
    print(f"\nready: {name} (also {gateway.CANONICAL_NAME})")
    print(f"  OpenAI API     {base}/v1    key {key}")
    if not gateway.is_pooling(plan.served):
        print(f"  Anthropic API  {base}       key {key}")
    if resolved["CHAT"]:
        print(f"  Chat page      {chat.url(resolved)}")
    print("\ntry it:\n")
    quote = '"' if "$" in key else "'"
    print(f"  curl {base}{path} -H {quote}Authorization: Bearer {key}{quote} \\")
    print(f"    -H 'Content-Type: application/json' -d '{json.dumps(body)}'\n")


def print_releases(known: Sequence[Release], current: Release | None, as_json: bool) -> None:
    """Newest first."""
    if as_json:
        print_json([_release(one, current == one) for one in known])
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("release", "accepted", "model", "state", "ready after", "runtime", "revision", "image", "note"):
        table.add_column(heading, overflow="fold")
    colours = {"good": "green", "failed": "red"}
    for one in reversed(known):
        note = one.reason.splitlines()[0].removeprefix("error: ") if one.reason else ""
        note = f"release {one.repeats} again" if one.repeats and not note else note
        number = f"{one.number} (current)" if current and current.number == one.number else str(one.number)
        state = f"[{colours[one.state]}]{one.state}[/]" if one.state in colours else one.state
        image = one.images.get("engine", {}).get("name", "").rpartition(":")[2]
        after = f"{one.seconds:.0f} s" if one.seconds else ""
        table.add_row(number, one.created, one.model, state, after, one.runtime, one.revision[:12], image, escape(note))
    console().print(table if known else "no releases yet")


def _release(one: Release, current: bool) -> dict[str, Any]:
    values = {name: hidden.kept(name, text) for name, text in one.values.items()}
    return {**vars(one), "folder": str(one.folder), "values": values, "current": current}


def change_lines(old: Release, new: Release) -> list[str]:
    """What differs between two releases, a line each."""
    return [
        f"{name}: {hidden.kept(name, before) or '(none)'} -> {hidden.kept(name, after) or '(none)'}"
        for name, before, after in changes(old, new)
    ]


def print_changes(old: Release, new: Release) -> None:
    """What a new release changed, on standard error: standard output belongs to the result."""
    lines = change_lines(old, new) or ["nothing"]
    print(f"\nchanged since release {old.number}:", file=sys.stderr)
    for line in lines:
        print(f"  {line}", file=sys.stderr)


def print_config(plan: Plan, as_json: bool) -> None:
    """Every value with its origin, and what follows from them."""
    served = plan.served
    groups: dict[str, Mapping[str, Value]] = {
        "settings": plan.resolved.settings,
        f"litellm parameters of {served.name}": served.params,
        f"environment of {served.name}'s engine": served.env,
    }
    if as_json:
        names = ("settings", "litellm", "env")
        helps = {key: {"help": setting.help} for key, setting in BY_KEY.items()}
        data: dict[str, Any] = {
            short: {
                key: {"value": hidden.shown(key, v.value), "origin": v.origin, "overrode": v.overrode, **helps.get(key, {})}
                for key, v in group.items()
            }
            for short, group in zip(names, groups.values(), strict=True)
        }
        print_json({"model": served.name, **data, "command": plan.engine_argv, "gateway_config": plan.gateway_config})
        return
    shadowed = {setting.key for setting in BY_PARAM.values()}
    for title, group in groups.items():
        table = Table(title=title, title_justify="left", box=None, pad_edge=False)
        for heading in ("key", "value", "from", "instead of"):
            table.add_column(heading, overflow="fold")
        for key, value in group.items():
            if title == "settings" and key in shadowed:
                continue  # shown with the model's parameters, where the fragment has had its say
            lost = ", ".join(
                f"{hidden.shown(key, text)} ({origin})" for origin, text in value.overrode if origin != "built-in default"
            )
            table.add_row(key, escape(str(hidden.shown(key, value.value))), value.origin, escape(lost))
        console().print(table)
        print()
    print("engine command\n  " + shlex.join(plan.engine_argv))
