"""The command `explain`: a table of a model's values, one value in full, or what differs between two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from stack import plan, views
from stack.errors import ConfigError, Problem, did_you_mean
from stack.explain import compare, meaning, rows
from stack.explain.rows import Row
from stack.plan import Plan
from stack.releases import Releases
from stack.runtime.layout import Layout
from stack.settings import BY_PARAM

RUNNING, RELEASE = "running", "release:"
_NOT_SET = "not set"


def run(
    layout: Layout,
    environ: Mapping[str, str],
    name: str,
    key: str,
    *,
    other: str,
    overrides: Sequence[str],
    as_json: bool,
) -> int:
    """Explain a model, one key of it, or what differs from another.

    Args:
        layout: where the stack lies.
        environ: the caller's settings.
        name: a model, `running` or `release:N`; empty: the selected model.
        key: a flag, variable, parameter or setting; empty: all.
        other: compare with this one; a name as above, or empty.
        overrides: `--set` texts; they count for models, not for what was accepted before.
        as_json: print JSON.

    Raises:
        ConfigError: no such model, release or key, or the configuration is in error.
    """
    made = _plan(layout, environ, name, list(overrides))
    if other:
        _show_differences(
            made, _plan(layout, environ, other, list(overrides)), (name or made.served.name, other), key, as_json
        )
    elif key:
        _show_key(made, key, as_json)
    else:
        _show_all(made, as_json)
    return 0


def _plan(layout: Layout, environ: Mapping[str, str], name: str, overrides: list[str]) -> Plan:
    root = layout.root
    known = Releases(layout.releases)
    if name == RUNNING and not (root / "models" / f"{RUNNING}.yml").exists():
        current = known.current()
        if current is None:
            raise ConfigError(Problem("explain running", "nothing has run yet", "start a model: MODEL=NAME ./runMe.sh"))
        return current.plan()
    if name.startswith(RELEASE):
        number = name.removeprefix(RELEASE)
        found = [one for one in known.all() if str(one.number) == number]
        if not found:
            there = ", ".join(f"{RELEASE}{one.number}" for one in known.all())
            raise ConfigError(Problem(f"explain {name}", "no such release", f"there are: {there or 'none yet'}"))
        return found[0].plan()
    return plan.make(root, environ, overrides, name)


def _show_all(made: Plan, as_json: bool) -> None:
    found = rows.of(made)
    if as_json:
        grouped = {section: [_data(row) for row in found if row.section == section] for section in rows.TITLES}
        del grouped[rows.SETTINGS]
        views.print_json({"model": made.served.name, **grouped})
        return
    for section, title in rows.TITLES.items():
        part = [row for row in found if row.section == section]
        if not part:
            continue
        table = _table(f"{title} of {made.served.name}", "key", "value", "from", "instead of", "what it does")
        for row in part:
            table.add_row(row.key, escape(row.value), row.origin, escape(_lost(row)), escape(row.help))
        views.console().print(table)
        print()
    print("one of them in full: ./runMe.sh explain NAME KEY; the stack's settings: ./runMe.sh config")


def _show_key(made: Plan, key: str, as_json: bool) -> None:
    found = _find(made, key)
    if as_json:
        views.print_json({"model": made.served.name, "rows": [_data(row) for row in found]})
        return
    for row in found:
        lines = [("value", row.value), ("from", row.origin)]
        lines += [("instead of", f"{value}  ({origin})") for origin, value in row.overrode]
        lines += [("what it does", row.help), ("change it", _change(made, row))]
        print(f"{row.key}  ({rows.TITLES[row.section]} of {made.served.name})")
        for label, text in lines:
            if text:
                print(f"  {label:14}{text}")


def _find(made: Plan, key: str) -> list[Row]:
    """The rows that a key names; one for a flag or variable that vLLM has and the model does not use."""
    section, dot, rest = key.partition(".")
    everything = [*rows.of(made), *rows.settings(made)]
    found = [row for row in everything if key in (row.key, row.key.removeprefix("--")) or _setting_of(row.key) == key]
    found += [row for row in everything if dot and (row.section, row.key) == (section, rest)]
    if found:
        return found
    flag = f"--{key.removeprefix('--').replace('_', '-')}"
    if meaning.of_flag(flag):
        default = meaning.default_of(flag) or "vLLM decides"
        return [Row(rows.COMMAND, flag, f"{_NOT_SET}: {default}", "vLLM's default", (), meaning.of_flag(flag))]
    if meaning.of_variable(key):
        return [Row(rows.ENV, key, _NOT_SET, "vLLM's default", (), meaning.of_variable(key))]
    known = {row.key for row in everything} | meaning.names()
    cure = did_you_mean(key, known) or f"those of {made.served.name}: ./runMe.sh explain {made.served.name}"
    raise ConfigError(Problem(f"explain {made.served.name} {key}", "no such flag, variable, parameter or setting", cure))


def _setting_of(parameter: str) -> str:
    setting = BY_PARAM.get(parameter)
    return setting.key if setting else ""


def _change(made: Plan, row: Row) -> str:
    """Where to write another value."""
    fragment = made.served.fragment.document.name
    if row.section == rows.COMMAND:
        setting = rows.setting_of_flag(row.key)
        if setting and not row.origin.startswith(fragment):
            return f"{setting} in vars.local.env, or --set {setting}=VALUE"
        return f"command: in {fragment}"
    if row.section == rows.SETTINGS:
        return f"{row.key} in vars.local.env, or --set {row.key}=VALUE"
    if row.section == rows.ENV and row.key == "HF_HOME":
        return "HF_HOME in vars.local.env"
    section = "env" if row.section == rows.ENV else "litellm"
    return f"{section}: in {fragment}, or --set {section}.{row.key}=VALUE"


def _show_differences(before: Plan, after: Plan, names: tuple[str, str], key: str, as_json: bool) -> None:
    found = [one for one in compare.differences(before, after) if not key or key in (one.key, one.key.removeprefix("--"))]
    restarts = compare.restarts(before, after)
    if as_json:
        listed = [
            {
                "section": one.section,
                "key": one.key,
                "before": one.before and _data(one.before),
                "after": one.after and _data(one.after),
                "help": one.help,
            }
            for one in found
        ]
        views.print_json({"before": names[0], "after": names[1], "differences": listed, "restarts": restarts})
        return
    if not found:
        print(f"{names[0]} and {names[1]} do not differ" + (f" in {key}" if key else ""))
        return
    table = _table("", "key", names[0], names[1], "what it does")
    for one in found:
        sides = [f"{escape(row.value)}\n[dim]{row.origin}[/]" if row else "[dim]-[/]" for row in (one.before, one.after)]
        table.add_row(one.key, *sides, escape(one.help))
    views.console().print(table)
    if restarts:
        print(f"\nfrom one to the other {' and '.join(restarts)} start{'s' if len(restarts) == 1 else ''} anew")


def _table(title: str, *headings: str) -> Table:
    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def _lost(row: Row) -> str:
    return ", ".join(f"{value} ({origin})" for origin, value in row.overrode if origin != "built-in default")


def _data(row: Row) -> dict[str, Any]:
    lost = [{"value": value, "origin": origin} for origin, value in row.overrode]
    return {"key": row.key, "value": row.value, "origin": row.origin, "overrode": lost, "help": row.help}
