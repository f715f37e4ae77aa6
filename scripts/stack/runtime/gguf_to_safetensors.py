"""Turn a llama-layout GGUF file into a folder that vLLM serves.

Run in the engine's environment, which has `gguf`, `transformers` and `safetensors`:

    python gguf_to_safetensors.py FILE.gguf OUTPUT_FOLDER

vLLM reads safetensors and a `config.json`; transformers reads a GGUF's configuration and tokenizer but does not save
its weights. So the weights are dequantised here, tensor by tensor, and renamed.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

# GGUF's name of a block's tensor -> its name in transformers' llama layout.
BLOCK_TENSORS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
TOP_TENSORS = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}


def hf_name(gguf_name: str) -> str:
    """The name a GGUF tensor has in transformers' llama layout.

    Raises:
        ValueError: the tensor is not part of a llama-layout model.
    """
    if gguf_name in TOP_TENSORS:
        return TOP_TENSORS[gguf_name]
    parts = gguf_name.split(".")
    if len(parts) == 4 and parts[0] == "blk" and parts[2] in BLOCK_TENSORS:
        return f"model.layers.{parts[1]}.{BLOCK_TENSORS[parts[2]]}.{parts[3]}"
    raise ValueError(f"{gguf_name}: not a tensor of a llama-layout model")


def unpermute(weight: Any, heads: int) -> Any:
    """Undo the row order that GGUF gives to q and k for its interleaved rotary embedding.

    Args:
        weight: array of shape (heads * head_dim, hidden).
        heads: the number of heads those rows belong to.
    """
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def convert(gguf_file: Path, output: Path) -> None:
    """Write `config.json`, the tokenizer and `model.safetensors` (bfloat16) into `output`."""
    import torch
    from gguf import GGUFReader
    from gguf.quants import dequantize
    from safetensors.torch import save_file
    from transformers import AutoConfig, AutoTokenizer, GenerationConfig

    source, name = str(gguf_file.parent), gguf_file.name
    config = AutoConfig.from_pretrained(source, gguf_file=name)
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=name)

    tensors = {}
    for tensor in GGUFReader(str(gguf_file)).tensors:
        target = hf_name(tensor.name)
        weight = dequantize(tensor.data, tensor.tensor_type)
        if target.endswith("q_proj.weight"):
            weight = unpermute(weight, config.num_attention_heads)
        elif target.endswith("k_proj.weight"):
            weight = unpermute(weight, config.num_key_value_heads)
        tensors[target] = torch.from_numpy(weight.copy()).to(torch.bfloat16)

    config.architectures = ["LlamaForCausalLM"]
    config.tie_word_embeddings = "lm_head.weight" not in tensors
    config.dtype = "bfloat16"
    output.mkdir(parents=True, exist_ok=True)
    config.save_pretrained(output)
    tokenizer.save_pretrained(output)
    GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    ).save_pretrained(output)
    weights = output / "model.safetensors"
    save_file(tensors, str(weights), metadata={"format": "pt"})
    weights.chmod(0o644)  # whoever runs the engine reads it


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
