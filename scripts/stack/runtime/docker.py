"""The docker runtime: the stack as containers, by Docker Compose."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from typing import Any

from stack import gateway
from stack.errors import ConfigError, Problem, RunError
from stack.plan import Plan
from stack.runtime import install, secret_files
from stack.runtime.layout import REPOSITORY, Layout
from stack.runtime.report import Report
from stack.runtime.watch import Part

SERVICES = {"vllm-node": "engine", "litellm": "gateway", "db": "database"}


class Docker:
    """The verbs of the docker runtime."""

    name = "docker"

    def __init__(self, layout: Layout) -> None:
        self.layout = layout

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
        if not _succeeds(["docker", "info", "--format", "{{.ServerVersion}}"]):
            return "no Docker engine answers"
        return "" if _succeeds(["docker", "compose", "version"]) else "docker has no compose plugin"

    def up(self, plan: Plan, environ: Mapping[str, str], overrides: list[str], report: Report) -> Plan:
        """Bring the containers up and wait until all are healthy."""
        problems = secret_files.check(self.layout.secrets, os.environ)
        if problems:
            raise ConfigError(*problems)
        made = secret_files.ensure(self.layout.secrets)
        if made:
            report.note(f"made secrets/: {', '.join(made)}")
        resolved = plan.resolved
        variables = {
            **environ,
            **{
                key: str(value.value) for key, value in resolved.settings.items() if key not in ("ENGINE_HOST", "ENGINE_URL")
            },
            "MODEL": plan.served.name,
            "HF_HOME": os.path.expanduser(resolved["HF_HOME"]),
            "VLLM_IMAGE": plan.served.fragment.image or resolved["VLLM_IMAGE"],
            "MAX_PARALLEL_REQUESTS": str(gateway.key_limit(resolved)),
            "STACK_SET": "\n".join(overrides),
        }
        seconds = str(resolved["ENGINE_START_TIMEOUT"])
        report.phase("containers", "building and starting; ./runMe.sh logs -f shows the details")
        done = subprocess.run(
            self._compose("up", "-d", "--build", "--wait", "--wait-timeout", seconds), env=variables, cwd=REPOSITORY
        )
        if done.returncode != 0:
            raise RunError(Problem("docker compose up", f"exited with {done.returncode}", "look: ./runMe.sh logs"))
        report.finished("containers", "healthy")
        return plan

    def down(self, report: Report) -> bool:
        """Stop and remove the containers; volumes stay."""
        if not self.parts():
            return False
        report.phase("containers", "stopping; requests under way may finish")
        done = subprocess.run(self._compose("down"), cwd=REPOSITORY)
        if done.returncode != 0:
            raise RunError(Problem("docker compose down", f"exited with {done.returncode}"))
        return True

    def parts(self) -> list[Part]:
        """The state of each container."""
        done = subprocess.run(
            self._compose("ps", "--all", "--format", "json"), cwd=REPOSITORY, capture_output=True, text=True
        )
        parts = []
        for line in done.stdout.splitlines():
            entry: Any = json.loads(line)
            state = "ready" if entry.get("Health") == "healthy" else entry.get("Health") or entry.get("State", "")
            parts.append(Part(SERVICES.get(entry["Service"], entry["Service"]), state, entry.get("Status", "")))
        return parts

    def watchers(self) -> dict[str, bool]:
        """Docker itself watches."""
        return {"docker": self.answers()}

    def running_model(self) -> str:
        """The name of the model that was last started, or empty."""
        done = subprocess.run(
            self._compose("exec", "-T", "vllm-node", "printenv", "MODEL"), cwd=REPOSITORY, capture_output=True, text=True
        )
        return done.stdout.strip()

    def logs(self, part: str, lines: int, follow: bool) -> int:
        """Show what the containers print."""
        names = [service for service, name in SERVICES.items() if name == part]
        argv = self._compose("logs", "--tail", str(lines), *(["--follow"] if follow else []), *names)
        return subprocess.run(argv, cwd=REPOSITORY).returncode

    def _compose(self, *arguments: str) -> list[str]:
        files = ["-f", "docker-compose.yml"]
        if not install.has_gpu():
            files += ["-f", "docker-compose.cpu.yml"]
        return ["docker", "compose", "--env-file", "vars.env", *files, *arguments]


def _succeeds(argv: list[str]) -> bool:
    try:
        return subprocess.run(argv, capture_output=True, timeout=20).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
