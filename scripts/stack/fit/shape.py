"""What of a model decides its memory: the layers by kind, their heads, their states."""

from __future__ import annotations

from dataclasses import dataclass

FULL, SLIDING, LATENT, STATE = "full attention", "sliding window", "latent attention (MLA)", "linear attention"


class UnknownShapeError(ValueError):
    """A config.json of a kind this calculation does not know; the message says which."""


@dataclass(frozen=True)
class State:
    """What a linear attention or Mamba layer keeps of a sequence, however long that is.

    Attributes:
        channels: of the convolution.
        kernel: its width; all but the last position are kept.
        recurrent: elements of the recurrent state.
        dtype: the recurrent state's element, in bytes; 0: the same as the convolution's.
        groups: Mamba2: `groups` of `group_channels` each have to be repeated if they do not divide among the GPUs.
        group_channels: channels that one of the groups adds to the convolution.
    """

    channels: int
    kernel: int
    recurrent: int
    dtype: int = 0
    groups: int = 0
    group_channels: int = 0

    def size(self, model_dtype: int, gpus: int = 1, speculative: int = 0) -> int:
        """Bytes on one of `gpus` GPUs, with `speculative` tokens guessed ahead."""
        extra = (gpus - self.groups) * self.group_channels if self.groups % gpus else 0
        convolution = (self.channels + extra) // gpus * (self.kernel - 1 + speculative) * model_dtype
        return convolution + self.recurrent // gpus * (self.dtype or model_dtype)


@dataclass(frozen=True)
class Layers:
    """Layers that keep the same thing for each token, or the same state for each sequence.

    Attributes:
        kind: FULL, SLIDING, LATENT or STATE.
        count: how many there are.
        heads: key-value heads; 1 for a latent, which every GPU keeps whole.
        size: elements for a token and a head: keys and values together, or the latent.
        window: tokens that a sliding window looks back.
        state: of a STATE layer.
    """

    kind: str
    count: int
    heads: int = 1
    size: int = 0
    window: int = 0
    state: State | None = None


@dataclass(frozen=True)
class Shape:
    """A model, as far as memory goes.

    Attributes:
        architecture: config.json's `architectures`, the first.
        context: the longest sequence it was made for, in tokens; 0: not said.
        layers: what keeps a cache; empty for an encoder.
        draft: the layers that `--speculative-config` with method mtp adds.
        dtype: bytes of an element of the model's own type.
        cache_dtype: what the checkpoint asks the KV cache to be, or empty.
        hidden: width of the hidden state.
        vocabulary: number of tokens it knows.
        expert_width: what a token's experts together compute, in elements: top-k times their width.
        queries: query heads, which a number of GPUs has to divide.
    """

    architecture: str
    context: int
    layers: tuple[Layers, ...]
    draft: tuple[Layers, ...] = ()
    dtype: int = 2
    cache_dtype: str = ""
    hidden: int = 0
    vocabulary: int = 0
    expert_width: int = 0
    queries: int = 0
