"""The models there are, with size, context and whether they fit: for `./runMe.sh models` and docs/models.md."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from stack import command, fragment, sources
from stack.errors import ConfigError
from stack.fit import answer, demand, facts
from stack.fit.answer import Answer
from stack.fit.machine import Machine, named
from stack.fit.parts import gib
from stack.fragment import Fragment
from stack.values import parse_vllm_size

# The columns of docs/models.md.
DOCUMENTED = {"GB10": "gb10", "24 GB (RTX 4090)": "4090", "48 GB (RTX A6000)": "a6000", "80 GB (H100)": "h100"}
_LINK = re.compile(r"https://[^\s,;)]+[^\s,;).:]")


@dataclass(frozen=True)
class Row:
    """A fragment.

    Attributes:
        name: of the fragment.
        error: why it cannot be read; the rest is empty then.
        repository: of the weights.
        description: its own line.
        weights: bytes, 0: not known.
        context: tokens it is served with, 0: not known.
        tools, reasoning: the parsers, empty if there are none.
        cached: whether its weights are in the hub's cache.
        argv, env: its command and environment.
        answers: whether it fits each of the machines asked about; None: not known.
    """

    name: str
    error: str = ""
    repository: str = ""
    description: str = ""
    weights: int = 0
    context: int = 0
    tools: str = ""
    reasoning: str = ""
    cached: bool = False
    argv: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    answers: tuple[Answer | None, ...] = ()

    def fits(self, index: int = 0) -> bool | None:
        """Whether it fits one of the machines; None: not known."""
        found = self.answers[index] if index < len(self.answers) else None
        return None if found is None else found.fits


def rows(root: Path, machines: Sequence[Machine], hub: Path) -> list[Row]:
    """A row for each fragment under `root`, wrong ones included."""
    made = []
    for name in sources.model_names(root):
        try:
            made.append(_row(name, fragment.parse(sources.read_fragment(root, name)), machines, hub))
        except ConfigError as error:
            made.append(Row(name, str(error.problems[0])))
    return made


def _row(name: str, one: Fragment, machines: Sequence[Machine], hub: Path) -> Row:
    argv = one.argv()
    env = {key: str(value) for key, value in one.env.items()}
    answers: list[Answer | None] = [None] * len(machines)
    known = None
    try:
        known = facts.find(argv[2], hub)
        answers = [answer.judge(known, demand.read(argv, env, where), where) for where in machines]
    except facts.UnknownModelError:
        pass
    return Row(
        name=name,
        repository=argv[2],
        description=one.description,
        weights=known.weights if known else 0,
        context=_context(argv) or one.context or (known.context if known else 0),
        tools=_last(argv, "--tool-call-parser"),
        reasoning=_last(argv, "--reasoning-parser"),
        cached=facts.is_cached(argv[2], hub),
        argv=tuple(argv),
        env=env,
        answers=tuple(answers),
    )


def _last(argv: list[str], flag: str) -> str:
    return (command.option(argv, flag) or [""])[-1]


def _context(argv: list[str]) -> int:
    try:
        return parse_vllm_size(_last(argv, "--max-model-len")) or 0
    except ValueError:
        return 0


def document(root: Path) -> str:
    """The table of docs/models.md."""
    found = rows(root, [named(name) for name in DOCUMENTED.values()], Path("/nonexistent"))
    head = ["model", "weights", "context", "tool calls", "reasoning", *DOCUMENTED, "sources"]
    lines = [head, ["---"] * len(head)]
    for row in found:
        fits = [_fits(row, index, machine) for index, machine in enumerate(DOCUMENTED.values())]
        cells = [f"[{row.name}](../models/{row.name}.yml)", gib(row.weights) if row.weights else "?", f"{row.context:,}"]
        lines.append([*cells, row.tools or "-", row.reasoning or "-", *fits, _links(root, row)])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _fits(row: Row, index: int, machine: str) -> str:
    """`yes`, how many such GPUs the command wants, or the context up to which it would fit."""
    found = row.answers[index]
    if found is None:
        return "?"
    if found.fits:
        return "yes"
    if found.gpus > 1 and found.machine.shared:
        return "no"  # such machines have one GPU each
    if found.gpus > 1:
        several = _several(row, found.gpus, machine)
        return f"{found.gpus} of them" if several else "no"
    return f"to {found.longest // 1024}K" if found.longest >= 4096 else "no"


def _several(row: Row, count: int, machine: str) -> bool:
    known, where = facts.of(row.repository), named(f"{count}x{machine}")
    return known is not None and answer.judge(known, demand.read(list(row.argv), row.env, where), where).fits


def _links(root: Path, row: Row) -> str:
    """The pages that the fragment's comments name, and the model's card."""
    comments = [line for line in (root / "models" / f"{row.name}.yml").read_text("utf-8").splitlines() if "#" in line]
    links = dict.fromkeys(_LINK.findall("\n".join(comments)))
    card = f"https://huggingface.co/{row.repository}"
    named_links = [f"[card]({card})"]
    named_links += [f"[{_label(link)}]({link})" for link in links if link != card]
    return ", ".join(named_links)


def _label(link: str) -> str:
    return "recipe" if "recipes" in link else "vendor" if "huggingface" not in link else "original's card"
