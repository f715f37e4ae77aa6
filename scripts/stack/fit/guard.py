"""What `up` asks before it starts anything: whether this model can fit this machine at all."""

from __future__ import annotations

from collections.abc import Mapping

from stack.errors import Problem
from stack.fit import answer, demand, facts, machine
from stack.fit.answer import Answer
from stack.fit.machine import Machine
from stack.plan import Plan


def here(made: Plan, environ: Mapping[str, str]) -> Machine:
    """This machine, as the plan uses it."""
    return machine.here(environ, made.resolved["ENGINE_BUILD"])


def judge(made: Plan, where: Machine, environ: Mapping[str, str]) -> Answer:
    """Whether a plan fits.

    Raises:
        facts.UnknownModelError: nothing is known of the model.
    """
    repository = made.served.fragment.argv()[2]
    known = facts.find(repository, facts.hub_folder(made.resolved["HF_HOME"], environ))
    return answer.judge(known, demand.read(list(made.engine_argv), made.engine_env, where), where)


def look(made: Plan, where: Machine, environ: Mapping[str, str]) -> tuple[list[Problem], list[str]]:
    """What stands against a start, and what should only be known. Nothing for a model or a machine that is not known.

    Without a GPU nothing is refused: what a CPU's memory holds depends on what else runs.
    """
    if not where.memory:
        return [], []
    try:
        found = judge(made, where, environ)
    except facts.UnknownModelError:
        return [], []
    name = made.served.name
    if found.fits:
        return [], []
    place = made.served.fragment.document.place(("command",))
    cure = f"change: {'; or '.join(found.changes)}. See it: ./runMe.sh fit {name}; start all the same: --set FIT_CHECK=false"
    if found.hopeless and not where.cpu:
        return [Problem(place, f"does not fit on {where.name}: {found.why}", cure)], []
    return [], [f"{name} may not fit {where.name}: {found.why}; ./runMe.sh fit {name} shows the parts"]


def problems(made: Plan, where: Machine) -> list[Problem]:
    """Why a start would be hopeless; empty if it is not, or if that is not known."""
    return look(made, where, {})[0] if made.resolved["FIT_CHECK"] else []
