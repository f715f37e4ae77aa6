"""Reads what people wrote: vars.env, the environment, fragments, secrets' names. No decisions."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dotenv.parser import parse_stream

from stack import yaml_source
from stack.errors import ConfigError, Problem, did_you_mean

MODEL_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
VARS_FILES = ("vars.local.env", "vars.env")  # nearest first
# In a release's folder: the `--set` texts it was accepted with, one a line.
OVERRIDES = "overrides"


@dataclass(frozen=True)
class Entry:
    """Something written somewhere.

    Attributes:
        value: as written; not yet parsed.
        origin: `file:line`, `environment` or `--set`.
    """

    value: Any
    origin: str


@dataclass(frozen=True)
class Sources:
    """All layers outside the fragments.

    Attributes:
        overrides: from `--set`.
        environment: the process's environment, empty values left out.
        files: `vars.local.env` and `vars.env`, nearest first.
    """

    overrides: Mapping[str, Entry]
    environment: Mapping[str, Entry]
    files: tuple[Mapping[str, Entry], ...]


def read(root: Path, environ: Mapping[str, str], overrides: list[str]) -> Sources:
    """Read every layer outside the fragments.

    Args:
        root: the folder that holds vars.env and models/.
        environ: the environment.
        overrides: `key=value` texts, as given to `--set`.

    Raises:
        ConfigError: all problems found.
    """
    problems: list[Problem] = []
    sets: dict[str, Entry] = {}
    for text in (*_kept_overrides(root), *overrides):
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            problems.append(Problem("--set", f"{text!r} is not KEY=VALUE", "for example --set LITELLM_TEMPERATURE=0.2"))
        elif "\n" in text:
            problems.append(Problem("--set", f"{key}: has a line break in it", "write it on one line"))
        else:
            sets[key.strip()] = Entry(value.strip(), "--set")
    files = []
    for name in VARS_FILES:
        path = root / name
        if not path.exists() and not path.is_symlink():
            if name == "vars.env":
                problems.append(Problem(name, f"no such file in {root}", "restore it: git checkout vars.env"))
            continue
        try:
            files.append(parse_vars(yaml_source.read_text(path, name), name))
        except ConfigError as error:
            problems.extend(error.problems)
    if problems:
        raise ConfigError(*problems)
    environment = {key: Entry(value, "environment") for key, value in environ.items() if value.strip()}
    return Sources(sets, environment, tuple(files))


def _kept_overrides(root: Path) -> list[str]:
    try:
        lines = (root / OVERRIDES).read_bytes().decode("utf-8", "surrogateescape").split("\n")
        return [line for line in lines if line.strip()]
    except (FileNotFoundError, IsADirectoryError):
        return []


def parse_vars(text: str, name: str) -> dict[str, Entry]:
    """Parse KEY=value lines; quotes, comments and CRLF as in any .env file, nothing expanded, empty means unset.

    Raises:
        ConfigError: a line that is not KEY=value, or a key that stands twice.
    """
    problems: list[Problem] = []
    entries: dict[str, Entry] = {}
    lines: dict[str, int] = {}
    for binding in parse_stream(io.StringIO(text)):
        lead = binding.original.string
        line = binding.original.line + lead[: len(lead) - len(lead.lstrip())].count("\n")
        place = f"{name}:{line}"
        if binding.error or (binding.key and binding.value is None):
            shown = binding.original.string.strip().splitlines()[0][:60]
            problems.append(Problem(place, f"{shown!r} is not KEY=value", "one setting a line; quote values with spaces"))
        elif binding.key:
            if binding.key in lines:
                what = f"{binding.key}: stands twice, first in line {lines[binding.key]}"
                problems.append(Problem(place, what, "keep one of them"))
            lines[binding.key] = line
            if (binding.value or "").strip():
                entries[binding.key] = Entry((binding.value or "").strip(), place)
    if problems:
        raise ConfigError(*problems)
    return entries


def model_names(root: Path) -> list[str]:
    """Names of the fragments there are, sorted."""
    return sorted(path.stem for path in (root / "models").glob("*.yml") if MODEL_NAME.match(path.stem))


def read_fragment(root: Path, name: str) -> yaml_source.Document:
    """Read models/NAME.yml.

    Raises:
        ConfigError: not a name, no such fragment (with the names there are), or not YAML.
    """
    if not MODEL_NAME.match(name):
        raise ConfigError(
            Problem(
                "MODEL", f"{name[:80]!r} is not a model name", "letters, digits, dots, dashes; models: ./runMe.sh models"
            )
        )
    path = root / "models" / f"{name}.yml"
    if not os.path.lexists(path):
        names = model_names(root)
        near = did_you_mean(name, names)
        listing = f"models there are: {', '.join(names) or 'none'}"
        raise ConfigError(
            Problem("MODEL", f"no model {name!r}: models/{name}.yml does not exist", f"{near} {listing}".strip())
        )
    shown = f"models/{name}.yml"
    return yaml_source.load(yaml_source.read_text(path, shown), shown)
