"""YAML with places: reads a file into plain data plus the line of every key, refusing what a fragment never needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from stack.errors import ConfigError, Problem

MAX_BYTES = 256 << 10
MAX_NESTING = 50
Path_ = tuple[str, ...]


@dataclass(frozen=True)
class Document:
    """A YAML mapping and where each of its keys stands.

    Attributes:
        name: the file's name as shown to the user, for example `models/qwen3.yml`.
        data: the mapping.
        lines: path of a key, for example `("litellm", "top_p")`, to its line, counted from 1.
        text_lines: path of a key with a text value to the line on which that text begins.
    """

    name: str
    data: Mapping[str, Any]
    lines: Mapping[Path_, int]
    text_lines: Mapping[Path_, int]

    def place(self, path: Path_) -> str:
        """`file:line` of the nearest key on `path` that stands in the file."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.lines:
                return f"{self.name}:{self.lines[path[:length]]}"
        return self.name


def read_text(path: Path, name: str) -> str:
    """The file's text, without a byte-order mark.

    Raises:
        ConfigError: missing, unreadable, not a regular file, over 256 KiB, not UTF-8, or with a NUL byte.
    """
    try:
        if not path.is_file():
            what = "is a directory, not a file" if path.is_dir() else "no such file"
            raise ConfigError(Problem(name, what))
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ConfigError(Problem(name, f"{size / 2**20:.1f} MiB is larger than the 256 KiB a configuration may have"))
        raw = path.read_bytes()
    except OSError as error:
        cure = f"check its permissions: ls -l {name}" if isinstance(error, PermissionError) else ""
        raise ConfigError(Problem(name, f"cannot be read: {error.strerror}", cure)) from None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ConfigError(Problem(f"{name}:{line}", "is not UTF-8 text", "save the file as UTF-8")) from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise ConfigError(Problem(f"{name}:{line}", "has a NUL byte in it", "save the file as UTF-8 text"))
    return text


def load(text: str, name: str) -> Document:
    """Parse a YAML mapping.

    Raises:
        ConfigError: not YAML, not a mapping, with duplicate keys, aliases, tags, or keys that are not text.
    """
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        raise ConfigError(_syntax_problem(error, text, name)) from None
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(Problem(name, f"is not YAML: {error or 'nested too deeply'}")) from None
    if node is None:
        raise ConfigError(Problem(name, "is empty"))
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(Problem(f"{name}:{node.start_mark.line + 1}", "expected a mapping of keys to values at the top"))
    problems: list[Problem] = []
    walk = _Walk(name)
    try:
        problems.extend(walk.visit(node, ()))
        if problems:
            raise ConfigError(*problems)
        data = yaml.SafeLoader("").construct_document(node)
    except RecursionError:
        raise ConfigError(Problem(name, "is nested too deeply")) from None
    except yaml.MarkedYAMLError as error:
        raise ConfigError(_syntax_problem(error, text, name)) from None
    return Document(name, data, MappingProxyType(walk.lines), MappingProxyType(walk.text_lines))


class _Loader(yaml.SafeLoader):
    """Refuses deep nesting before the scanner, whose time grows with its square, has gone through it."""

    def fetch_flow_collection_start(self, token: Any) -> None:
        if self.flow_level >= MAX_NESTING:
            raise yaml.MarkedYAMLError(problem="nested too deeply", problem_mark=self.get_mark())
        super().fetch_flow_collection_start(token)


class _Walk:
    """Goes through a YAML tree, noting where things stand and what is refused."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lines: dict[Path_, int] = {}
        self.text_lines: dict[Path_, int] = {}
        self._seen: set[int] = set()
        self._constructor = yaml.SafeLoader("")

    def visit(self, node: yaml.Node, path: Path_) -> Iterator[Problem]:
        dotted = ".".join(path)
        if id(node) in self._seen:
            place = self.lines.get(path, node.start_mark.line + 1)
            cure = "write the value out: aliases are refused"
            yield Problem(f"{self.name}:{place}", f"{dotted}: uses a YAML alias (*name)", cure)
            return
        self._seen.add(id(node))
        if isinstance(node, yaml.ScalarNode):
            problem = self._value_problem(node, dotted)
            if problem:
                yield problem
            self.text_lines[path] = node.start_mark.line + (2 if node.style in ("|", ">") else 1)
        elif isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                yield from self.visit(item, (*path, str(index)))
        elif isinstance(node, yaml.MappingNode):
            yield from self._visit_mapping(node, path)

    def _value_problem(self, node: yaml.ScalarNode, dotted: str) -> Problem | None:
        try:
            self._constructor.construct_object(node)
            node.value.encode()
        except ValueError as error:  # an impossible date, a number of thousands of digits, half a surrogate pair
            cure = "put it in quotes to mean the text"
            return Problem(f"{self.name}:{node.start_mark.line + 1}", f"{dotted}: cannot be read: {error}", cure)
        return None

    def _visit_mapping(self, node: yaml.MappingNode, path: Path_) -> Iterator[Problem]:
        keys: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            place = f"{self.name}:{line}"
            if not isinstance(key, yaml.ScalarNode):
                yield Problem(place, "a key is not text")
                continue
            if key.tag != "tag:yaml.org,2002:str":
                yield Problem(place, f"key {key.value!r} is not text", f'put it in quotes: "{key.value}"')
                continue
            here = (*path, key.value)
            if key.value in keys:
                what = f"{'.'.join(here)}: stands twice, first in line {keys[key.value]}"
                yield Problem(place, what, "keep one of them")
                continue
            keys[key.value] = self.lines[here] = line
            yield from self.visit(value, here)


def _syntax_problem(error: yaml.MarkedYAMLError, text: str, name: str) -> Problem:
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark else 0
    what = f"is not YAML: {error.problem or error.context}"
    rows = text.split("\n")
    cure = ""
    if mark and "\t" in rows[min(mark.line, len(rows) - 1)][: mark.column + 1]:
        cure = "indent with spaces: YAML does not allow tabs"
    elif error.problem == "mapping values are not allowed here":
        cure = "a value with ': ' in it has to be put in quotes"
    elif error.context and error.problem:
        cure = f"{error.context}"
    return Problem(f"{name}:{line}" if line else name, what, cure)
