"""What vLLM's log says of a start: which step runs, and how far it is. Pure; the names are stack.engine_phase's."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from stack import engine_phase

# How scripts/entrypoint.sh begins: whatever stood before belongs to an earlier start.
BEGIN = "starting: "
# Of a model on several GPUs each process tells the same; the first one's word counts: (Worker_DP0_TP1 pid=…).
_PROCESS = re.compile(r"^\(([\w-]+) pid=\d+\)")
_NUMBER = r"([\d.]+[kMGT]?)"
_WEIGHTS, _GRAPHS, _WARMING = "loading the model's weights", "capturing CUDA graphs", "warming up"
# (step, pattern of its progress bar, unit). vLLM 0.32: model_loader/weight_utils.py (_BAR_FORMAT, fastsafetensors has the
# same), worker/gpu_model_runner.py, model_executor/warmup.
_BARS = (
    (_WEIGHTS, re.compile(rf"shards: +(\d+)% Completed \| {_NUMBER}/{_NUMBER} "), "shards"),
    (_WEIGHTS, re.compile(rf"^Loading [^:]*: +(\d+)% Completed \| {_NUMBER}/{_NUMBER} "), "parts"),
    (_GRAPHS, re.compile(rf"^Capturing CUDA graphs[^:]*: +(\d+)%\|[^|]*\| {_NUMBER}/{_NUMBER} "), "graphs"),
    (_WARMING, re.compile(rf"^(?:DeepGEMM|JIT kernel) warmup[^:]*: +(\d+)%\|[^|]*\| {_NUMBER}/{_NUMBER} "), "kernels"),
)
# Steps whose bar is all of the step; CUDA graphs are captured in several rounds, each with a bar of its own.
_WHOLE = frozenset({_WEIGHTS})


@dataclass(frozen=True)
class Phase:
    """Where a loading engine stands.

    Attributes:
        name: as in stack.engine_phase; empty if the log says nothing yet.
        detail: how far it is, such as `3 of 8 shards`; empty if it does not say.
        done: the same as a fraction from 0 to 1, or None.
        whole: the fraction is of the whole step, so that what is left can be told from it.
    """

    name: str = ""
    detail: str = ""
    done: float | None = None
    whole: bool = False


def phase(lines: Iterable[str]) -> Phase:
    """Where the engine stands after these lines of its log; what precedes its last start does not count."""
    now = Phase()
    for line in lines:
        now = after(now, line)
    return now


def after(now: Phase, line: str) -> Phase:
    """Where the engine stands after one more line.

    Args:
        now: where it stood.
        line: what lies between two line breaks or carriage returns.
    """
    if line.startswith(BEGIN):
        return Phase(engine_phase.recognise(BEGIN))
    process = _PROCESS.match(line)
    if process and any(map(int, re.findall(r"\d+", process[1]))):
        return now
    for step, pattern, unit in _BARS:
        match = pattern.search(line) if "%" in line else None
        if match and step in (now.name, engine_phase.recognise(line)):
            percent, count, total = match.groups()
            return Phase(step, f"{count} of {total} {unit}", min(int(percent), 100) / 100, step in _WHOLE)
    name = engine_phase.recognise(line)
    return Phase(name) if name and name != now.name else now
