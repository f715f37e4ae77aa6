"""A change of what is served, whole or not at all: a new release becomes ready, or the one before comes back."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from stack import command, hub_cache, releases
from stack.errors import ConfigError, DisturbedError, Problem, RunError
from stack.plan import Plan
from stack.releases import FAILED, GOOD, PENDING, Release, Releases
from stack.runtime.report import Report
from stack.runtime.watch import Part, all_ready


class Runtime(Protocol):
    """What both runtimes can do, as far as a change needs it."""

    name: str

    def up(self, release: Release, environ: Mapping[str, str], report: Report) -> Plan:
        """Serve a release; see Docker and Native."""

    def anything_runs(self) -> bool:
        """Whether there is something that a failure would take away."""

    def parts(self) -> list[Part]:
        """The state of each part."""

    def running_model(self) -> str:
        """The model that was last started."""

    def images(self) -> dict[str, dict[str, str]]:
        """What the release runs from."""


class RolledBackError(RunError):
    """A new release did not become ready; the one before is served again.

    Attributes:
        served: the one before.
    """

    def __init__(self, served: Release, *problems: Problem) -> None:
        super().__init__(*problems)
        self.served = served


def deploy(runtime: Runtime, known: Releases, release: Release, environ: Mapping[str, str], report: Report) -> Plan:
    """Bring a release up.

    Returns:
        The plan as it runs.

    Raises:
        ConfigError: it is wrong; nothing was changed.
        RunError: it did not become ready, and there was nothing to go back to, or ROLLBACK is off.
        RolledBackError: it did not become ready, and the one before is served again.
    """
    _settle(runtime, known)
    ran = known.ran() if runtime.anything_runs() else None
    started = time.monotonic()
    try:
        plan = runtime.up(release, environ, report)
    except ConfigError:
        known.discard(release)
        raise
    except DisturbedError:
        raise  # going back would undo what somebody has just asked for
    except RunError as error:
        _went_wrong(runtime, known, release, ran, environ, report, error)
        raise
    if release.state != GOOD:
        asked = command.option(list(plan.engine_argv), "--revision")[-1:] or [plan.served.fragment.revision or ""]
        revision = releases.served_revision(plan.served.fragment.argv()[2], hub(runtime, plan), asked[0])
        seconds = round(time.monotonic() - started, 1)
        known.mark(release, GOOD, seconds=seconds, images=runtime.images(), revision=revision)
    return plan


def _settle(runtime: Runtime, known: Releases) -> None:
    """A release whose `up` was interrupted, and which became ready after that, is a good one."""
    current = known.current()
    if current is None or current.state != PENDING or runtime.running_model() != current.model:
        return
    if all_ready(runtime.parts()):
        known.mark(current, GOOD, images=runtime.images())


def hub(runtime: Runtime, plan: Plan) -> Path:
    """The folder of the hub's cache; containers are given HF_HOME only."""
    home = Path(os.path.expanduser(plan.resolved["HF_HOME"]))
    return hub_cache.folder(home, os.environ if runtime.name == "native" else {})


def _went_wrong(
    runtime: Runtime,
    known: Releases,
    release: Release,
    ran: Release | None,
    environ: Mapping[str, str],
    report: Report,
    error: RunError,
) -> None:
    current = known.current()
    if current is None or current.number != release.number:
        known.discard(release)  # it never got as far as to replace anything
        return
    if release.state != GOOD:
        known.mark(release, FAILED, reason=str(error.problems[0]))
    if ran is None or ran.number == release.number or not release.plan().resolved["ROLLBACK"]:
        return
    for problem in error.problems:
        report.note(str(problem).removeprefix("error: "))
    report.note(
        f"release {release.number} ({release.model}) did not become ready; release {ran.number} ({ran.model}) comes back"
    )
    try:
        # From the image it ran from: the Dockerfile may be what went wrong.
        runtime.up(replace(ran, repeats=ran.number), environ, report)
    except (ConfigError, RunError) as second:
        cure = "look: ./runMe.sh status, ./runMe.sh logs"
        problem = Problem(f"release {ran.number}", "did not come back either", cure)
        raise RunError(*error.problems, problem, *second.problems) from None
    raise RolledBackError(ran, *error.problems)
