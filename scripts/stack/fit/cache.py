"""How vLLM lays a model's KV cache out, and so how many bytes a sequence takes. Pure.

Written after what vLLM 0.32.0 does (vllm/v1/core/kv_cache_utils.py: get_kv_cache_groups and what it calls;
vllm/platforms/interface.py: _align_hybrid_block_size), and compared with it in tests/e2e/test_fit_layout.py. In short:
all layers take their blocks from one pool, whose blocks are of one size; layers of one kind form groups of equally many
layers, and a sequence needs blocks for each group. So a model with several kinds of layers can use more than its layers'
bytes added up: states are padded to the size of an attention block, and short groups to that of the others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil

from stack.fit.shape import FULL, LATENT, SLIDING, STATE, Layers, Shape

# Bytes an element takes; NVFP4 has a one-byte scale for 16 elements of half a byte.
ELEMENT = {"float16": Fraction(2), "bfloat16": Fraction(2), "nvfp4": Fraction(9, 16), "nvfp4_4over6": Fraction(9, 16)}


@dataclass(frozen=True)
class Asked:
    """What the command asks for, as far as it shapes the cache.

    Attributes:
        cache_dtype: --kv-cache-dtype.
        block: tokens of a block of attention: 16 on GPUs, 128 on CPUs, or --block-size.
        gpus: --tensor-parallel-size.
        speculative: tokens guessed ahead by --speculative-config.
        draft: whether the model's own speculative layers are used.
        in_flight: tokens that may be computed before older ones are given up by a sliding window.
        prefix_caching: states are kept at two places of a sequence then.
        hybrid: false with --disable-hybrid-kv-cache-manager: windows keep everything.
        state_dtype: bytes of --mamba-ssm-cache-dtype; 0: what the model says.
    """

    cache_dtype: str = "auto"
    block: int = 16
    gpus: int = 1
    speculative: int = 0
    draft: bool = False
    in_flight: int = 4096
    prefix_caching: bool = True
    hybrid: bool = True
    state_dtype: int = 0


@dataclass(frozen=True)
class Group:
    """Layers that take their blocks together.

    Attributes:
        kind: as in Layers.
        layers: how many.
        tokens: that a block holds; 0 for states.
        window: of a sliding window.
        states: blocks that a sequence's states take.
    """

    kind: str
    layers: int
    tokens: int = 0
    window: int = 0
    states: int = 0

    def blocks(self, length: int, in_flight: int) -> int:
        """Blocks that a sequence of `length` tokens may take at most."""
        if self.states:
            return self.states
        if self.window:
            return ceil(min(self.window - 1 + in_flight, length) / self.tokens) + 1
        return ceil(length / self.tokens)


@dataclass(frozen=True)
class Pool:
    """The cache on each GPU.

    Attributes:
        block: bytes of one of its blocks.
        groups: what a sequence needs blocks for.
        in_flight: as in Asked.
    """

    block: int
    groups: tuple[Group, ...]
    in_flight: int

    def blocks(self, length: int) -> int:
        """Blocks that a sequence of `length` tokens takes."""
        return sum(group.blocks(length, self.in_flight) for group in self.groups)

    def sequence(self, length: int) -> int:
        """Bytes that a sequence of `length` tokens takes."""
        return self.blocks(length) * self.block

    def concurrency(self, memory: int, length: int) -> float:
        """How many sequences of `length` tokens fit into `memory` bytes at once, as vLLM reports it."""
        return memory // self.block / self.blocks(length) if self.groups and memory > 0 else 0.0

    def longest(self, memory: int, most: int) -> int:
        """The longest sequence, up to `most` tokens, that fits into `memory` bytes; 0 if none does."""
        low, high = 0, most
        while low < high:
            middle = (low + high + 1) // 2
            # One block is kept empty for good.
            fits = self.sequence(middle) <= memory - self.block
            low, high = (middle, high) if fits else (low, middle - 1)
        return low

    def group_bytes(self, length: int) -> dict[str, int]:
        """Bytes of such a sequence by kind of layer."""
        found: dict[str, int] = {}
        for group in self.groups:
            found[group.kind] = found.get(group.kind, 0) + group.blocks(length, self.in_flight) * self.block
        return found


@dataclass(frozen=True)
class _Page:
    """A block of one layer: what it holds and its bytes."""

    kind: str
    count: int
    size: int
    tokens: int = 0
    window: int = 0


def element(cache_dtype: str, shape: Shape) -> Fraction:
    """Bytes of an element of the cache. `auto` is what the checkpoint says, else the model's own type."""
    name = shape.cache_dtype if cache_dtype == "auto" and shape.cache_dtype else cache_dtype
    return Fraction(shape.dtype) if name == "auto" else ELEMENT.get(name, Fraction(1))


def token_bytes(layer: Layers, shape: Shape, asked: Asked) -> int:
    """Bytes that one layer keeps for one token on one GPU."""
    return int(max(1, layer.heads // asked.gpus) * layer.size * element(asked.cache_dtype, shape))


def pool(shape: Shape, asked: Asked) -> Pool:
    """The cache's layout; without groups for a model that keeps none."""
    layers = [*shape.layers, *(shape.draft if asked.draft else ())]
    if not asked.hybrid and any(layer.kind == FULL for layer in layers):
        layers = [replace(layer, kind=FULL, window=0) if layer.kind == SLIDING else layer for layer in layers]
    pages = _merged(_pages(shape, asked, layers))
    if not pages:
        return Pool(0, (), asked.in_flight)
    if len({(page.kind, page.window) for page in pages}) == 1 and pages[0].kind != STATE:
        first, size = pages[0], sum(page.count * page.size for page in pages)
        count = sum(page.count for page in pages)
        return Pool(size, (Group(first.kind, count, first.tokens, first.window),), asked.in_flight)
    return _hybrid(pages, asked)


def _pages(shape: Shape, asked: Asked, layers: list[Layers]) -> list[_Page]:
    """What each layer would take by itself. A state's block must not exceed attention's, which grows to match."""
    states = [
        (replace(layer.state, dtype=asked.state_dtype or layer.state.dtype), layer.count) for layer in layers if layer.state
    ]
    largest = max((state.size(shape.dtype, asked.gpus, asked.speculative) for state, _ in states), default=0)
    attention = [layer for layer in layers if not layer.state]
    tokens = asked.block
    if largest and attention:
        step = max(asked.block, 128) if attention[0].kind == LATENT else asked.block
        tokens = step * ceil(largest / (step * token_bytes(attention[0], shape, asked)))
    pages = [
        _Page(layer.kind, layer.count, tokens * token_bytes(layer, shape, asked), tokens, layer.window)
        for layer in attention
    ]
    padded = max([largest, *(page.size for page in pages)]) if largest else 0
    return [*pages, *(_Page(STATE, count, padded) for _, count in states)]


def _merged(pages: list[_Page]) -> list[_Page]:
    """Layers that are alike, together: the speculative ones join the model's own."""
    found: dict[_Page, int] = {}
    for page in pages:
        alike = replace(page, count=0)
        found[alike] = found.get(alike, 0) + page.count
    return [replace(page, count=count) for page, count in found.items()]


def _hybrid(pages: list[_Page], asked: Asked) -> Pool:
    """Several kinds: blocks of one size, groups of equally many layers."""
    largest = max(page.size for page in pages)
    least, most = min(page.count for page in pages), max(page.count for page in pages)
    size = most if most < 1.5 * least else least
    groups = []
    for page in pages:
        # A smaller block holds more tokens if that comes out even, and is padded otherwise.
        tokens = page.tokens * largest // page.size if largest % page.size == 0 else page.tokens
        states = ((2 if asked.prefix_caching else 1) + asked.speculative) if page.kind == STATE else 0
        number = ceil(page.count / size)
        groups += [Group(page.kind, size, 0 if states else tokens, page.window, states)] * number
    return Pool(size * largest, tuple(groups), asked.in_flight)
