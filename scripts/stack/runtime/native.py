"""The native runtime: the stack as processes of this machine, under a supervisor of its own."""

from __future__ import annotations

import ipaddress
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path

from stack import diagnosis, engine, engine_phase, generate, hub_cache
from stack.errors import ConfigError, DisturbedError, Problem, RunError
from stack.plan import Plan
from stack.progress import download, follow
from stack.progress.start import Start
from stack.progress.timings import Key
from stack.releases import Release, Releases
from stack.runtime import (
    chat,
    engine_log,
    gateway_environment,
    install,
    metrics,
    postgres,
    probe,
    secret_files,
    services,
    supervisor,
    weights,
)
from stack.runtime.layout import Layout
from stack.runtime.report import Report
from stack.runtime.spec import Service, write_services
from stack.runtime.watch import CHAT, ENGINE, PARTS, Part, Watch

# `up` gives up on a part that ended this often without having been ready. It is still tried again in the background.
GIVE_UP_AFTER = 2
# Seconds that gateway and database, which load no model, may take.
QUICK_PARTS_TIMEOUT = 180


class Native:
    """The verbs of the native runtime."""

    name = "native"

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.watch = Watch(layout)

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
        host = plan.resolved.settings["ENGINE_HOST"]
        if not ipaddress.ip_address(host.value).is_loopback:
            what = f"ENGINE_HOST={host.value} would open the engine's unguarded routes to other machines"
            problems.append(Problem(host.origin, what, "leave it out: clients use the gateway, BIND_ADDRESS"))
        problems += secret_files.check(self.layout.secrets, os.environ)
        problems += chat.check(plan.resolved, self.layout.secrets)
        problems += self._taken_ports(plan)
        if problems:
            raise ConfigError(*problems)

    def up(self, release: Release, environ: Mapping[str, str], report: Report) -> Plan:
        """Install what is missing, start what does not run, restart what changed, wait until all of it is ready.

        Returns:
            The plan as it runs (with the place of local weights).

        Raises:
            ConfigError: the configuration is wrong; what ran goes on.
            RunError: a part did not become ready.
        """
        self.check(release.plan())
        for folder in (self.layout.state, self.layout.run, self.layout.generated):
            folder.mkdir(parents=True, exist_ok=True)
        with install.one_at_a_time(self.layout, report):
            plan, wanted, start = self._change(release, environ, report)
        self._wait(plan, {service.name: service.digest for service in wanted}, start, report)
        return plan

    def _change(self, release: Release, environ: Mapping[str, str], report: Report) -> tuple[Plan, list[Service], Start]:
        layout = self.layout
        plan = release.plan()
        self.check(plan)
        secret_files.prepare(layout.secrets, environ, report)
        environments, gateway_env = self._environments(plan, report)
        hf_home = Path(plan.engine_env["HF_HOME"])

        def convert(source: Path, target: Path) -> list[str]:
            return [str(environments.engine / "bin" / "python"), str(weights.CONVERTER), str(source), str(target)]

        model_path = weights.locate(plan.served.fragment, layout, plan.resolved["WEIGHTS_SOURCE"], hf_home, convert, report)
        if model_path:
            plan = release.plan(str(model_path))
        password = secret_files.place(layout.secrets, "POSTGRES_PASSWORD", os.environ)
        postgres.initialise(environments.database, layout.postgres, password)
        wanted = services.build(plan, layout, environments, environ, model_path, gateway_env)
        wanted += self._chat_that_runs(plan, environ)
        self._protect_what_runs(plan, wanted, environments.engine, report)
        Releases(layout.releases).activate(release)
        self._generate_if_engine_stays(plan)
        start = self._watched(release, plan, wanted, environ, report)
        write_services(layout.run / "services.json", wanted)
        running = self.watch.supervisor()
        if running:
            running.send(signal.SIGHUP)
        else:
            self._start_supervisor(environ)
        return plan, wanted, start

    def _watched(
        self, release: Release, plan: Plan, wanted: list[Service], environ: Mapping[str, str], report: Report
    ) -> Start:
        """What watches the start."""
        (service,) = [one for one in wanted if one.name == ENGINE]
        environment = Path(service.env["PATH"].partition(":")[0]).parent.name
        key = Key(plan.served.name, plan.engine_digest, environment, self.name)
        path = self.layout.log(ENGINE)
        under_way = self.watch.supervisor() is not None and self.watch.runs_as(ENGINE, {ENGINE: service.digest})
        log = follow.FileLog(path, None if under_way else follow.length(path))
        hub = hub_cache.folder(Path(plan.engine_env["HF_HOME"]), environ)
        look = download.weights(plan.engine_argv[2], hub)
        return Start(report, self.layout.timings, key, log, release.folder / engine_phase.USUAL, look)

    def _start_supervisor(self, environ: Mapping[str, str]) -> None:
        self.layout.local_key.unlink(missing_ok=True)
        env = {**services.inherit(environ), "PYTHONPATH": str(self.layout.scripts), "PYTHONUNBUFFERED": "1"}
        supervisor.start(self.layout.run, self.layout.log("supervisor"), env)

    def _environments(self, plan: Plan, report: Report) -> tuple[services.Environments, dict[str, str]]:
        build = plan.resolved["ENGINE_BUILD"]
        if build == "auto":
            build = "cuda" if install.has_gpu() else "cpu"
        layout = self.layout
        database = install.ensure(layout, "database", report)
        engine_folder, proxy = install.in_parallel(
            lambda: install.ensure(layout, f"engine-{build}", report),
            lambda: gateway_environment.ensure(layout, database, report),
        )
        assert isinstance(engine_folder, Path)
        assert isinstance(proxy, Path)
        return services.Environments(engine_folder, proxy, database), gateway_environment.variables(proxy)

    def _generate_if_engine_stays(self, plan: Plan) -> None:
        """The engine's entry writes the generated files; if the engine is not started anew, they are written here."""
        digest = self.layout.generated / generate.DIGEST
        old = digest.read_text().split() if digest.exists() else []
        if len(old) == 2 and old[0] == plan.engine_digest and old[1] != plan.gateway_digest:
            generate.write_models((plan.served.fragment,), self.layout.generated)
            generate.write_all(plan, self.layout.generated)

    def _protect_what_runs(self, plan: Plan, wanted: list[Service], environment: Path, report: Report) -> None:
        """Ask the real vLLM about a new command before the engine that runs is stopped for it.

        Raises:
            ConfigError: vLLM would refuse the command.
        """
        (service,) = [one for one in wanted if one.name == "engine"]
        running = next((part for part in self.watch.parts() if part.name == "engine" and part.state == "ready"), None)
        if running is None or self.watch.runs_as("engine", {"engine": service.digest}):
            return
        report.phase("engine", "asking vLLM whether it accepts the new command; the running model goes on")
        problems = engine.problems(list(plan.engine_argv), environment / "bin" / "python")
        if problems:
            place = plan.served.fragment.document.place(("command",))
            raise ConfigError(*(Problem(place, f"command: {problem}") for problem in problems))

    def _taken_ports(self, plan: Plan) -> list[Problem]:
        """Ports that somebody else listens on. Our own running stack does not count."""
        resolved = plan.resolved
        ours = self.watch.own_ports()
        problems = []
        for key, host in (
            ("LITELLM_PORT", resolved["BIND_ADDRESS"]),
            ("ENGINE_PORT", resolved["ENGINE_HOST"]),
            ("POSTGRES_PORT", "127.0.0.1"),
            *((("CHAT_PORT", resolved["CHAT_ADDRESS"]),) if resolved["CHAT"] else ()),
        ):
            port = resolved[key]
            reason = "" if port in ours else probe.why_not_bind(host, port)
            if reason:
                cure = f"stop that program (ss -ltnp | grep :{port}), or choose another port: {key}=..."
                if "taken" not in reason:
                    cure = "choose another address or port"
                problems.append(Problem(f"{key}={port}", f"port {port} on {host} {reason}", cure))
        return problems

    def _wait(self, plan: Plan, digests: Mapping[str, str], start: Start, report: Report) -> None:
        """Until every service runs as it was last specified, and is ready."""
        start.begin()
        started = time.monotonic()
        deadline = started + plan.resolved["ENGINE_START_TIMEOUT"]
        # What is changed drains first, gateway and engine one after the other.
        quick = QUICK_PARTS_TIMEOUT + 2 * (plan.drain_seconds + services.GRACE)
        ready: set[str] = set()
        before = {part.name: part.restarts for part in self.watch.parts() if self.watch.runs_as(part.name, digests)}
        while len(ready) < len(PARTS):
            for part in self.watch.parts(digests, without={*ready, CHAT}):
                if part.state == "ready":
                    ready.add(part.name)
                    start.ready(part.name)
                    report.finished(part.name, f"ready after {time.monotonic() - started:.1f} s")
                    continue
                start.look(part)
                late = part.name != "engine" and time.monotonic() - started > quick
                if late or part.restarts >= before.get(part.name, 0) + GIVE_UP_AFTER:
                    raise RunError(start.explained(part.name, self.failure(part, plan)))
            self._check_undisturbed(digests)
            if self.watch.supervisor() is None and time.monotonic() - started > 10:
                raise RunError(Problem("supervisor", "ended", f"its log: {self.layout.log('supervisor')}"))
            if time.monotonic() > deadline:
                missing = ", ".join(sorted(set(PARTS) - ready))
                what = f"not ready after {plan.resolved['ENGINE_START_TIMEOUT']} s{start.still()}"
                raise RunError(Problem(missing, what, "raise ENGINE_START_TIMEOUT, or look: ./runMe.sh logs"))
            time.sleep(0.1)
        start.done()

    def _check_undisturbed(self, digests: Mapping[str, str]) -> None:
        """Raise RunError if another ./runMe.sh has stopped or changed what this one waits for."""
        if (self.layout.run / supervisor.STOPPED).exists():
            raise DisturbedError(Problem("stack", "was stopped by another ./runMe.sh down"))
        current = {service.name: service.digest for service in self.watch.services().values()}
        if any(current.get(name) != digests[name] for name in PARTS):
            raise DisturbedError(Problem("stack", "was changed by another ./runMe.sh meanwhile", "see ./runMe.sh status"))

    def _chat_that_runs(self, plan: Plan, environ: Mapping[str, str]) -> list[Service]:
        """The chat page, if it runs and is still asked for; else it is started when the API is ready."""
        environment = install.installed(self.layout, CHAT)
        if not plan.resolved["CHAT"] or environment is None or self.watch.supervisor() is None:
            return []
        return [chat.service(plan, self.layout, environment, environ)] if CHAT in self.watch.services() else []

    def start_chat(self, environ: Mapping[str, str], report: Report) -> None:
        """Install and start the chat page of what is served, and wait until it is there.

        Raises:
            RunError: it is not; the API is not concerned.
        """
        environment = install.ensure(self.layout, CHAT, report)
        with install.one_at_a_time(self.layout, report):
            release, running = Releases(self.layout.releases).current(), self.watch.supervisor()
            if release is None or running is None:
                raise DisturbedError(Problem("stack", "was stopped by another ./runMe.sh down"))
            plan = release.plan()
            if not plan.resolved["CHAT"]:
                raise DisturbedError(Problem("stack", "was changed by another ./runMe.sh meanwhile"))
            service = chat.service(plan, self.layout, environment, environ)
            others = [one for one in self.watch.services().values() if one.name != CHAT]
            write_services(self.layout.run / "services.json", [*others, service])
            running.send(signal.SIGHUP)

        def look() -> list[Part]:
            stopped = (self.layout.run / supervisor.STOPPED).exists()
            return [] if stopped else self.watch.parts({CHAT: service.digest}, without=PARTS)

        chat.wait(look, lambda part: self.failure(part, plan), report)

    def start_metrics(self, environ: Mapping[str, str], report: Report) -> None:
        """Write the configuration for a Prometheus; the gateway offers its metrics already."""
        release = Releases(self.layout.releases).current()
        if release is None:
            raise DisturbedError(Problem("stack", "was stopped by another ./runMe.sh down"))
        path = metrics.write_config(release.plan(), self.layout)
        report.note(f"metrics: natively for a Prometheus of yours, prometheus --config.file {path} (docs/metrics.md)")

    def failure(self, part: Part, plan: Plan) -> Problem:
        """Why a part is not ready."""
        if part.name == "engine":
            token = bool(secret_files.read(self.layout.secrets, "HF_TOKEN"))
            return diagnosis.diagnose(engine_log.text(self.layout.log("engine")), plan.served.fragment, has_token=token)
        tail = "\n    ".join(engine_log.last_errors(self.layout.log(part.name)))
        ended = f"ended {part.restarts} times, last: " if part.restarts else "not ready: "
        what = f"{ended}{part.detail}\n    {tail}"
        return Problem(part.name, what, f"all of it: ./runMe.sh logs {part.name}; to stop trying: ./runMe.sh down")

    def down(self, report: Report) -> bool:
        """Stop everything; requests under way get their time to finish.

        Returns:
            Whether anything ran.
        """
        if not self.watch.anything_runs():
            return False
        with install.one_at_a_time(self.layout, report):
            if self.watch.supervisor() is None:
                # It was killed: another one takes over what runs, so that the services are stopped in order.
                self._start_supervisor(os.environ)
                for _ in range(50):
                    if self.watch.supervisor():
                        break
                    time.sleep(0.1)
            running = self.watch.supervisor()
            if running is None:
                raise RunError(Problem("supervisor", "cannot be started", f"its log: {self.layout.log('supervisor')}"))
            report.phase("stack", "stopping; requests under way may finish")
            running.send(signal.SIGTERM)
            running.wait(None)
            guard = self.watch.guard()
            if guard:
                guard.wait(10)
        return True

    def images(self) -> dict[str, dict[str, str]]:
        """No containers, no images."""
        return {}

    def anything_runs(self) -> bool:
        """Whether a watcher or a service runs."""
        return self.watch.anything_runs()

    def parts(self) -> list[Part]:
        """The state of each service."""
        return self.watch.parts()

    def watchers(self) -> dict[str, bool]:
        """Whether supervisor and guard run."""
        return self.watch.watchers()

    def running_model(self) -> str:
        """The name of the model that was last started, or empty."""
        return self.watch.running_model()

    def addresses(self) -> dict[str, tuple[str, int]]:
        """Where engine and gateway listen: part -> address, port."""
        services = self.watch.services()
        return {name: (services[name].host, services[name].port) for name in ("engine", "gateway") if name in services}

    def log_places(self) -> dict[str, Path]:
        """The log files there are, by part."""
        names = (*PARTS, *([CHAT] if CHAT in self.watch.services() else []), "supervisor")
        return {name: self.layout.log(name) for name in names if self.layout.log(name).exists()}
