"""The command `client`: which clients there are, and what one of them needs for the stack that runs."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from stack import plan, views
from stack.clients import registry, setup, write
from stack.clients.registry import Client
from stack.clients.setup import Endpoint, Setup
from stack.errors import ConfigError, Problem
from stack.plan import Plan
from stack.releases import Releases
from stack.runtime.layout import Layout
from stack.runtime.probe import listens


def run(layout: Layout, environ: Mapping[str, str], name: str, *, key: str | None, wanted: bool, as_json: bool) -> int:
    """List the clients, or show, and with `wanted` write, the set-up of one.

    Args:
        layout: where the stack lies.
        environ: decides where a client's files lie, and which model it is while nothing has run.
        name: of a client; empty: list them.
        key: to send; None: the local key, if that is on.
        wanted: write the client's files.
        as_json: print JSON.

    Raises:
        ConfigError: no such client, or it cannot use this model, or its files cannot be merged.
    """
    found = registry.find(name) if name else registry.CLIENTS
    if len(found) != 1:
        if wanted or key is not None:
            names = ", ".join(client.name for client in found)
            raise ConfigError(Problem("client", "--write and --key are for one client", f"name one of: {names}"))
        _list(found, as_json)
        return 0
    client = found[0]
    _check(key)
    made = _plan(layout, environ)
    to = setup.endpoint(made, key or "")
    shown = registry.render(client, to)
    written: list[tuple[Path, bool]] = []
    if wanted:
        if not shown.files:
            cure = f"paste what ./runMe.sh client {client.name} prints"
            raise ConfigError(Problem(f"client {client.name}", "has no configuration file of its own", cure))
        written = write.write(shown.files, environ, Path.cwd())
    for note in _notes(to, shown, layout, key, wanted):
        print(f"note: {note}", file=sys.stderr)
    if as_json:
        paths = {"written": [str(path) for path, _ in written]} if wanted else {}
        views.print_json(_data(client, to, shown, environ) | paths)
    elif wanted:
        for path, changed in written:
            print(f"{'wrote' if changed else 'already so:'} {path}")
        if shown.command:
            print(f"start it: {shown.command}")
    else:
        print(shown.text, end="")
    return 0


def _list(clients: Sequence[Client], as_json: bool) -> None:
    if as_json:
        views.print_json([{"client": one.name, "what": one.what, "verified": one.verified} for one in clients])
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("client", "what", "verified"):
        table.add_column(heading, overflow="fold")
    for one in clients:
        table.add_row(one.name, escape(one.what), one.verified)
    views.console().print(table)
    print("\nits set-up: ./runMe.sh client NAME; --write puts it into the client's own file")


def _check(key: str | None) -> None:
    if key is not None and not (key and key.isascii() and key.isprintable() and " " not in key):
        raise ConfigError(
            Problem("--key", "is empty or has characters that no key has", "a key is one word of letters, digits and -_")
        )


def _plan(layout: Layout, environ: Mapping[str, str]) -> Plan:
    """What runs, else what `up` would start; says so if nothing answers."""
    current = Releases(layout.releases).current()
    made = current.plan() if current else plan.make(layout.root, environ, [])
    resolved = made.resolved
    names = (made.served.name, setup.endpoint(made).names[1])
    if current is None:
        print(f"note: nothing runs yet; this is for {names[0]}, which ./runMe.sh would start", file=sys.stderr)
    elif not listens(resolved["BIND_ADDRESS"], resolved["LITELLM_PORT"]):
        print(f"note: {names[0]} was served last, and nothing answers now: ./runMe.sh status", file=sys.stderr)
    else:
        print(f"note: {names[0]} is served; it also answers to {names[1]}", file=sys.stderr)
    return made


def _notes(to: Endpoint, shown: Setup, layout: Layout, key: str | None, wanted: bool) -> list[str]:
    notes = [*shown.notes, *_key_notes(to, layout, key)]
    if wanted and any(file.secret and file.folder == "." for file in shown.files):
        notes.append("the key is in a file of the project: keep that out of Git")
    return [shown.paste, *notes] if shown.paste and not wanted else notes


def _key_notes(to: Endpoint, layout: Layout, key: str | None) -> list[str]:
    master = layout.secrets / "LITELLM_MASTER_KEY"
    secret = shlex.quote(str(master))
    if key is not None:
        warning = "this is the master key: it administers everything and knows no limits; give clients keys of their own"
        return [warning] if _is_in(master, key) else []
    if to.key.literal is not None:
        return []
    return [
        "sk-FAKE is off (LOCAL_KEY=false), so the client needs a key of its own. The master key, which is for\n"
        "  administration and not for clients, makes one:\n\n"
        f'  export {setup.KEY_VARIABLE}=$(curl -s {to.url}/key/generate -H "Authorization: Bearer $(cat {secret})" \\\n'
        "    -H 'Content-Type: application/json' -d '{}' |\n"
        "    python3 -c 'import json, sys; print(json.load(sys.stdin)[\"key\"])')\n"
    ]


def _is_in(file: Path, key: str) -> bool:
    try:
        return file.read_text("utf-8").strip() == key
    except OSError:
        return False


def _data(client: Client, to: Endpoint, shown: Setup, environ: Mapping[str, str]) -> dict[str, Any]:
    return {
        "client": client.name,
        "url": to.url,
        "model": to.model,
        "context": to.context,
        "max_output_tokens": to.max_output,
        "environment": dict(shown.environment),
        "files": [{"path": str(write.place(file, environ, Path.cwd())), "text": file.text} for file in shown.files],
        "command": shown.command,
        "text": shown.text,
    }
