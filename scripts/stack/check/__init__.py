"""Whether a fragment is right for the pinned vLLM and LiteLLM, before anything starts and without having either. Pure.

The schema itself is stack.fragment's; here are the contents: flags, environment, sampling values, and what does not go
together. What the real programs know stands in stack/catalogue, generated from them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from stack.check import catalogue, environment, flags, together
from stack.check.finding import Finding
from stack.check.params import check_params
from stack.errors import ConfigError, Problem
from stack.fragment import Fragment, parse, salvage
from stack.settings import Value
from stack.yaml_source import Document

ENVIRONMENT = "environment"


def problems(
    fragment: Fragment,
    env: Mapping[str, Value] | None = None,
    image: str = "",
    gpus: Callable[[], int | None] = lambda: None,
) -> list[Problem]:
    """All that is wrong with a fragment that has passed the schema, errors and warnings.

    Args:
        fragment: the fragment.
        env: the engine's environment with the origin of each value; the fragment's own `env:` if not given.
        image: the engine's image, where the fragment names none; of another version of vLLM unknown names are warnings.
        gpus: tells how many GPUs this machine has, None if that is not known; asked only if it matters.
    """
    found = [*_engine(fragment, env), *check_params(fragment)]
    image = fragment.image or image
    if image and catalogue.version() not in image:
        found = [_doubted(problem, image) for problem in found]
    file = fragment.document.name
    uses, _ = flags.read(fragment.words())
    for at in together.check(fragment, uses, gpus):
        name = f"command: {at.name}" if at.name.startswith("-") else at.name
        found.append(_problem(f"{file}:{at.line}", name, at.finding))
    return sorted(dict.fromkeys(found), key=lambda problem: _order(problem.place, file))


def of_document(document: Document) -> list[Problem]:
    """All that is wrong with a fragment's file: the schema first, then as much else as can be told."""
    try:
        return problems(parse(document))
    except ConfigError as error:
        rest = salvage(document)
        more = problems(rest) if rest else []
        return sorted(dict.fromkeys([*error.problems, *more]), key=lambda one: _order(one.place, document.name))


def _engine(fragment: Fragment, env: Mapping[str, Value] | None) -> Iterator[Problem]:
    file = fragment.document.name
    uses, unread = flags.read(fragment.words())
    for at in sorted([*unread, *flags.check(uses)], key=lambda one: one.line):
        yield _problem(f"{file}:{at.line}", f"command: {at.name}", at.finding)
    if env is None:
        env = {name: Value(str(value), fragment.document.place(("env", name))) for name, value in fragment.env.items()}
    for name, value in env.items():
        finding = environment.check(name, str(value.value))
        if finding and value.origin == ENVIRONMENT:
            # Set for the whole machine, by whoever, for whatever.
            finding = replace(finding, level="warning")
        if finding:
            yield _problem(value.origin, f"env.{name}", finding)


def _problem(place: str, name: str, finding: Finding) -> Problem:
    return Problem(place, f"{name}: {finding.what}", finding.cure, finding.level)


def _order(place: str, file: str) -> tuple[bool, int]:
    """The fragment's own lines first, from top to bottom."""
    name, _, line = place.rpartition(":")
    return name != file, int(line) if name == file else 0


def _doubted(problem: Problem, image: str) -> Problem:
    """The same for a vLLM that may know more, or less, than the one the catalogue is of."""
    if problem.level != "error" or ": litellm." in problem.what:
        return problem
    cure = f"{problem.cure}; that is vLLM {catalogue.version()}, and the image is {image}".removeprefix("; ")
    return replace(problem, level="warning", cure=cure)
