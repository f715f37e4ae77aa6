"""The docker runtime: the stack as containers, by Docker Compose."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from stack import diagnosis, engine, engine_phase, hub_cache
from stack.errors import ConfigError, DisturbedError, Problem, RunError
from stack.files import write_atomic
from stack.plan import Plan, digest
from stack.progress import download, follow, shown
from stack.progress.download import Rate
from stack.progress.images import Layers
from stack.progress.start import Start
from stack.progress.timings import Key
from stack.releases import Release, Releases
from stack.runtime import chat, compose, containers, engine_log, images, install, metrics, probe, secret_files, weights
from stack.runtime.containers import CONTAINERS
from stack.runtime.layout import REPOSITORY, Layout
from stack.runtime.report import Report
from stack.runtime.services import GRACE
from stack.runtime.watch import CHAT, Part
from stack.settings import METRICS_PORTS

# `up` gives up on a container that ended this often without having been ready. Docker goes on trying.
GIVE_UP_AFTER = 2
# From this version on Docker keeps direct traffic away from ports that are published on loopback.
ROUTED_UNTIL = 28
# Seconds that gateway and database, which load no model, may take.
QUICK_PARTS_TIMEOUT = 300


class Docker:
    """The verbs of the docker runtime."""

    name = "docker"

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.gpu = install.has_gpu()
        self._began = 0.0

    def answers(self) -> bool:
        """Whether a Docker engine with Compose answers."""
        return not self._missing()

    def require(self) -> None:
        """Raise ConfigError unless a Docker engine with Compose answers."""
        missing = self._missing()
        if missing:
            raise ConfigError(Problem("RUNTIME=docker", missing, "start it, or use RUNTIME=native"))

    def _missing(self) -> str:
        if not shutil.which("docker"):
            return "docker is not installed"
        silent = containers.why_no_engine()
        if silent:
            return f"no Docker engine answers: {silent}"
        why = containers.why_docker_does_not("compose", "version")
        return f"docker has no compose plugin that works: {why}" if why else ""

    def check(self, plan: Plan) -> None:
        """Everything that can be known to be wrong before anything starts.

        Raises:
            ConfigError: all of it.
        """
        problems = secret_files.check(self.layout.secrets, {}) + chat.check(plan.resolved, self.layout.secrets)
        for name in (*secret_files.GENERATED, *secret_files.USER_GIVEN):
            if os.environ.get(f"{name}_FILE"):
                cure = f"copy the file to secrets/{name}"
                problems.append(Problem(f"{name}_FILE", "containers see files in secrets/ only", cure))
            path = self.layout.secrets / name
            if path.is_symlink() and not path.resolve().is_relative_to(self.layout.secrets):
                cure = "put a copy of the file in its place"
                problems.append(
                    Problem(f"secrets/{name}", "is a link out of the folder, which containers cannot follow", cure)
                )
        if not all(path.stat().st_mode & 0o004 for path in (self.layout.scripts, self.layout.scripts / "gateway_hooks.py")):
            cure = f"chmod -R go+rX {self.layout.scripts}"
            problems.append(Problem("scripts/", "is readable by you alone, and containers run as other users", cure))
        problems += _of_another_clone()
        ours = {containers.Container.address(one, port)[1] for one, port in self._publishing()}
        wanted = [("LITELLM_PORT", plan.resolved["BIND_ADDRESS"]), ("ENGINE_PORT", "127.0.0.1")]
        wanted += [("CHAT_PORT", plan.resolved["CHAT_ADDRESS"])] if plan.resolved["CHAT"] else []
        if plan.resolved["METRICS"]:
            ours |= containers.metrics_ports()
            wanted += [(key, "127.0.0.1") for key in METRICS_PORTS]
        for key, host in wanted:
            port = plan.resolved[key]
            reason = "" if port in ours else probe.why_not_bind(host, port)
            if reason:
                cure = f"stop that program (ss -ltnp | grep :{port}), or choose another port: {key}=..."
                problems.append(Problem(f"{key}={port}", f"port {port} on {host} {reason}", cure))
        if problems:
            raise ConfigError(*problems)

    def _warn(self, report: Report) -> None:
        """Of what no check of ours can put right."""
        version = images.output(["docker", "version", "--format", "{{.Server.Version}}"])
        major = version.partition(".")[0]
        if major.isdigit() and int(major) < ROUTED_UNTIL:
            report.note(
                f"Docker {version} lets hosts of the same network reach published ports by the containers' own addresses; "
                f"Docker {ROUTED_UNTIL} does not. For this one: docs/docker-runtime.md, Older engines"
            )

    def _publishing(self) -> list[tuple[containers.Container, int]]:
        there = containers.inspect()
        ports = {"engine": 8000, "gateway": 4000, CHAT: 8080}
        return [(there[part], port) for part, port in ports.items() if part in there and there[part].running]

    def up(self, release: Release, environ: Mapping[str, str], report: Report) -> Plan:
        """Build the image, start what does not run, make anew what changed, wait until all of it is ready.

        Raises:
            ConfigError: the configuration is wrong; what ran goes on.
            RunError: a container did not become ready.
        """
        layout = self.layout
        with install.one_at_a_time(layout, report):
            plan = release.plan()
            self.check(plan)
            secret_files.prepare(layout.secrets, environ, report)
            hf_home = Path(os.path.expanduser(plan.resolved["HF_HOME"]))
            hf_home.mkdir(parents=True, exist_ok=True)
            as_started = images.to_start(release)
            env = compose.environment(environ, compose.variables(plan, plan, as_started, layout, None))
            self._image(release, env, report)
            folder = weights.locate(
                plan.served.fragment, layout, plan.resolved["WEIGHTS_SOURCE"], hf_home, images.converter(env), report
            )
            inside = release.plan(compose.WEIGHTS if folder else "", compose.INSIDE)
            env = compose.environment(environ, compose.variables(plan, inside, as_started, layout, folder))
            self._protect_what_runs(inside, env, report)
            if not containers.inspect():
                self._warn(report)
            Releases(layout.releases).activate(release)
            self._generate_if_engine_stays(inside)
            self._kill_if_loading(inside)
            log = follow.ContainerLog()
            start = self._watched(release, plan, inside, env, log, report)
            self._start(env, report)
            if not plan.resolved["CHAT"] and CHAT in containers.inspect():
                self._compose(env, *compose.CHAT_PROFILE, "rm", "--stop", "--force", "chat", report=report)
            if not plan.resolved["METRICS"] and containers.metrics():
                gone = metrics.services(self.gpu)
                self._compose(env, *compose.METRICS_PROFILE, "rm", "--stop", "--force", *gone, report=report)
        try:
            self._wait(plan, inside, start, log, report)
        finally:
            log.close()
        images.forget(Releases(layout.releases).all())
        return plan

    def _start(self, env: Mapping[str, str], report: Report) -> None:
        """Have Compose bring the containers to what is wanted, unless they run as it left them and nothing has changed."""
        stamp, wanted = self.layout.run / "compose.digest", self._fingerprint(env)
        there = containers.inspect()
        running = all(part in there and there[part].running for part in CONTAINERS)
        if running and stamp.exists() and stamp.read_text() == wanted:
            return
        stamp.unlink(missing_ok=True)
        report.phase("containers", "starting what is not there, making anew what changed")
        self._compose(env, "up", "-d", "--no-build", "--remove-orphans", report=report)
        write_atomic(stamp, wanted)
        report.finished("containers", "started")

    def _fingerprint(self, env: Mapping[str, str]) -> str:
        """Changes when Compose would have something to do: the files, what they read, the images behind the names."""
        resolved = images.output(compose.argv(self.layout.root, self.gpu, "config"), env)
        return digest(resolved + images.identity(*compose.images(env)))

    def _image(self, release: Release, env: Mapping[str, str], report: Report) -> None:
        """vllm-node's image: built, which takes a moment when nothing changed, or the one an earlier release used."""
        name = env.get("VLLM_NODE_IMAGE", "")
        if name and images.identity(name):
            return
        if name:
            report.note(f"the image {name} of that release is gone; it is built again")
        report.phase("image", f"building vllm-node from {env['VLLM_IMAGE' if self.gpu else 'VLLM_CPU_IMAGE']}")
        self._compose(env, "build", "vllm-node", report=report)
        report.finished("image", "vllm-node is built")

    def _protect_what_runs(self, inside: Plan, env: Mapping[str, str], report: Report) -> None:
        """Ask the real vLLM about a new command before the engine that runs is stopped for it.

        Raises:
            ConfigError: vLLM would refuse the command.
        """
        running = containers.inspect().get("engine")
        if running is None or not running.running or running.env.get("STACK_DIGEST") == inside.engine_digest:
            return
        report.phase("engine", "asking vLLM whether it accepts the new command; the running model goes on")
        problems = engine.ask([list(inside.engine_argv)], images.checker(env, self.gpu))[0]
        if problems:
            place = inside.served.fragment.document.place(("command",))
            raise ConfigError(*(Problem(place, f"command: {problem}") for problem in problems))

    def _kill_if_loading(self, inside: Plan | None) -> None:
        """A loading vLLM ignores SIGTERM and has no requests to finish: waiting for it to end would be for nothing.

        Args:
            inside: what will run; an engine that runs as this is left alone. None: nothing will run.
        """
        running = containers.inspect().get("engine")
        if running is None or not running.running:
            return
        if inside and running.env.get("STACK_DIGEST") == inside.engine_digest:
            return
        healthy = running.raw["State"].get("Health", {}).get("Status") == "healthy"
        if not healthy and not probe.engine(running.address(8000)[1], "").answers:
            subprocess.run(["docker", "kill", running.name], capture_output=True)

    def _generate_if_engine_stays(self, inside: Plan) -> None:
        """The engine's entry writes the generated files; if its container is not made anew, they are written now."""
        running = containers.inspect().get("engine")
        if running and running.running and running.env.get("STACK_DIGEST") == inside.engine_digest:
            done = subprocess.run(
                ["docker", "exec", running.name, "/app/scripts/entrypoint.sh", "generate"], capture_output=True, text=True
            )
            if done.returncode != 0:
                raise RunError(Problem("generated files", done.stderr.strip()[-500:], "look: ./runMe.sh logs engine"))

    def _watched(
        self,
        release: Release,
        plan: Plan,
        inside: Plan,
        env: Mapping[str, str],
        log: follow.ContainerLog,
        report: Report,
    ) -> Start:
        """What watches the start."""
        image = images.identity(compose.images(env)[0])
        key = Key(plan.served.name, inside.engine_digest, image, self.name)
        hub = hub_cache.folder(Path(os.path.expanduser(plan.resolved["HF_HOME"])), {})
        look = download.weights(inside.engine_argv[2], hub)
        return Start(report, self.layout.timings, key, log, release.folder / engine_phase.USUAL, look)

    def _wait(self, plan: Plan, inside: Plan, start: Start, log: follow.ContainerLog, report: Report) -> None:
        """Until every container runs as it was last specified, and is ready."""
        start.begin()
        started, self._began = time.monotonic(), time.time()
        deadline = started + plan.resolved["ENGINE_START_TIMEOUT"]
        quick = QUICK_PARTS_TIMEOUT + 2 * (plan.drain_seconds + 2 * GRACE)
        ready: set[str] = set()
        before = {part.name: part.restarts for part in self.parts()}
        while len(ready) < len(CONTAINERS):
            running = containers.inspect().get("engine")
            if running and running.running:
                log.follow(running.name, running.started)
            for part in containers.parts(self.layout.secrets, without={*ready, CHAT}):
                if part.state == "ready":
                    ready.add(part.name)
                    start.ready(part.name)
                    report.finished(part.name, f"ready after {time.monotonic() - started:.1f} s")
                    continue
                start.look(part)
                late = part.name != "engine" and time.monotonic() - started > quick
                if late or part.restarts >= before[part.name] + GIVE_UP_AFTER:
                    raise RunError(start.explained(part.name, self.failure(part, plan)))
            if running is None:
                raise DisturbedError(Problem("stack", "was stopped by another ./runMe.sh down"))
            if running.env.get("STACK_DIGEST") != inside.engine_digest:
                raise DisturbedError(
                    Problem("stack", "was changed by another ./runMe.sh meanwhile", "see ./runMe.sh status")
                )
            if time.monotonic() > deadline:
                missing = ", ".join(sorted(set(CONTAINERS) - ready))
                what = f"not ready after {plan.resolved['ENGINE_START_TIMEOUT']} s{start.still()}"
                raise RunError(Problem(missing, what, "raise ENGINE_START_TIMEOUT, or look: ./runMe.sh logs"))
            time.sleep(0.3)
        start.done()

    def start_chat(self, environ: Mapping[str, str], report: Report) -> None:
        """Start the chat page of what is served, whose image may have to be pulled first, and wait until it is there.

        Raises:
            RunError: it is not; the API is not concerned.
        """
        with install.one_at_a_time(self.layout, report):
            release = Releases(self.layout.releases).current()
            if release is None or not release.plan().resolved["CHAT"]:
                raise DisturbedError(Problem("stack", "was changed by another ./runMe.sh meanwhile"))
            plan = release.plan()
            env = compose.environment(environ, compose.variables(plan, plan, release, self.layout, None))
            self._compose(env, *compose.CHAT_PROFILE, "up", "-d", "--no-build", "chat", report=report)
        chat.wait(
            lambda: containers.parts(self.layout.secrets, without=CONTAINERS), lambda part: self.failure(part, plan), report
        )

    def start_metrics(self, environ: Mapping[str, str], report: Report) -> None:
        """Start Prometheus, Grafana and the exporters, whose images may have to be pulled first, and wait for them.

        Raises:
            RunError: they are not there; the API is not concerned.
        """
        with install.one_at_a_time(self.layout, report):
            release = Releases(self.layout.releases).current()
            if release is None or not release.plan().resolved["METRICS"]:
                raise DisturbedError(Problem("stack", "was changed by another ./runMe.sh meanwhile"))
            plan = release.plan()
            env = compose.environment(environ, compose.variables(plan, plan, release, self.layout, None))
            wanted = metrics.services(self.gpu)
            self._compose(env, *compose.METRICS_PROFILE, "up", "-d", "--no-build", *wanted, report=report)
        metrics.wait(lambda: containers.unready_metrics(wanted), report)
        report.note(f"metrics: {metrics.url(plan.resolved)}")

    def failure(self, part: Part, plan: Plan) -> Problem:
        """Why a part is not ready."""
        container = containers.inspect().get(part.name)
        log = container.log(lines=2000) if container else ""
        if part.name == "engine" and container:
            status, memory = containers.last_end(container.name, self._began)
            return diagnosis.diagnose(
                log,
                plan.served.fragment,
                oom_killed=memory,
                exit_code=status,
                has_token=bool(secret_files.read(self.layout.secrets, "HF_TOKEN")),
            )
        tail = "\n    ".join(engine_log.errors_of(log.splitlines()))
        ended = f"ended {part.restarts} times, last: " if part.restarts else "not ready: "
        return Problem(part.name, f"{ended}{part.detail}\n    {tail}", f"all of it: ./runMe.sh logs {part.name}")

    def images(self) -> dict[str, dict[str, str]]:
        """The images that run."""
        return images.running(containers.inspect())

    def down(self, report: Report) -> bool:
        """Stop and remove the containers; volumes stay."""
        if not containers.inspect():
            return False
        with install.one_at_a_time(self.layout, report):
            self._down(report)
        return True

    def _down(self, report: Report) -> None:
        report.phase("containers", "stopping; requests under way may finish")
        self._kill_if_loading(None)
        # The gateway first: it takes no more requests, and the engine finishes those it has.
        self._compose(compose.environment(os.environ, {}), "stop", "litellm", report=report)
        self._compose(compose.environment(os.environ, {}), *compose.PROFILES, "down", report=report)

    def parts(self) -> list[Part]:
        """The state of each container."""
        return containers.parts(self.layout.secrets)

    def watchers(self) -> dict[str, bool]:
        """Docker itself watches."""
        return {"docker": not containers.why_no_engine()}

    def anything_runs(self) -> bool:
        """Whether a container of the stack runs."""
        return any(container.running for container in containers.inspect().values())

    def running_model(self) -> str:
        """The name of the model that was last started, or empty."""
        container = containers.inspect().get("engine")
        return container.env.get("MODEL", "") if container else ""

    def addresses(self) -> dict[str, tuple[str, int]]:
        """Where engine and gateway are published: part -> address, port."""
        there = containers.inspect()
        ports = {"engine": 8000, "gateway": 4000}
        return {part: there[part].address(port) for part, port in ports.items() if part in there}

    def log_places(self) -> dict[str, str]:
        """The containers there are, by part; those of metrics by service."""
        there = {part: container.name for part, container in containers.inspect().items()}
        return there | {service: metrics.CONTAINERS[service] for service in containers.metrics()}

    def _compose(self, env: Mapping[str, str], *arguments: str, report: Report) -> None:
        """Run `docker compose`; its own progress becomes phases.

        Raises:
            RunError: with the last lines it printed.
        """
        argv = compose.argv(self.layout.root, self.gpu, "--progress", "plain", *arguments)
        log = self.layout.log("compose")
        log.parent.mkdir(parents=True, exist_ok=True)
        label = "image" if arguments[0] == "build" else "containers"
        layers, rate = Layers(), Rate()

        def watch(line: str) -> None:
            fetched = layers.feed(line)
            speed = rate.add(time.monotonic(), layers.got) if fetched else 0.0
            report.phase(label, f"fetching, {shown.transfer(layers.got, 0, speed)}" if fetched else line.strip()[:100])

        install.run_logged(argv, log, label, watch, dict(env), REPOSITORY)


def _of_another_clone() -> list[Problem]:
    """Containers have fixed names and data: one stack on an engine, which belongs to one folder."""
    label = "com.docker.compose.project.working_dir"
    folders = {str(container.raw["Config"].get("Labels", {}).get(label, "?")) for container in containers.inspect().values()}
    folders -= {str(REPOSITORY)}
    cure = "stop it there first: ./runMe.sh down, or docker compose down"
    return [Problem("docker", f"the stack of {folder} is on this engine", cure) for folder in sorted(folders)]
