"""models/schema.json, which editors read: it is what the code says, and right fragments pass it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from stack import fragment_schema, sources
from stack.check.sampling import RANGES
from stack.fragment import Fragment

REPOSITORY = Path(__file__).resolve().parents[2]
FILE = REPOSITORY / "models" / "schema.json"


@pytest.fixture(scope="module")
def schema() -> Any:
    return json.loads(FILE.read_text())


def errors(schema: Any, text: str) -> list[str]:
    found = jsonschema.Draft7Validator(schema).iter_errors(yaml.safe_load(text))
    return [".".join(map(str, error.absolute_path)) or str(error.validator) for error in found]


def test_the_file_is_what_the_code_says(schema: Any) -> None:
    assert schema == fragment_schema.build(), "PYTHONPATH=scripts python -m stack.fragment_schema > models/schema.json"
    jsonschema.Draft7Validator.check_schema(schema)


@pytest.mark.parametrize("name", sources.model_names(REPOSITORY))
def test_each_fragment_names_the_schema_and_passes_it(schema: Any, name: str) -> None:
    text = (REPOSITORY / "models" / f"{name}.yml").read_text()
    assert text.splitlines()[0] == fragment_schema.COMMENT
    assert errors(schema, text) == []


def test_it_has_each_key_and_says_what_it_is(schema: Any) -> None:
    assert list(schema["properties"]) == list(Fragment.model_fields)
    assert all(one["description"] for one in schema["properties"].values())
    parameters = schema["properties"]["litellm"]["properties"]
    assert set(RANGES) & set(parameters) >= {"temperature", "top_p", "top_k", "min_p"}
    assert "api_base" not in parameters
    assert "VLLM_CPU_KVCACHE_SPACE" in schema["properties"]["env"]["properties"]


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("commnad: vllm serve m", "additionalProperties"),
        ("command: serve m", "command"),
        ("command: vllm serve m\nlitellm: {temprature: 1}", "litellm"),
        ("command: vllm serve m\nlitellm: {temperature: 3}", "litellm.temperature"),
        ("command: vllm serve m\nlitellm: {top_p: 0}", "litellm.top_p"),
        ("command: vllm serve m\nlitellm: {max_tokens: lots}", "litellm.max_tokens"),
        ("command: vllm serve m\nenv: {A: true}", "env.A"),
        ("command: vllm serve m\naliases: gpt-4o", "aliases"),
        ("command: vllm serve m\nweights: {pypi: a==1}", "weights"),
    ],
)
def test_it_marks(schema: Any, text: str, where: str) -> None:
    assert where in errors(schema, text)
