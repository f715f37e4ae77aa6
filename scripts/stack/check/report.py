"""`./runMe.sh check`: the fragments that are asked for, each with what is wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath

from stack import check, fragment, settings, sources
from stack.check import gpus
from stack.errors import ConfigError, Problem


def run(root: Path, environ: Mapping[str, str], asked: Sequence[str], *, as_json: bool) -> int:
    """Check and print.

    Args:
        root: the folder of vars.env and models/.
        environ: the environment.
        asked: names of models, or paths of their files, as a pre-commit hook gives them; none means all.
        as_json: print JSON.

    Returns:
        The exit status: 0, or 2 if there is an error.
    """
    names = [_name(root, word) for word in dict.fromkeys(asked)] or sources.model_names(root)
    if not names:
        raise ConfigError(Problem("models/", "there is no model in it"))
    found = {name: problems(root, environ, name) for name in names}
    each = list(dict.fromkeys(problem for some in found.values() for problem in some))
    errors = sum(problem.level == "error" for problem in each)
    if as_json:
        rows = [{"name": name, "problems": [vars(problem) for problem in some]} for name, some in found.items()]
        print(json.dumps({"models": rows, "errors": errors, "warnings": len(each) - errors}, indent=2))
    else:
        for problem in each:
            print(problem)
        print(f"{_count(len(names), 'model')} checked: {_count(errors, 'error')}, {_count(len(each) - errors, 'warning')}")
    return 2 if errors else 0


def problems(root: Path, environ: Mapping[str, str], name: str) -> list[Problem]:
    """All that is wrong with one model, by its file and the settings around it."""
    found: list[Problem] = []
    layers = sources.Sources({}, {}, ())
    try:
        layers = sources.read(root, environ, [])
    except ConfigError as error:
        found.extend(error.problems)
    try:
        document = sources.read_fragment(root, name)
    except ConfigError as error:
        return [*found, *error.problems]
    try:
        one = fragment.parse(document)
    except ConfigError:
        return [*found, *check.of_document(document)]
    try:
        resolved = settings.resolve(layers, (one,))
    except ConfigError as error:
        return list(dict.fromkeys([*found, *error.problems, *check.problems(one, gpus=gpus.count)]))
    served = resolved.models[0]
    return [*found, *check.problems(one, served.env, resolved["VLLM_IMAGE"], gpus.count)]


def _name(root: Path, word: str) -> str:
    path = PurePath(word)
    if len(path.parts) == 1 and path.suffix != ".yml":
        return word
    if (root / "models") in (Path(word).resolve().parent, (root / word).resolve().parent) and path.suffix == ".yml":
        return path.stem
    raise ConfigError(Problem(word, "is not a model's file", "name a model, or a file in models/"))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
