"""The native runtime: the stack as processes of this machine, under a supervisor of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stack import generate
from stack.errors import ConfigError, Problem, RunError
from stack.local_key import LOCAL_KEY
from stack.plan import Plan
from stack.runtime import (
    engine_log,
    gateway_environment,
    install,
    postgres,
    probe,
    secret_files,
    services,
    supervisor,
    weights,
)
from stack.runtime.layout import Layout
from stack.runtime.processes import Identity
from stack.runtime.report import Report
from stack.runtime.spec import read_services, write_services

# `up` gives up on a part that ended this often without having been ready. It is still tried again in the background.
GIVE_UP_AFTER = 2
# Seconds that gateway and database, which load no model, may take.
QUICK_PARTS_TIMEOUT = 180
PARTS = ("database", "engine", "gateway")


@dataclass(frozen=True)
class Part:
    """The state of one service, as `status` shows it."""

    name: str
    state: str  # ready, starting, restarting, stopped
    detail: str
    pid: int = 0
    seconds: float = 0.0
    restarts: int = 0


class Native:
    """The verbs of the native runtime."""

    name = "native"

    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    # --- up ---

    def check(self, plan: Plan) -> None:
        """Everything that can be known to be wrong before anything starts.

        Raises:
            ConfigError: all of it.
        """
        problems: list[Problem] = []
        try:
            install.check_platform()
        except ConfigError as error:
            problems.extend(error.problems)
        problems += secret_files.check(self.layout.secrets, os.environ)
        problems += self._taken_ports(plan)
        if problems:
            raise ConfigError(*problems)

    def up(self, plan: Plan, environ: Mapping[str, str], overrides: list[str], report: Report) -> Plan:
        """Install what is missing, start what does not run, restart what changed, wait until all of it is ready.

        Returns:
            The plan as it runs (with the place of local weights).

        Raises:
            RunError: a part did not become ready.
        """
        self.check(plan)
        layout = self.layout
        for folder in (layout.state, layout.run, layout.generated):
            folder.mkdir(parents=True, exist_ok=True)
        made = secret_files.ensure(layout.secrets)
        if made:
            report.note(f"made secrets/: {', '.join(made)}")
        for name in secret_files.only_in_environment(layout.secrets, environ):
            report.note(f"{name} is set in the environment only; services read secrets/{name}")
        environments, gateway_env = self._environments(plan, report)
        model_path = weights.locate(
            plan.served.fragment,
            layout,
            environments.engine,
            plan.resolved["WEIGHTS_SOURCE"],
            Path(plan.engine_env["HF_HOME"]),
            report,
        )
        if model_path:
            from stack.plan import make

            plan = make(layout.root, {**environ, "STACK_MODEL_PATH": str(model_path)}, overrides, plan.served.name)
        password = Path(os.environ.get("POSTGRES_PASSWORD_FILE") or layout.secrets / "POSTGRES_PASSWORD")
        postgres.initialise(environments.database, layout.postgres, password)
        wanted = services.build(plan, layout, environments, environ, overrides, model_path, gateway_env)
        self._generate_if_engine_stays(plan)
        write_services(layout.run / "services.json", wanted)
        running = self._supervisor()
        if running:
            running.send(signal.SIGHUP)
        else:
            scripts = str(layout.scripts)
            env = {**services.inherit(environ), "PYTHONPATH": scripts, "PYTHONUNBUFFERED": "1"}
            supervisor.start(layout.run, layout.log("supervisor"), env)
        self._wait(plan, {service.name: service.digest for service in wanted}, report)
        return plan

    def _environments(self, plan: Plan, report: Report) -> tuple[services.Environments, dict[str, str]]:
        build = plan.resolved["ENGINE_BUILD"]
        if build == "auto":
            build = "cuda" if install.has_gpu() else "cpu"
        layout = self.layout
        database = install.ensure(layout, "database", report)
        engine, proxy = install.in_parallel(
            lambda: install.ensure(layout, f"engine-{build}", report),
            lambda: gateway_environment.ensure(layout, database, report),
        )
        assert isinstance(engine, Path)
        assert isinstance(proxy, Path)
        return services.Environments(engine, proxy, database), gateway_environment.variables(proxy)

    def _generate_if_engine_stays(self, plan: Plan) -> None:
        """The engine's entry writes the generated files; if the engine is not started anew, they are written here."""
        digest = self.layout.generated / generate.DIGEST
        old = digest.read_text().split() if digest.exists() else []
        if old and old[0] == plan.engine_digest and old[1] != plan.gateway_digest:
            generate.write_models((plan.served.fragment,), self.layout.generated)
            generate.write_all(plan, self.layout.generated)

    def _taken_ports(self, plan: Plan) -> list[Problem]:
        """Ports that somebody else listens on. Our own running stack does not count."""
        resolved = plan.resolved
        ours = self._own_ports()
        problems = []
        for key, host in (
            ("LITELLM_PORT", resolved["BIND_ADDRESS"]),
            ("ENGINE_PORT", resolved["ENGINE_HOST"]),
            ("POSTGRES_PORT", "127.0.0.1"),
        ):
            port = resolved[key]
            if (host, port) not in ours and not probe.can_bind(host, port):
                what = f"port {port} on {host} is taken by another program"
                cure = f"stop that program (ss -ltnp | grep :{port}), or choose another port: {key}=..."
                problems.append(Problem(f"{key}={port}", what, cure))
        return problems

    def _own_ports(self) -> set[tuple[str, int]]:
        if not self._supervisor():
            return set()
        try:
            saved = json.loads((self.layout.run / "ports.json").read_text("utf-8"))
        except (OSError, ValueError):
            return set()
        return {(host, port) for host, port in saved}

    def _wait(self, plan: Plan, digests: Mapping[str, str], report: Report) -> None:
        """Until every service runs as it was last specified, and is ready."""
        resolved = plan.resolved
        ports = [
            (resolved["BIND_ADDRESS"], resolved["LITELLM_PORT"]),
            (resolved["ENGINE_HOST"], resolved["ENGINE_PORT"]),
            ("127.0.0.1", resolved["POSTGRES_PORT"]),
        ]
        (self.layout.run / "ports.json").write_text(json.dumps(ports))
        started = time.monotonic()
        deadline = started + resolved["ENGINE_START_TIMEOUT"]
        ready: set[str] = set()
        before = {part.name: part.restarts for part in self.parts(plan) if self._runs_as(part.name, digests)}
        while len(ready) < len(PARTS):
            for part in self.parts(plan, digests, without=ready):
                if part.state == "ready" and part.name not in ready:
                    ready.add(part.name)
                    report.finished(part.name, f"ready after {time.monotonic() - started:.1f} s")
                elif part.name not in ready:
                    report.phase(part.name, part.detail)
                if part.name not in ready and part.restarts >= before.get(part.name, 0) + GIVE_UP_AFTER:
                    raise RunError(self._failure(part))
                if part.name not in ready and part.name != "engine" and time.monotonic() - started > QUICK_PARTS_TIMEOUT:
                    raise RunError(self._failure(part))
            if self._supervisor() is None and time.monotonic() - started > 10:
                raise RunError(Problem("supervisor", "ended", f"its log: {self.layout.log('supervisor')}"))
            if time.monotonic() > deadline:
                missing = ", ".join(sorted(set(PARTS) - ready))
                what = f"not ready after {resolved['ENGINE_START_TIMEOUT']} s"
                raise RunError(Problem(missing, what, "raise ENGINE_START_TIMEOUT, or look: ./runMe.sh logs"))
            time.sleep(0.1)

    def _failure(self, part: Part) -> Problem:
        tail = "\n    ".join(engine_log.last_errors(self.layout.log(part.name)))
        ended = f"ended {part.restarts} times, last: " if part.restarts else "not ready: "
        what = f"{ended}{part.detail}\n    {tail}"
        return Problem(part.name, what, f"all of it: ./runMe.sh logs {part.name}; to stop trying: ./runMe.sh down")

    # --- the other verbs ---

    def down(self, report: Report) -> bool:
        """Stop everything; requests under way get their time to finish.

        Returns:
            Whether anything ran.
        """
        running, guard = self._supervisor(), Identity.read(self.layout.run / "guard.pid")
        if running is None and guard is None and not self._orphans():
            return False
        if running is None:
            # The supervisor was killed: start one that takes over, so that the services are stopped in order.
            supervisor.start(
                self.layout.run, self.layout.log("supervisor"), {**os.environ, "PYTHONPATH": str(self.layout.scripts)}
            )
            for _ in range(50):
                running = self._supervisor()
                if running:
                    break
                time.sleep(0.1)
        if running is None:
            raise RunError(Problem("supervisor", "cannot be started", f"its log: {self.layout.log('supervisor')}"))
        report.phase("stack", "stopping; requests under way may finish")
        running.send(signal.SIGTERM)
        running.wait(None)
        guard = Identity.read(self.layout.run / "guard.pid")
        if guard:
            guard.wait(10)
        return True

    def _runs_as(self, name: str, digests: Mapping[str, str]) -> bool:
        """Whether the supervisor has already got to the service as it was last specified."""
        return str(self._saved_status().get(name, {}).get("digest")) == digests[name]

    def parts(
        self, plan: Plan | None, digests: Mapping[str, str] | None = None, without: Collection[str] = ()
    ) -> list[Part]:
        """The state of each service.

        Args:
            plan: what was decided, if it is known.
            digests: the specifications that count; an older version that still runs is not ready.
            without: services to leave out.
        """
        saved = self._saved_status()
        parts = []
        for name in PARTS:
            if name in without:
                continue
            record = saved.get(name)
            if record is None:
                parts.append(Part(name, "stopped", "not started"))
                continue
            if digests and record["digest"] != digests[name]:
                parts.append(Part(name, "starting", "the earlier one is being stopped"))
                continue
            identity = Identity(record["pid"], record["start"]) if record["pid"] else None
            alive = identity is not None and identity.alive()
            seconds = max(time.time() - record["since"], 0) if alive else 0.0
            if not alive:
                state = "restarting" if self._supervisor() else "stopped"
                detail = record["last_exit"] or ("is being started" if state == "restarting" else "stopped")
                parts.append(Part(name, state, detail, restarts=record["restarts"]))
                continue
            health = self._health(name, plan)
            detail = health.detail if health.ready else self._phase(name) or health.detail
            parts.append(
                Part(name, "ready" if health.ready else "starting", detail, record["pid"], seconds, record["restarts"])
            )
        return parts

    def watchers(self) -> dict[str, bool]:
        """Whether supervisor and guard run."""
        return {
            "supervisor": self._supervisor() is not None,
            "guard": Identity.read(self.layout.run / "guard.pid") is not None,
        }

    def running_model(self) -> str:
        """The name of the model that was last started, or empty."""
        try:
            for service in read_services(self.layout.run / "services.json"):
                if service.name == "engine":
                    return service.env["MODEL"]
        except (OSError, ValueError, TypeError, KeyError):
            pass
        return ""

    def logs(self, part: str, lines: int, follow: bool) -> int:
        """Show what the parts print; `tail` knows how."""
        names = [part] if part else [*PARTS, "supervisor"]
        files = [str(self.layout.log(name)) for name in names if self.layout.log(name).exists()]
        if not files:
            print("no logs yet")
            return 1
        return subprocess.run(["tail", "-n", str(lines), *(["-F"] if follow else []), *files]).returncode

    def _supervisor(self) -> Identity | None:
        return Identity.read(self.layout.run / "supervisor.pid")

    def _orphans(self) -> bool:
        return any(
            record["pid"] and Identity(record["pid"], record["start"]).alive() for record in self._saved_status().values()
        )

    def _saved_status(self) -> dict[str, Any]:
        try:
            saved: dict[str, Any] = json.loads((self.layout.run / "status.json").read_text("utf-8"))["services"]
        except (OSError, ValueError, KeyError):
            return {}
        return saved

    def _health(self, name: str, plan: Plan | None) -> probe.Health:
        ports = {}
        try:
            hosts = json.loads((self.layout.run / "ports.json").read_text("utf-8"))
            ports = dict(zip(("gateway", "engine", "database"), hosts, strict=True))
        except (OSError, ValueError):
            return probe.Health(False, "unknown")
        host, port = ports[name]
        if name == "database":
            return probe.database(port)
        if name == "engine":
            return probe.engine(port, secret_files.read(self.layout.secrets, "VLLM_API_KEY"))
        local = plan is None or plan.resolved["LOCAL_KEY"]
        return probe.gateway(reachable(host), port, LOCAL_KEY if local else "")

    def _phase(self, name: str) -> str:
        """What a starting part is doing, from its log."""
        return engine_log.phase(self.layout.log(name)) if name == "engine" else ""


def reachable(bind_address: str) -> str:
    """An address under which something bound to `bind_address` answers on this machine."""
    if bind_address == "0.0.0.0":
        return "127.0.0.1"
    return "[::1]" if bind_address == "::" else f"[{bind_address}]" if ":" in bind_address else bind_address
