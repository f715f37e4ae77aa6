"""models/schema.json: what an editor needs to complete and check a fragment while it is being written. Pure.

    PYTHONPATH=scripts python -m stack.fragment_schema > models/schema.json

The schema says less than `./runMe.sh check`: it shows what there is and what is plainly wrong.
A test compares the file with this module and all fragments with the file.
"""

from __future__ import annotations

import json
import math
from typing import Any

from stack.check.sampling import RANGES, SIZES, Range
from stack.explain import meaning
from stack.fragment import OWNED_ENV, OWNED_PARAMS, Fragment, Weights, known_params

COMMENT = "# yaml-language-server: $schema=schema.json"
_DESCRIPTIONS = {
    "command": "the `vllm serve` command as one would type it; no shell runs it",
    "env": "environment variables for the engine",
    "litellm": "what a request gets when it does not say otherwise, and other LiteLLM parameters; they win over vars.env",
    "description": "one line for `./runMe.sh models`",
    "aliases": "further names the model answers to",
    "context": "the model's own context length in tokens (131072, 128K), where the command gives no --max-model-len",
    "image": "base image for this model, instead of VLLM_IMAGE",
    "revision": "commit, tag or branch of the repository to serve",
    "weights": "an offline source of the weights (native runtime)",
}
_SIZE = {"type": ["integer", "string"], "pattern": r"^\s*[0-9]", "minimum": 1}


def build() -> dict[str, Any]:
    """The schema, JSON Schema draft 7."""
    own = Fragment.model_json_schema()["properties"]
    weights = Weights.model_json_schema()
    kinds: dict[str, dict[str, Any]] = {
        "command": {"type": "string", "pattern": r"^\s*vllm\s+serve\s"},
        "env": {"type": ["object", "null"], "properties": _environment(), "additionalProperties": _text("")},
        "litellm": {"type": ["object", "null"], "properties": _parameters(), "additionalProperties": False},
        "description": {"type": "string"},
        "aliases": {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
        "context": _SIZE,
        "image": {"type": "string"},
        "revision": {"type": "string"},
        "weights": {
            "type": "object",
            "properties": {
                name: {"type": "string", "pattern": one["pattern"]} for name, one in weights["properties"].items()
            },
            "required": weights["required"],
            "additionalProperties": False,
        },
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "a model: models/NAME.yml",
        "description": "Made by scripts/stack/fragment_schema.py. `./runMe.sh check` knows more.",
        "type": "object",
        "required": ["command"],
        "additionalProperties": False,
        "properties": {name: {"description": _DESCRIPTIONS[name], **kinds[name]} for name in own},
    }


def _environment() -> dict[str, Any]:
    names = sorted(name for name in meaning.variables() if name not in OWNED_ENV)
    return {name: _text(meaning.of_variable(name)) for name in names}


def _text(description: str) -> dict[str, Any]:
    return {**({"description": description} if description else {}), "type": ["string", "number"]}


def _parameters() -> dict[str, Any]:
    return {name: _parameter(name) for name in sorted(known_params() - OWNED_PARAMS)}


def _parameter(name: str) -> dict[str, Any]:
    description = meaning.of_parameter(name)
    found: dict[str, Any] = {"description": description} if description else {}
    if name in SIZES:
        return {**found, **_SIZE}
    return {**found, **(_number(RANGES[name]) if name in RANGES else {})}


def _number(wanted: Range) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "integer" if wanted.whole else "number"}
    found["exclusiveMinimum" if wanted.above else "minimum"] = wanted.low
    if math.isfinite(wanted.high):
        found["maximum"] = wanted.high
    return found


if __name__ == "__main__":
    print(json.dumps(build(), indent=1, ensure_ascii=False))
