"""The flags that would make a model fit. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from stack.fit import cache
from stack.fit.demand import Demand
from stack.fit.facts import Facts
from stack.fit.machine import GIB, Machine
from stack.fit.parts import SYSTEM, Sums, asked, free, sums_of


def changes(sums: Sums, context: int, longest: int) -> list[str]:
    """Flags to change, the least painful first."""
    demand, machine, facts = sums.demand, sums.machine, sums.facts
    if not machine.cpu and demand.gpus > machine.count:
        return [f"a machine with {demand.gpus} GPUs, or fewer by --tensor-parallel-size, --data-parallel-size"]
    found = []
    if not machine.cpu and not demand.cache_memory:
        ceiling = 0.95 if not machine.shared else (machine.memory - SYSTEM) / machine.memory
        higher = int(ceiling * 100) / 100
        if demand.utilization < higher and _longest(facts, demand, machine, utilization=higher) >= context:
            found.append(f"--gpu-memory-utilization {higher:.2f} (now {demand.utilization:g})")
    if longest >= 1024:
        found.append(f"--max-model-len {_round(longest)} (now {context})")
    if demand.cache_dtype == "auto" and not machine.cpu and not facts.shape.cache_dtype:
        reach = _longest(facts, demand, machine, cache_dtype="fp8")
        if reach >= context:
            found.append("--kv-cache-dtype fp8")
        elif reach > longest and reach >= 1024:
            found.append(f"--kv-cache-dtype fp8 --max-model-len {_round(reach)}")
    if not machine.cpu and demand.batched > 2048 and longest < context:
        reach = _longest(facts, demand, machine, batched=2048)
        if reach > longest and reach >= 1024:
            extra = f" --max-model-len {_round(reach)}" if reach < context else ""
            found.append(f"--max-num-batched-tokens 2048{extra}")
    if machine.cpu and demand.cache_memory:
        found.append("a smaller VLLM_CPU_KVCACHE_SPACE" if free(sums) > GIB else "a smaller model")
    more = _enough_gpus(facts, demand, machine)
    if more:
        found.append(f"--tensor-parallel-size {more} on {more} such GPUs")
    return found or ["a smaller or quantised copy of the model, or a larger GPU: ./runMe.sh fit NAME --gpu GPU"]


def _longest(facts: Facts, demand: Demand, machine: Machine, **changed: Any) -> int:
    other = replace(demand, **changed)
    pool = cache.pool(facts.shape, asked(facts, other, machine))
    most = demand.context if demand.context > 0 else facts.context
    return pool.longest(free(sums_of(facts, other, machine)), most) if pool.groups else most


def _enough_gpus(facts: Facts, demand: Demand, machine: Machine) -> int:
    """The smallest number of such GPUs among which the weights can be divided so that the context fits, or 0."""
    if machine.cpu or machine.shared or demand.data > 1 or demand.pipeline > 1:
        return 0
    for number in (2, 4, 8):
        if number > demand.tensor and facts.shape.queries % number == 0:
            most = demand.context if demand.context > 0 else facts.context
            if _longest(facts, demand, machine, tensor=number) >= most:
                return number
    return 0


def _round(tokens: int) -> int:
    return tokens // 1024 * 1024
