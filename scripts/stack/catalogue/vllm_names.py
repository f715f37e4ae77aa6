"""What the real vLLM knows: flags, registries, keys of their JSON values. Runs in the engine's environment."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import re
import sys
import typing
from pathlib import Path
from typing import Any

from stack.catalogue.describe import bounds, closure, describe, in_order, plain

# Flags whose values come from a registry that the parser itself does not ask.
_DEVICES = ("cuda", "xpu")
_DEPRECATED = re.compile(r"\b(is|are) deprecated\b|^deprecated", re.I)
_REMOVAL = re.compile(r"removed in v([\d.]*\d)", re.I)
_INSTEAD = re.compile(r"\buse (--[\w.-]*\w)", re.I)
# Flags that are read as JSON and become one of these only later.
_KEYS = {
    "--speculative-config": "SpeculativeConfig",
    "--diffusion-config": "DiffusionConfig",
    "--watermark-config": "WatermarkConfig",
}
Table = dict[str, dict[str, Any]]


class Engine:
    """Collects the tables; configuration classes are followed from one to the next."""

    def __init__(self) -> None:
        sys.argv = ["vllm", "--help"]  # vLLM reads its help texts only if help is asked for
        from vllm.entrypoints.launchers.cli_args import make_arg_parser
        from vllm.utils.argparse_utils import FlexibleArgumentParser

        self.parser = make_arg_parser(FlexibleArgumentParser())
        self._classes: dict[str, type] = {}
        self.groups = {action.dest: group.title for group in self.parser._action_groups for action in group._group_actions}

    def seen(self, cls: type) -> None:
        """Remember a configuration class."""
        self._classes.setdefault(cls.__name__, cls)

    def flags(self) -> Table:
        """Each flag by its first long name."""
        found: Table = {}
        for action in self.parser._actions:
            names = [name for name in action.option_strings if name.startswith("--")]
            if names and not isinstance(action, argparse._HelpAction):
                found[names[0]] = self._flag(action, names[0])
        return dict(sorted(found.items()))

    def _flag(self, action: argparse.Action, name: str) -> dict[str, Any]:
        made: dict[str, Any] = {"value": self._value(action)}
        also = [other for other in action.option_strings if other not in (name, f"--no-{name[2:]}")]
        if also:
            made["also"] = also
        if name in _KEYS:
            made["keys"] = _KEYS[name]
        if action.nargs not in (None, 0):
            made["nargs"] = action.nargs
        if action.choices:
            made["choices"] = in_order(action.choices)
            if name == "--mm-processor-device":  # which ones depends on the machine vLLM runs on
                made["choices"] = in_order((*action.choices, *_DEVICES))
        known = self._known(action, name)
        if known and "choices" not in made:
            made["known"] = known
        made.update(self._bounds(action))
        if plain(action.default) and action.default != argparse.SUPPRESS:
            made["default"] = action.default
        going = _going(action.help or "")
        if going is not None:
            made["deprecated"] = going
        return made

    def _value(self, action: argparse.Action) -> str:
        """How the parser reads the flag's text.

        `flag` (also as --no-NAME), `switch` (not so), `str`, `int`, `float`, `size`, `size_or_auto`, `json`,
        `object_or_str`, `lower` (case and - or _ do not matter), `list` (with commas), or the name of a class whose keys
        the JSON has. With a `?` at the end `None` and the empty text mean nothing.
        """
        if isinstance(action, argparse.BooleanOptionalAction):
            return "flag"
        if action.nargs == 0:
            return "switch"
        function = action.type
        optional = getattr(function, "__name__", "") == "_optional_type"
        if optional:
            function = closure(function)["return_type"]
        return self._reader(function, action.dest) + ("?" if optional else "")

    def _reader(self, function: Any, dest: str) -> str:
        name = getattr(function, "__name__", "")
        if name == "parse_dataclass":
            cls = function.__defaults__[0]
            self.seen(cls)
            return str(cls.__name__)
        if name == "_parse_type":
            name = closure(function)["return_type"].__name__
        if name == "<lambda>":
            return "list" if dest == "device_ids" else "lower"
        named = {
            "human_readable_int": "size",
            "human_readable_int_or_auto": "size_or_auto",
            "loads": "json",
            "union_dict_and_str": "object_or_str",
        }
        return named.get(name, name) if function is not None else "str"

    def _known(self, action: argparse.Action, name: str) -> list[str]:
        """Values that mean something, where the parser takes any text."""
        from vllm.model_executor.layers.quantization import QUANTIZATION_METHODS
        from vllm.model_executor.model_loader import _LOAD_FORMAT_TO_MODEL_LOADER
        from vllm.reasoning import ReasoningParserManager
        from vllm.tool_parsers import ToolParserManager

        registries: dict[str, Any] = {
            "--tool-call-parser": ToolParserManager.list_registered(),
            "--reasoning-parser": ReasoningParserManager.list_registered(),
            "--load-format": _LOAD_FORMAT_TO_MODEL_LOADER,
            "--quantization": QUANTIZATION_METHODS,
        }
        if name in registries:
            return in_order(registries[name])
        if isinstance(action.metavar, list):
            return in_order(action.metavar)
        for one in self._hint(action):
            if isinstance(one, dict) and "name" in one:
                return in_order([*one["name"], *(str(value) for value in one.get("value", ()))])
        return []

    def _field(self, action: argparse.Action) -> tuple[type | None, str]:
        """The configuration class and field that a flag sets, if it is that simple."""
        import vllm.config

        cls = getattr(vllm.config, str(self.groups.get(action.dest)), None)
        if cls is None:
            return None, ""
        names = {field.name for field in dataclasses.fields(cls)}
        for name in (action.dest, action.dest.split("_", 1)[-1]):
            if name in names:
                return cls, name
        return None, ""

    def _hint(self, action: argparse.Action) -> list[Any]:
        cls, name = self._field(action)
        return describe(typing.get_type_hints(cls, include_extras=True)[name], lambda _: None) if cls else []

    def _bounds(self, action: argparse.Action) -> dict[str, float]:
        cls, name = self._field(action)
        return bounds(getattr(cls, "__pydantic_fields__", {}).get(name)) if cls else {}

    def classes(self) -> dict[str, Table]:
        """Keys of each configuration class that a flag's JSON may have."""
        import vllm.config

        for name in _KEYS.values():
            self.seen(getattr(vllm.config, name))
        found: dict[str, Table] = {}
        while set(self._classes) - set(found):
            name = min(set(self._classes) - set(found))
            found[name] = self._keys(self._classes[name])
        return dict(sorted(found.items()))

    def _keys(self, cls: type) -> Table:
        hints = typing.get_type_hints(cls, include_extras=True)
        free = _read_specially(cls)
        fields = getattr(cls, "__pydantic_fields__", {})
        keys: Table = {}
        for field in dataclasses.fields(cls):
            info = fields.get(field.name)
            if not field.init or (info is not None and info.init is False) or field.name.startswith("_"):
                continue
            key: dict[str, Any] = {"type": describe(hints[field.name], self.seen), **bounds(info)}
            if field.name in free or "*" in free or _unchecked(info):
                key["free"] = True
            default = getattr(info, "default", field.default)
            if plain(default):
                key["default"] = default
            keys[field.name] = key
        return keys


def _going(text: str) -> dict[str, str] | None:
    """What a deprecated flag's help says of its end: the version that has it no more, and what to use instead.

    Args:
        text: the flag's help.

    Returns:
        None for a flag that is not deprecated; `removal` and `instead` where they are said.
    """
    if not _DEPRECATED.search(text.partition("\n\n")[0]):
        return None
    found = {"removal": _REMOVAL.search(text), "instead": _INSTEAD.search(text)}
    return {name: match[1] for name, match in found.items() if match}


def generation() -> list[str]:
    """What vLLM takes from --override-generation-config."""
    from vllm.config import ModelConfig

    source = inspect.getsource(ModelConfig.get_diff_sampling_param)
    listed = re.search(r"available_params = \[(.*?)\]", source, re.S)
    assert listed, "vLLM has changed how it reads --override-generation-config"
    return in_order(re.findall(r'"(\w+)"', listed[1]))


def hf_keys() -> set[str]:
    """Keys of any model's config.json: those of transformers' and vLLM's classes, and what vLLM's models ask for."""
    import transformers
    import vllm

    names: set[str] = set()
    engine, library = (Path(str(module.__file__)).parent for module in (vllm, transformers))
    for path in [*library.glob("models/*/configuration_*.py"), *engine.glob("transformers_utils/configs/*.py")]:
        text = path.read_text("utf-8")
        names |= set(re.findall(r"^    (?:    )?(\w+) ?: [^\n]*=", text, re.M))
        names |= set(re.findall(r"self\.(\w+) = ", text))
    names |= set(re.findall(r"^    (\w+) ?: [^\n]*=", (library / "configuration_utils.py").read_text("utf-8"), re.M))
    for path in engine.glob("**/*.py"):
        text = path.read_text("utf-8")
        names |= set(re.findall(r"(?:hf|text|vision)_config\.([a-z]\w+)", text))
        names |= set(re.findall(r'(?:getattr|hasattr)\(\s*\w*(?:_|\b)config,\s*"([a-z]\w+)"', text))
    return {name for name in names if name.islower() or name.lower() == name}


def _read_specially(cls: type) -> set[str]:
    """Fields that code of the class turns into something before their type is looked at."""
    decorators = getattr(cls, "__pydantic_decorators__", None)
    validators = decorators.field_validators.values() if decorators else ()
    return {name for one in validators if one.info.mode in ("before", "wrap", "plain") for name in one.info.fields}


def _unchecked(info: Any) -> bool:
    return any(type(one).__name__ == "SkipValidation" for one in getattr(info, "metadata", ()))
