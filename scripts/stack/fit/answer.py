"""Whether it fits, with the parts it is made of and the flag to change. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil
from typing import Any

from stack.fit import cache, cures
from stack.fit.demand import Demand
from stack.fit.facts import Facts
from stack.fit.machine import GIB, Machine
from stack.fit.parts import SYSTEM, Part, Sums, asked, free, gib, sums_of, weights_detail

# How far off the parts may be before `up` refuses (docs/fit.md has the errors that were found).
_WEIGHTS_SURE, _CACHE_SURE = 0.93, 0.95


@dataclass(frozen=True)
class Answer:
    """Whether a model fits a machine.

    Attributes:
        machine: what it is to fit.
        gpus: how many GPUs the command uses.
        parts: what takes memory on each of them.
        budget: bytes the engine may take on each.
        cache: bytes of the budget that are left for the KV cache.
        context: tokens asked for.
        needed: bytes that one sequence of that length takes.
        longest: tokens of the longest sequence that fits; 0: none.
        concurrency: sequences of `context` tokens that fit at once.
        wanted: sequences at once that the command allows (--max-num-seqs).
        fits: whether the engine is expected to start.
        hopeless: it cannot start, whatever the estimated parts are.
        why: what is wrong, if it does not fit.
        changes: what would make it fit, the best first.
        notes: what else should be known.
    """

    machine: Machine
    gpus: int
    parts: tuple[Part, ...]
    budget: int
    cache: int
    context: int
    needed: int
    longest: int
    concurrency: float
    wanted: int
    fits: bool
    hopeless: bool = False
    why: str = ""
    changes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def data(self) -> dict[str, Any]:
        """For programs; sizes in bytes."""
        return {
            "machine": self.machine.name,
            "fits": self.fits,
            "hopeless": self.hopeless,
            "gpus": {"needed": self.gpus, "there": self.machine.count, "memory": self.machine.memory},
            "parts": {part.name: part.size for part in self.parts},
            "budget": self.budget,
            "kv_cache": {"available": self.cache, "one_sequence": self.needed},
            "context": {"asked": self.context, "largest": self.longest},
            "concurrency": {"at_context": round(self.concurrency, 2), "max_num_seqs": self.wanted},
            "why": self.why,
            "changes": list(self.changes),
            "notes": list(self.notes),
        }


def judge(facts: Facts, demand: Demand, machine: Machine) -> Answer:
    """Whether a command's model fits a machine."""
    facts = facts.of_dtype(demand.dtype)
    sums = sums_of(facts, demand, machine)
    pool = cache.pool(facts.shape, asked(facts, demand, machine))
    context = demand.context if demand.context > 0 else facts.context
    left = free(sums)
    overhead = sum(part.size for part in sums.overhead)
    available = min(demand.cache_memory, left) if demand.cache_memory else left
    longest = pool.longest(available, max(context, facts.context)) if pool.groups else (facts.context or context)
    if demand.context < 0:  # as much as fits
        context = min(longest or facts.context, facts.context or longest)
    needed = pool.sequence(context) if pool.groups and context else 0
    concurrency = pool.concurrency(available, context) if pool.groups and context else float(demand.sequences)
    parts = [Part("weights", sums.weights, weights_detail(facts, demand)), *sums.overhead]
    for kind, size in pool.group_bytes(context).items() if pool.groups and context else ():
        parts.append(Part(f"KV cache: {kind}", size, f"one sequence of {context:,} tokens"))
    too_heavy = sums.weights + overhead >= sums.budget
    short = bool(pool.groups) and (available <= 0 or longest < context)
    why = _why(sums, available, needed, context, too_heavy, short)
    fits = not why
    answer = Answer(
        machine=machine,
        gpus=demand.gpus,
        parts=tuple(parts),
        budget=sums.budget,
        cache=max(0, available),
        context=context,
        needed=needed,
        longest=longest,
        concurrency=concurrency,
        wanted=demand.sequences,
        fits=fits,
        hopeless=not fits and _hopeless(sums, needed),
        why=why,
        changes=() if fits else tuple(cures.changes(sums, context, longest)),
    )
    return replace(answer, notes=tuple(_notes(answer, sums, overhead)))


def _why(sums: Sums, available: int, needed: int, context: int, too_heavy: bool, short: bool) -> str:
    demand, machine = sums.demand, sums.machine
    each = "" if demand.gpus == 1 else " on each GPU"
    if not machine.cpu and demand.gpus > machine.count:
        return f"the command uses {demand.gpus} GPUs, and there {'is' if machine.count == 1 else 'are'} {machine.count}"
    if sums.weights >= sums.budget:
        return f"the weights take {gib(sums.weights)}{each}, and the engine may have {gib(sums.budget)}"
    if too_heavy:
        rest = gib(sums.weights + sum(part.size for part in sums.overhead))
        return f"the weights and what the engine needs besides take about {rest}{each}, and it may have {gib(sums.budget)}"
    if sums.machine.cpu and demand.cache_memory > free(sums):
        return f"VLLM_CPU_KVCACHE_SPACE asks for {gib(demand.cache_memory)}, and about {gib(max(0, free(sums)))} are left"
    if short:
        left = gib(max(0, available))
        return f"one sequence of {context:,} tokens takes {gib(needed)} of KV cache{each}, and {left} are left"
    return ""


def _hopeless(sums: Sums, needed: int) -> bool:
    """Not even with nothing but weights and one sequence, and those a little smaller than calculated."""
    if not sums.machine.cpu and sums.demand.gpus > sums.machine.count:
        return False  # vLLM says so itself, and at once
    weights = sums.weights * _WEIGHTS_SURE
    space = sums.demand.cache_memory or (sums.budget - weights)
    return weights >= sums.budget or needed * _CACHE_SURE >= min(space, sums.budget - weights)


def _notes(answer: Answer, sums: Sums, overhead_size: int) -> list[str]:
    demand, machine, found = sums.demand, sums.machine, []
    if answer.fits and 1 <= answer.concurrency < demand.sequences and answer.needed:
        found.append(
            f"{answer.concurrency:.1f} requests of {answer.context:,} tokens fit at once; --max-num-seqs allows "
            f"{demand.sequences}: shorter ones share the same cache, longer ones wait"
        )
    if machine.shared and not machine.cpu and sums.budget > machine.memory - SYSTEM:
        safe = (machine.memory - SYSTEM) / machine.memory
        found.append(
            f"the system, the gateway and the database share this memory: leave them {gib(SYSTEM)} with "
            f"--gpu-memory-utilization {int(safe * 100) / 100:.2f} or less"
        )
    if sums.facts.context and answer.context > sums.facts.context:
        found.append(f"the model was made for {sums.facts.context:,} tokens; vLLM refuses --max-model-len {answer.context}")
    if demand.drafter:
        found.append(f"the weights and the cache of {demand.drafter} are not counted")
    if not machine.cpu:
        left = ceil(overhead_size / GIB)
        found.append(f"about {left} GiB of this are estimates, see docs/fit.md for how far they are off")
    return found
