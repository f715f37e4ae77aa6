"""What a program's own objects say of themselves, as plain data: types and constraints.

Used by regenerate.py in the environments of the real programs; the checks read the result, never this.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import types
import typing
from collections.abc import Callable, Iterable
from typing import Any

_PLAIN: dict[Any, str] = {bool: "bool", int: "int", float: "float", str: "str", type(None): "null"}
_BOUNDS = ("gt", "ge", "lt", "le")
# Classes that vLLM fills in itself, whatever the JSON says.
_INTERNAL = frozenset({"ModelConfig", "ParallelConfig", "ScalarType"})
Types = list[Any]


def describe(hint: Any, seen: Callable[[type], None]) -> Types:
    """A type hint as a list of alternatives.

    Each is `any`, `null`, `bool`, `int`, `float`, `str`, `{"in": [values]}`, `{"list": alternatives}`,
    `{"dict": alternatives of the values}`, `{"class": name}`, or for an enumeration `{"name": [names], "value": [values]}`.

    Args:
        hint: the type hint, resolved.
        seen: is told each configuration class that the hint names.
    """
    origin = typing.get_origin(hint)
    arguments = typing.get_args(hint)
    if origin is typing.Annotated:
        return describe(arguments[0], seen)
    if origin in (typing.Union, types.UnionType):
        found: Types = []
        for argument in arguments:
            found += [one for one in describe(argument, seen) if one not in found]
        return found
    if origin is typing.Literal:
        return [{"in": list(arguments)}]
    if hint in _PLAIN:
        return [_PLAIN[hint]]
    base = origin or hint
    if base in (list, set, tuple, frozenset):
        return [{"list": _alternatives([one for one in arguments if one is not Ellipsis], seen)}]
    if inspect.isclass(base) and issubclass(base, dict):
        return [{"dict": _alternatives(arguments[1:], seen)}]
    if inspect.isclass(base) and issubclass(base, enum.Enum):
        values = [member.value for member in base.__members__.values()]
        short = all(isinstance(value, int | str) and len(str(value)) < 30 for value in values)
        return [{"name": list(base.__members__), **({"value": values} if short else {})}]
    if inspect.isclass(base) and dataclasses.is_dataclass(base) and base.__name__ not in _INTERNAL:
        seen(base)
        return [{"class": base.__name__}]
    return ["any"]


def _alternatives(hints: Iterable[Any], seen: Callable[[type], None]) -> Types:
    found: Types = []
    for hint in hints:
        found += [one for one in describe(hint, seen) if one not in found]
    return found or ["any"]


def bounds(field: Any) -> dict[str, float]:
    """What a pydantic field says of the size of its number."""
    return {name: getattr(one, name) for one in getattr(field, "metadata", ()) for name in _BOUNDS if hasattr(one, name)}


def plain(value: Any) -> bool:
    """Whether a default can stand in JSON as it is and says something."""
    return isinstance(value, bool | int | float | str) and value != "" and value == value


def closure(function: Any) -> dict[str, Any]:
    """What a function made by another one has kept of that one's variables."""
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    return {name: cell.cell_contents for name, cell in cells}


def in_order(names: Iterable[Any]) -> list[Any]:
    """Sorted, without what is nothing."""
    return sorted({name for name in names if name is not None}, key=str)
