"""What a repository's files say of its model: context, sampling, tools, reasoning, kind. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from stack.new.hub import TEMPLATE, Repository

FAMILIES = Path(__file__).with_name("families.yml")
# Names of the context in config.json, as vLLM reads them (vllm/config/model.py: _get_and_verify_max_len).
_CONTEXT = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "model_max_length",
    "max_target_positions",
    "max_sequence_length",
    "max_seq_length",
    "seq_len",
)
_SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
# By the ends of their names: these networks give vectors or scores.
_POOLING = ("Model", "ForSequenceClassification", "ForTokenClassification", "ForRewardModel", "EmbeddingModel")


@dataclass(frozen=True)
class Traits:
    """What a fragment needs to know of a model.

    Attributes:
        family: `model_type` of config.json, or empty.
        architecture: the class vLLM looks up, or empty.
        context: in tokens, or 0 if not known.
        pooling: it embeds, classifies or scores instead of generating.
        tool_parser: for vLLM, or empty.
        reasoning_parser: for vLLM, or empty.
        own_template: vLLM's documentation asks for a chat template that is not the repository's.
        chat_template: yes, no, or None if that could not be seen.
        tools: whether the chat template takes tools; None if that could not be seen.
        sampling: what generation_config.json recommends.
        quantization: the method of the weights, or empty.
        own_code: the repository carries Python code of its own.
        sees: the model takes images.
    """

    family: str = ""
    architecture: str = ""
    context: int = 0
    pooling: bool = False
    tool_parser: str = ""
    reasoning_parser: str = ""
    own_template: bool = False
    chat_template: bool | None = None
    tools: bool | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)
    quantization: str = ""
    own_code: bool = False
    sees: bool = False


def of(repository: Repository) -> Traits:
    """Read a repository's files; without any, what its name alone tells."""
    config = repository.get("config.json")
    text = config.get("text_config")
    inner: Mapping[str, Any] = text if isinstance(text, dict) else {}
    family = str(config.get("model_type") or "")
    architecture = str(next(iter(config.get("architectures") or ()), ""))
    pooling = "modules.json" in repository.files or (bool(config) and architecture.endswith(_POOLING))
    template = _template(repository)
    seen = template is not None
    row = {} if pooling else _family(repository.name, family, str(inner.get("model_type") or ""))
    tools = "tool" in template if template else (False if seen else None)
    generation = repository.get("generation_config.json")
    return Traits(
        family=family,
        architecture=architecture,
        context=_context(repository, config, inner),
        pooling=pooling,
        tool_parser="" if tools is False else str(row.get("tool", "")),
        reasoning_parser=str(row.get("reasoning", "")),
        own_template=bool(row.get("template")) and tools is not False,
        chat_template=bool(template) if seen else None,
        tools=tools,
        sampling={} if pooling else {name: generation[name] for name in _SAMPLING if _number(generation.get(name))},
        quantization=_quantization(config, inner),
        own_code="auto_map" in config,
        sees="vision_config" in config,
    )


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _context(repository: Repository, config: Mapping[str, Any], inner: Mapping[str, Any]) -> int:
    own = repository.get("sentence_bert_config.json").get("max_seq_length")
    if isinstance(own, int):
        return own
    found = [one[name] for one in (inner, config) for name in _CONTEXT if isinstance(one.get(name), int)]
    return int(found[0]) if found else 0


def _quantization(config: Mapping[str, Any], inner: Mapping[str, Any]) -> str:
    given = config.get("quantization_config") or inner.get("quantization_config")
    if not isinstance(given, dict):
        return ""
    return str(given.get("quant_algo") or given.get("quant_method") or "")


def _template(repository: Repository) -> str | None:
    """The chat template, empty if the repository has none; None if it could not be seen."""
    alone = repository.files.get(TEMPLATE)
    if isinstance(alone, str):
        return alone
    if not repository.files:
        return None
    found = repository.get("tokenizer_config.json").get("chat_template")
    if isinstance(found, list):
        return "".join(str(one.get("template", "")) for one in found if isinstance(one, dict))
    return found if isinstance(found, str) else ""


@cache
def families() -> Sequence[Mapping[str, Any]]:
    """The rows of families.yml."""
    rows: list[Mapping[str, Any]] = yaml.safe_load(FAMILIES.read_text("utf-8"))
    return rows


def _family(repository: str, *types: str) -> Mapping[str, Any]:
    """The row for a model; without a type, the only one whose words are in the repository's name."""
    name = repository.lower()
    for row in families():
        if any(kind in row["type"] for kind in types if kind) and any(word in name for word in row.get("name", [""])):
            return row
    if not any(types):
        for row in families():
            words = row.get("name") or [kind.replace("_", "-") for kind in row["type"]]
            if any(word in name for word in words) and any(
                kind.split("_")[0].rstrip("0123456789") in name for kind in row["type"]
            ):
                return row
    return {}
