"""What takes memory on a GPU, and how much of it an engine may have. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from stack.fit import cache
from stack.fit.demand import Demand
from stack.fit.facts import Facts
from stack.fit.machine import GIB, Machine
from stack.fit.shape import LATENT

MIB = 1 << 20
# What the system, the gateway and the database need where they share the engine's memory.
SYSTEM = 6 * GIB


@dataclass(frozen=True)
class Part:
    """One part of the memory of a GPU.

    Attributes:
        name: what it is.
        size: bytes.
        detail: where the figure comes from.
    """

    name: str
    size: int
    detail: str = ""


@dataclass
class Sums:
    """What a command takes of a machine.

    Attributes:
        facts, demand, machine: of which model, how, and where.
        weights: bytes on each GPU.
        overhead: what is neither weights nor cache.
        budget: bytes the engine may take on each GPU.
    """

    facts: Facts
    demand: Demand
    machine: Machine
    weights: int = 0
    overhead: list[Part] = field(default_factory=list)
    budget: int = 0


def asked(facts: Facts, demand: Demand, machine: Machine) -> cache.Asked:
    """What shapes the cache, of what the command asks for."""
    # Steps overlap on a GPU: the tokens of two are computed before a window's oldest are given up.
    steps = demand.pipeline if machine.cpu else demand.pipeline + 1
    return cache.Asked(
        cache_dtype=demand.cache_dtype,
        block=demand.block or (128 if machine.cpu and not _latent(facts) else 16),
        gpus=demand.tensor,
        speculative=demand.speculative,
        draft=demand.draft,
        in_flight=steps * demand.batched,
        prefix_caching=demand.prefix_caching and not demand.pooling,
        hybrid=demand.hybrid,
        state_dtype=demand.state_dtype,
    )


def _latent(facts: Facts) -> bool:
    return any(layer.kind == LATENT for layer in facts.shape.layers)


def sums_of(facts: Facts, demand: Demand, machine: Machine) -> Sums:
    """Add up what a command takes of a machine, but for the cache."""
    sums = Sums(facts, demand, machine)
    experts = facts.experts if demand.experts else 0
    share = demand.tensor * demand.pipeline
    sums.weights = (facts.weights - experts) // share + experts // (share * demand.data)
    sums.overhead = overhead(facts, demand, machine)
    if machine.cpu and demand.cache_memory:
        sums.budget = max(0, machine.memory - SYSTEM // 3)
    elif demand.cache_memory:
        sums.budget = machine.memory - (SYSTEM if machine.shared else 0)
    else:
        sums.budget = int(machine.memory * demand.utilization)
    return sums


def overhead(facts: Facts, demand: Demand, machine: Machine) -> list[Part]:
    """What is neither weights nor cache: an estimate, from figures that vLLM's users published (docs/fit.md)."""
    shape = facts.shape
    if machine.cpu:
        return [Part("the engine itself", int(1.5 * GIB), "estimate: Python, PyTorch, compiled code")]
    tokens, sequences = demand.batched, min(demand.sequences, demand.batched)
    hidden = shape.hidden or 4096
    # The largest layer of a step of --max-num-batched-tokens, and the scores of --max-num-seqs tokens as float32.
    activations = tokens * (12 * hidden * 2 + shape.expert_width * 3 * 2 // demand.tensor)
    logits = 3 * 4 * sequences * (shape.vocabulary or 150_000)
    parts = [
        Part("activations", activations + logits, f"estimate: {tokens:,} tokens a step, {sequences} sequences"),
        Part("libraries", int((0.5 if demand.gpus == 1 else 1.0) * GIB), "estimate: cuBLAS, NCCL, compiled kernels"),
    ]
    if not demand.eager:
        parts.append(Part("CUDA graphs", int(0.7 * GIB), "estimate; --enforce-eager does without"))
    return parts


def free(sums: Sums) -> int:
    """Bytes that are left for the cache; less than nothing if there is too little."""
    return sums.budget - sums.weights - sum(part.size for part in sums.overhead)


def weights_detail(facts: Facts, demand: Demand) -> str:
    """Where the weights' size is known from."""
    share = demand.tensor * demand.pipeline
    text = f"{facts.weights / GIB:.1f} GiB in all, {facts.origin}"
    return f"{text}, over {demand.gpus} GPUs" if share > 1 or (demand.experts and demand.data > 1) else text


def gib(size: float) -> str:
    """Bytes for people."""
    return f"{size / GIB:.1f} GiB" if size >= GIB // 10 else f"{size / MIB:.0f} MiB"
