"""Names and row order on the way from GGUF to safetensors."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from stack.runtime.gguf_to_safetensors import hf_name, unpermute


@pytest.mark.parametrize(
    ("gguf", "hf"),
    [
        ("token_embd.weight", "model.embed_tokens.weight"),
        ("output_norm.weight", "model.norm.weight"),
        ("output.weight", "lm_head.weight"),
        ("blk.0.attn_q.weight", "model.layers.0.self_attn.q_proj.weight"),
        ("blk.0.attn_k.weight", "model.layers.0.self_attn.k_proj.weight"),
        ("blk.11.attn_v.bias", "model.layers.11.self_attn.v_proj.bias"),
        ("blk.2.attn_output.weight", "model.layers.2.self_attn.o_proj.weight"),
        ("blk.2.attn_norm.weight", "model.layers.2.input_layernorm.weight"),
        ("blk.2.ffn_norm.weight", "model.layers.2.post_attention_layernorm.weight"),
        ("blk.2.ffn_gate.weight", "model.layers.2.mlp.gate_proj.weight"),
        ("blk.2.ffn_up.weight", "model.layers.2.mlp.up_proj.weight"),
        ("blk.2.ffn_down.weight", "model.layers.2.mlp.down_proj.weight"),
    ],
)
def test_name(gguf: str, hf: str) -> None:
    assert hf_name(gguf) == hf


@pytest.mark.parametrize("gguf", ["blk.0.ssm_conv.weight", "blk.attn_q.weight", "rope_freqs.weight", "blk.0.attn_q", ""])
def test_unknown_tensor_is_refused(gguf: str) -> None:
    with pytest.raises(ValueError, match="not a tensor of a llama-layout model"):
        hf_name(gguf)


@dataclass
class Rows:
    """The little of an array that `unpermute` uses: rows by multi-index, each row a whole."""

    rows: list[int]
    shape: tuple[int, ...]

    def reshape(self, *shape: int) -> Rows:
        """The same rows under other indices."""
        return Rows(self.rows, shape)

    def swapaxes(self, first: int, second: int) -> Rows:
        """Axes 1 and 2 of four, exchanged."""
        assert (first, second, len(self.shape)) == (1, 2, 4)
        heads, left, right, columns = self.shape
        moved = [
            self.rows[(head * left + i) * right + j] for head in range(heads) for j in range(right) for i in range(left)
        ]
        return Rows(moved, (heads, right, left, columns))


def _permuted(rows: list[int], heads: int) -> list[int]:
    """What llama.cpp's converter does to q and k: the two halves of each head's rows are interleaved."""
    size = len(rows) // heads
    each = [rows[head * size : (head + 1) * size] for head in range(heads)]
    return [row for head in each for pair in zip(head[: size // 2], head[size // 2 :], strict=True) for row in pair]


@pytest.mark.parametrize(("heads", "size"), [(1, 2), (1, 4), (3, 4), (2, 8), (9, 6)])
def test_unpermute_undoes_the_converter(heads: int, size: int) -> None:
    rows = list(range(heads * size))
    undone = unpermute(Rows(_permuted(rows, heads), (len(rows), 5)), heads)
    assert (undone.rows, undone.shape) == (rows, (len(rows), 5))


def test_unpermute_by_hand() -> None:
    assert unpermute(Rows([0, 2, 1, 3, 4, 6, 5, 7], (8, 1)), 2).rows == [0, 1, 2, 3, 4, 5, 6, 7]
