"""`./runMe.sh fit`: the parts, the answer, and the flag to change."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence

from rich.table import Table

from stack import plan, views
from stack.errors import ConfigError, Problem
from stack.fit import answer, demand, facts, guard, machine
from stack.fit.answer import Answer
from stack.fit.facts import Facts
from stack.fit.machine import GIB
from stack.fit.parts import gib
from stack.runtime.layout import Layout

UNKNOWN, DOES_NOT_FIT = 1, 2


def run(
    layout: Layout,
    environ: Mapping[str, str],
    name: str,
    gpus: Sequence[str],
    overrides: list[str],
    extra: str,
    as_json: bool,
) -> int:
    """Show whether a model fits.

    Args:
        layout: folders.
        environ: the environment.
        name: the model; empty: the one that `up` would start.
        gpus: names of GPUs; empty: this machine's.
        overrides: `key=value` texts of `--set`.
        extra: further vLLM flags, which win over the fragment's.
        as_json: print JSON.

    Returns:
        0: it fits everywhere, 2: somewhere it does not, 1: the model is not known.

    Raises:
        ConfigError: no such model or GPU.
    """
    machines = [machine.named(text) for text in gpus]
    made = plan.make(layout.root, environ, overrides, name)
    machines = machines or [guard.here(made, environ)]
    repository = made.served.fragment.argv()[2]
    hub = facts.hub_folder(made.resolved["HF_HOME"], environ)
    try:
        known = facts.find(repository, hub)
    except facts.UnknownModelError as error:
        return _unknown(made.served.name, repository, str(error), as_json)
    argv = [*made.engine_argv, *_words(extra)]
    answers = [answer.judge(known, demand.read(argv, made.engine_env, one), one) for one in machines]
    if as_json:
        head = {"model": made.served.name, "repository": repository, "known_from": known.origin, "weights": known.weights}
        views.print_json({**head, "context": known.context, "machines": [one.data() for one in answers]})
    else:
        _print(made.served.name, known, answers)
    return 0 if all(one.fits for one in answers) else DOES_NOT_FIT


def _words(extra: str) -> list[str]:
    try:
        return shlex.split(extra)
    except ValueError as error:
        raise ConfigError(Problem(f"--with {extra}", f"cannot be read: {error}")) from None


def _unknown(name: str, repository: str, why: str, as_json: bool) -> int:
    cure = f"hf download {repository} config.json model.safetensors.index.json"
    if as_json:
        views.print_json({"model": name, "repository": repository, "unknown": why, "cure": cure})
    else:
        print(f"{name}: it is not known whether {repository} fits: {why}")
        print(f"these two small files are enough: {cure}")
        print("or record it in scripts/stack/fit/facts.yml (docs/fit.md: A model that is not known)", file=sys.stderr)
    return UNKNOWN


def _print(name: str, known: Facts, answers: Sequence[Answer]) -> None:
    table = Table(box=None, pad_edge=False, title=f"{name}: {known.repository}", title_justify="left")
    table.add_column("on each GPU" if any(not one.machine.cpu for one in answers) else "memory", overflow="fold")
    for one in answers:
        table.add_column(one.machine.name, justify="right", overflow="fold")
    table.add_column("", overflow="fold")
    for row in _rows(answers):
        table.add_row(*row)
    views.console().print(table)
    print()
    for one in answers:
        if one.fits:
            print(f"fits {one.machine.name}")
        else:
            print(f"does not fit {one.machine.name}: {one.why}")
            for change in one.changes:
                print(f"  change: {change}")
        for note in one.notes:
            print(f"  note: {note}")


def _rows(answers: Sequence[Answer]) -> list[list[str]]:
    names = list(dict.fromkeys(part.name for one in answers for part in one.parts))
    rows = []
    for name in names:
        found = [next((part for part in one.parts if part.name == name), None) for one in answers]
        details = {part.detail for part in found if part}
        rows.append([name, *(gib(part.size) if part else "" for part in found), details.pop() if len(details) == 1 else ""])
    rows.append(["together", *(gib(sum(part.size for part in one.parts)) for one in answers), ""])
    rows.append(["the engine may have", *(gib(one.budget) for one in answers), _budget(answers)])
    rows.append(["left for the KV cache", *(gib(one.cache) for one in answers), ""])
    rows.append(["largest context", *(f"{one.longest:,}" for one in answers), "tokens, of one request"])
    at_once = [f"{one.concurrency:.1f}" if one.needed else "-" for one in answers]
    rows.append(["requests at once", *at_once, f"of {answers[0].context:,} tokens; --max-num-seqs {answers[0].wanted}"])
    rows.append(["fits", *("yes" if one.fits else "no" for one in answers), ""])
    return rows


def _budget(answers: Sequence[Answer]) -> str:
    if len(answers) > 1 or not answers[0].machine.memory:
        return ""
    share, memory = answers[0].budget / answers[0].machine.memory, answers[0].machine.memory / GIB
    return f"{share:.2f} of {memory:.1f} GiB"
