"""From a config.json to the shape that decides its memory. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from stack.fit.shape import FULL, LATENT, SLIDING, STATE, Layers, Shape, State, UnknownShapeError

_KINDS = {
    "full_attention": FULL,
    "attention": FULL,
    "sliding_attention": SLIDING,
    "linear_attention": STATE,
    "mamba": STATE,
}
_NO_CACHE = frozenset({"moe", "mlp"})
# Bytes of an element, by the names that config.json and vLLM have for its type.
DTYPES = {"float32": 4, "float": 4, "float16": 2, "half": 2, "bfloat16": 2}
# Architectures that read a text once and keep nothing of it.
_ENCODERS = ("BertModel", "RobertaModel", "XLMRobertaModel", "NomicBertModel", "ModernBertModel", "MPNetModel")


def read(config: Mapping[str, Any]) -> Shape:
    """The shape of a config.json; `layer_types` may also be a mapping of type to number.

    Raises:
        UnknownShapeError: a kind of model this calculation would get wrong.
    """
    text: Mapping[str, Any] = {**config, **_text(config)}
    architecture = str((config.get("architectures") or [""])[0])
    try:
        layers = _layers(text, architecture)
        hidden = int(text.get("hidden_size") or 0)
        width = int(text.get("num_experts_per_tok") or text.get("moe_top_k") or text.get("top_k_experts") or 0)
        width *= int(text.get("moe_intermediate_size") or text.get("intermediate_size") or 0)
        return Shape(
            architecture=architecture,
            context=int(text.get("max_position_embeddings") or 0),
            layers=layers,
            draft=_draft(text, layers),
            dtype=DTYPES.get(str(text.get("dtype") or text.get("torch_dtype") or "bfloat16"), 2),
            cache_dtype=_cache_dtype(config.get("quantization_config") or {}),
            hidden=hidden,
            vocabulary=int(text.get("vocab_size") or 0),
            expert_width=width,
            queries=int(text.get("num_attention_heads") or 0),
        )
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        if isinstance(error, UnknownShapeError):
            raise
        raise UnknownShapeError(f"its config.json lacks {error}") from None


def _text(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part that describes the language model, of a model that also sees or hears."""
    for key in ("text_config", "llm_config", "language_config"):
        if isinstance(config.get(key), Mapping):
            return {name: value for name, value in config[key].items() if name != "architectures"}
    return {}


def _layers(text: Mapping[str, Any], architecture: str) -> tuple[Layers, ...]:
    if architecture.startswith(_ENCODERS):
        return ()
    if text.get("index_topk"):
        raise UnknownShapeError("its sparse attention keeps an index beside the cache, which is not counted here")
    if text.get("compress_ratios"):
        raise UnknownShapeError("its compressed attention is not counted here")
    counts = _counts(text)
    made = []
    for kind, count in counts.items():
        if kind == STATE:
            made.append(Layers(STATE, count, state=_state(text)))
        elif text.get("kv_lora_rank"):
            size = int(text["kv_lora_rank"]) + int(text["qk_rope_head_dim"])
            made.append(Layers(LATENT, count, 1, size))
        else:
            made.append(_attention(text, kind, count))
    return tuple(layer for layer in made if layer.count)


def _counts(text: Mapping[str, Any]) -> dict[str, int]:
    """Layers by kind, in the order FULL, SLIDING, STATE."""
    number = int(text["num_hidden_layers"])
    pattern, types = text.get("hybrid_override_pattern"), text.get("layer_types") or text.get("layers_block_type")
    found: Counter[str] = Counter()
    if pattern:
        found = Counter({FULL: pattern.count("*"), STATE: pattern.count("M")})
    elif types:
        listed = Counter(types) if not isinstance(types, Mapping) else Counter(dict(types))
        if not isinstance(types, Mapping) and sum(listed.values()) > number:
            listed = Counter(types[:number])  # Step-3.5's list goes on with its speculative layers
        for name, count in listed.items():
            if name in _NO_CACHE:
                continue
            if name not in _KINDS:
                raise UnknownShapeError(f"layers of type {name} are not counted here")
            found[_KINDS[name]] += count
    elif text.get("full_attention_interval") and text.get("linear_num_value_heads"):
        found = Counter({FULL: number // int(text["full_attention_interval"])})
        found[STATE] = number - found[FULL]
    elif text.get("sliding_window_pattern") and text.get("sliding_window"):
        found = Counter({FULL: number // int(text["sliding_window_pattern"])})
        found[SLIDING] = number - found[FULL]
    elif text.get("sliding_window") and text.get("use_sliding_window") is not False:
        found = Counter({SLIDING: number})
    else:
        found = Counter({FULL: number})
    shared = int(text.get("num_kv_shared_layers") or 0)
    if shared and len(found) > 1:
        raise UnknownShapeError("layers of several kinds share caches, which is not counted here")
    if shared:
        found.subtract({next(iter(found)): shared})
    return {kind: found[kind] for kind in (FULL, SLIDING, STATE) if found[kind]}


def _attention(text: Mapping[str, Any], kind: str, count: int) -> Layers:
    queries = int(text["num_attention_heads"])
    heads = int(text.get("num_key_value_heads") or text.get("num_attention_groups") or queries)
    width = int(text.get("head_dim") or int(text["hidden_size"]) // queries)
    values = int(text.get("v_head_dim") or width)
    if kind == SLIDING:
        return Layers(SLIDING, count, heads, width + values, window=int(text["sliding_window"]))
    if text.get("global_head_dim"):  # Gemma 4: fewer, wider heads where the whole text is attended to
        width = values = int(text["global_head_dim"])
        if text.get("attention_k_eq_v"):
            heads = int(text.get("num_global_key_value_heads") or heads)
    return Layers(FULL, count, heads, width + values)


def _state(text: Mapping[str, Any]) -> State:
    if text.get("linear_num_value_heads"):  # Gated DeltaNet: Qwen3-Next, Qwen3.5 and later
        keys = int(text["linear_num_key_heads"]) * int(text["linear_key_head_dim"])
        values = int(text["linear_num_value_heads"]) * int(text["linear_value_head_dim"])
        dtype = DTYPES.get(str(text.get("mamba_ssm_dtype")), 0)
        recurrent = values * int(text["linear_key_head_dim"])
        return State(2 * keys + values, int(text["linear_conv_kernel_dim"]), recurrent, dtype)
    if text.get("mamba_num_heads"):  # Mamba2, as in Nemotron-H
        heads, states, groups = (int(text[key]) for key in ("mamba_num_heads", "ssm_state_size", "n_groups"))
        inner = heads * int(text["mamba_head_dim"])
        dtype = DTYPES.get(str(text.get("mamba_ssm_cache_dtype") or "float32"), 4)
        channels = inner + 2 * groups * states
        return State(channels, int(text["conv_kernel"]), inner * states, dtype, groups, 2 * states)
    raise UnknownShapeError("its kind of linear attention is not counted here")


def _draft(text: Mapping[str, Any], layers: tuple[Layers, ...]) -> tuple[Layers, ...]:
    """The speculative layers of the model's own: one attention layer each, of the model's own kind."""
    number = int(text.get("num_nextn_predict_layers") or text.get("mtp_num_hidden_layers") or 0)
    attention = [layer for layer in layers if layer.kind != STATE]
    if not number or not attention:
        return ()
    # Step-3.5's are of the sliding kind; the list of types says so behind the model's own layers.
    types, own = text.get("layer_types"), int(text["num_hidden_layers"])
    behind = types[own] if isinstance(types, list) and len(types) > own else text.get("draft_layer_type", "full_attention")
    wanted = [layer for layer in attention if layer.kind == _KINDS.get(behind)] or attention
    return (replace(wanted[0], count=number),)


def _cache_dtype(quantization: Mapping[str, Any]) -> str:
    """What a quantised checkpoint says of the KV cache, which vLLM follows when --kv-cache-dtype is auto."""
    scheme = quantization.get("kv_cache_scheme")
    algorithm = str(quantization.get("kv_cache_quant_algo") or "").lower()
    if isinstance(scheme, Mapping) and scheme.get("num_bits") == 8:
        return "fp8"
    return "fp8" if algorithm == "fp8" else "nvfp4" if algorithm == "nvfp4" else ""
