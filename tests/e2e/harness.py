"""A real stack, brought up by runMe.sh from a copy of the configuration, on free ports, with a state folder of its own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openai
import psycopg2

REPOSITORY = Path(__file__).resolve().parents[2]
QUESTION = "What is the capital of France?"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Stack:
    """A stack of the tests' own.

    Attributes:
        root: its copy of vars.env, models/ and the template.
        env: the environment runMe.sh is called with.
    """

    root: Path
    port: int = field(default_factory=free_port)
    engine_port: int = field(default_factory=free_port)
    database_port: int = field(default_factory=free_port)
    env: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("vars.env", "litellm_config.template.yaml"):
            shutil.copy(REPOSITORY / name, self.root / name)
        shutil.copytree(REPOSITORY / "models", self.root / "models")
        self.env = {
            **os.environ,
            "STACK_ROOT": str(self.root),
            "STATE_DIR": str(self.root / "state"),
            "ENVS_DIR": os.environ.get("ENVS_DIR", str(REPOSITORY / ".state" / "envs")),
            "RUNTIME": "native",
            "MODEL": "smollm2-135m",
            "LITELLM_PORT": str(self.port),
            "ENGINE_PORT": str(self.engine_port),
            "POSTGRES_PORT": str(self.database_port),
            "ENGINE_LOG_REQUESTS": "true",
        }

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def run(self, *arguments: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        """`./runMe.sh ARGUMENTS` with more environment."""
        done = subprocess.run(
            [str(REPOSITORY / "runMe.sh"), *arguments],
            env={**self.env, **environment},
            capture_output=True,
            text=True,
            timeout=1800,
        )
        if check:
            assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def status(self) -> dict[str, Any]:
        return dict(json.loads(self.run("status", "--json", check=False).stdout))

    def pids(self) -> dict[str, int]:
        return {part["name"]: part["pid"] for part in self.status()["parts"]}

    def secret(self, name: str) -> str:
        return (self.root / "secrets" / name).read_text().strip()

    def log(self, part: str) -> str:
        return (self.root / "state" / "logs" / f"{part}.log").read_text(errors="replace")

    def call(self, path: str, body: Any = None, key: str = "sk-FAKE", base: str = "") -> tuple[int, Any]:
        """POST (or GET without a body); the status and the decoded answer. 0 if nothing answers."""
        request = urllib.request.Request(
            (base or self.url) + path,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                raw, status = answer.read(), answer.status
        except urllib.error.HTTPError as error:
            raw, status = error.read(), error.code
        except OSError:
            return 0, None
        with contextlib.suppress(ValueError):
            return status, json.loads(raw)
        return status, raw.decode(errors="replace")

    def openai(self, key: str = "sk-FAKE") -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=120)

    @contextlib.contextmanager
    def database(self) -> Iterator[Any]:
        """A cursor on LiteLLM's database."""
        connection = psycopg2.connect(
            host="127.0.0.1",
            port=self.database_port,
            user="llmproxy",
            password=self.secret("POSTGRES_PASSWORD"),
            dbname="litellm",
        )
        connection.autocommit = True
        try:
            yield connection.cursor()
        finally:
            connection.close()

    def wait_ready(self, seconds: float = 180) -> float:
        """Until all parts are ready; the seconds it took."""
        return wait_for(lambda: self.run("status", check=False).returncode == 0, seconds, "the stack to be ready")


def wait_for(check: Callable[[], Any], seconds: float, what: str) -> float:
    began = time.monotonic()
    while not check():
        assert time.monotonic() - began < seconds, f"waited {seconds} s for {what}"
        time.sleep(0.2)
    return time.monotonic() - began
