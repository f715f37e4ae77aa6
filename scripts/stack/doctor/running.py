"""At the end: the configuration itself, and the stack that runs."""

from __future__ import annotations

from collections.abc import Iterable

from stack.doctor import dockerfacts
from stack.doctor.finding import Check, Finding, fault, none, ok, warning
from stack.doctor.knobs import knobs
from stack.doctor.probe import Probe


def configuration(probe: Probe) -> Iterable[Finding]:
    """What would keep `up` from starting: vars.env, models/, settings."""
    found = knobs(probe)
    if found.missing:
        what = f"was not examined: the Python package {found.missing} is not there"
        yield warning(what, "./runMe.sh config installs what the command line needs, and shows mistakes")
        return
    for problem in found.problems:
        yield fault(f"{problem.place}: {problem.what}", problem.cure or "correct it; every value: ./runMe.sh config")
    for note in found.notes:
        yield warning(note, "see ./runMe.sh config")
    if not found.problems and not found.notes:
        yield ok(f"MODEL={found['MODEL']} ({found.repository}), runtime {dockerfacts.runtime(probe)}")


def parts(probe: Probe) -> Iterable[Finding]:
    """The parts of a stack that runs; each that is not ready, with where it says why."""
    from stack.runtime.watch import CHAT, Part, Watch

    there: list[Part] = []
    runtime = "native"
    if dockerfacts.native_runs(probe):
        watch = Watch(probe.layout)
        there = watch.parts()
        for name, alive in watch.watchers().items():
            if not alive:
                yield fault(f"the {name} is gone: nothing restarts what fails", "./runMe.sh starts it again")
    elif dockerfacts.stack_runs(probe) or _stopped_containers(probe):
        from stack.runtime import containers

        runtime = "docker"
        there = containers.parts(probe.layout.secrets)
    if not there:
        yield none("nothing runs; start it: ./runMe.sh")
        return
    for part in there:
        why = f"look: ./runMe.sh logs {part.name}"
        what = f"{part.name} is {part.state}: {part.detail}" + (f", ended {part.restarts} times" if part.restarts else "")
        if part.state == "ready":
            yield ok(f"{part.name} is ready ({runtime})")
        elif part.state == "starting":
            yield warning(what, f"wait; {why}")
        elif part.name == CHAT:
            yield warning(f"{what}; the API is not concerned", why)
        else:
            yield fault(what, why)


def _stopped_containers(probe: Probe) -> bool:
    """Whether containers of this stack are there although none runs: they have ended, or keep ending."""
    ours = [
        one
        for one in dockerfacts.containers(probe)
        if dockerfacts.labels(one).get("com.docker.compose.project") == dockerfacts.PROJECT
    ]
    return any(one.get("State") in ("restarting", "exited", "dead") for one in ours if one.get("Names") != "litellm_setup")


CHECKS = (Check("running stack", parts), Check("configuration", configuration))
