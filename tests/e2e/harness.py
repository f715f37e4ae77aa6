"""A real stack, brought up by runMe.sh from a copy of the configuration, on free ports, with a state folder of its own.

Native and Docker stacks answer the same questions, so that the same tests are for both.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import psycopg2

REPOSITORY = Path(__file__).resolve().parents[2]
QUESTION = "What is the capital of France?"
# Seconds after which what has not happened is taken never to happen, on a slow machine too.
PATIENCE = 240
CONTAINERS = {"database": "litellm_db", "engine": "vllm-container", "gateway": "litellm"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Stack:
    """A stack of the tests' own, native.

    Attributes:
        root: its copy of vars.env, models/ and the template.
        env: the environment runMe.sh is called with.
    """

    runtime = "native"

    def __init__(self, root: Path) -> None:
        self.root = root
        self.changed = True
        self.port, self.engine_port, self.database_port = free_port(), free_port(), free_port()
        self.restore()
        self.env = {
            **os.environ,
            "STACK_ROOT": str(root),
            "STATE_DIR": str(root / "state"),
            "ENVS_DIR": os.environ.get("ENVS_DIR", str(REPOSITORY / ".state" / "envs")),
            "RUNTIME": self.runtime,
            "MODEL": "smollm2-135m",
            "LITELLM_PORT": str(self.port),
            "ENGINE_PORT": str(self.engine_port),
            "POSTGRES_PORT": str(self.database_port),
            "ENGINE_LOG_REQUESTS": "true",
            # So that streams which stand still while `status` looks at them end within it, on machines of any speed.
            "ENGINE_SHUTDOWN_TIMEOUT": "180",
            "ENGINE_START_TIMEOUT": "480",  # below pytest's: that would end the test without saying what was awaited
        }

    def is_as_shipped(self) -> bool:
        """Whether it is ready, and neither configured nor started otherwise since `changed` was last cleared."""
        shipped = [REPOSITORY / "vars.env", REPOSITORY / "litellm_config.template.yaml", *(REPOSITORY / "models").iterdir()]
        there = [self.root / path.relative_to(REPOSITORY) for path in shipped]
        same = all(
            mine.is_file() and mine.read_bytes() == path.read_bytes() for mine, path in zip(there, shipped, strict=True)
        )
        return same and not self.changed and self.answers()

    def answers(self) -> bool:
        """Whether all parts do. Asked of each directly: `status` takes more than a second, and this is before each test."""
        engine = f"http://127.0.0.1:{self.engine_port}"
        if (
            self.call("/v1/models", key=self.secret("VLLM_API_KEY"), base=engine)[0] != 200
            or self.call("/v1/models")[0] != 200
        ):
            return False
        with contextlib.suppress(psycopg2.Error), self.database() as cursor:
            cursor.execute("SELECT 1")
            return True
        return False

    def restore(self) -> None:
        """The configuration as shipped."""
        for name in ("vars.env", "litellm_config.template.yaml"):
            shutil.copy(REPOSITORY / name, self.root / name)
        shutil.copytree(REPOSITORY / "models", self.root / "models", dirs_exist_ok=True)

    def as_shipped(self) -> None:
        """Ready, serving smollm2-135m with the configuration as shipped, whatever the test before left."""
        if not self.is_as_shipped():
            self.restore()
            self.run()
            self.changed = False

    def close(self) -> None:
        """Give back what it took, once it is down."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def run(self, *arguments: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        """`./runMe.sh ARGUMENTS` with more environment."""
        self.changed |= arguments[:1] not in [
            (name,) for name in ("status", "config", "logs", "models", "releases", "bench", "usage", "backup")
        ]
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
        done = self.run("status", "--json", check=False)
        assert done.stdout, f"exit status {done.returncode}\n{done.stderr}"
        return dict(json.loads(done.stdout))

    def pids(self) -> dict[str, int]:
        return {part["name"]: part["pid"] for part in self.status()["parts"]}

    def secret(self, name: str) -> str:
        return (self.root / "secrets" / name).read_text().strip()

    def log(self, part: str) -> str:
        return (self.root / "state" / "logs" / f"{part}.log").read_text(errors="replace")

    def generated(self, name: str) -> str:
        """A file of generated_configs."""
        return (self.root / "state" / "generated_configs" / name).read_text()

    def written(self) -> dict[str, str]:
        """Everything the stack writes, apart from the database and secrets."""
        folders = [self.root / "state" / name for name in ("generated_configs", "run", "logs", "releases")]
        files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
        return {str(path): path.read_text(errors="replace") for path in files}

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

    def requests_inside(self) -> int:
        """Running and waiting requests, by the engine's own metrics."""
        _, text = self.call("/metrics", base=f"http://127.0.0.1:{self.engine_port}", key=self.secret("VLLM_API_KEY"))
        names = ("vllm:num_requests_running{", "vllm:num_requests_waiting{")
        return int(sum(float(line.rsplit(" ", 1)[1]) for line in str(text).splitlines() if line.startswith(names)))

    def openai(self, key: str = "sk-FAKE") -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=120)

    def database_address(self) -> tuple[str, int]:
        return "127.0.0.1", self.database_port

    @contextlib.contextmanager
    def database(self) -> Iterator[Any]:
        """A cursor on LiteLLM's database."""
        host, port = self.database_address()
        connection = psycopg2.connect(
            host=host, port=port, user="llmproxy", password=self.secret("POSTGRES_PASSWORD"), dbname="litellm"
        )
        connection.autocommit = True
        try:
            yield connection.cursor()
        finally:
            connection.close()

    def wait_ready(self) -> float:
        """Until all parts are ready; the seconds it took."""
        return wait_for(lambda: self.run("status", check=False).returncode == 0, "the stack to be ready")


class DockerStack(Stack):
    """The same as containers. Their names are fixed, so there is one at a time on an engine."""

    runtime = "docker"

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        # Of a user without rights, so that the engine runs as one.
        cache = root / "huggingface"
        cache.mkdir()
        if os.geteuid() == 0:
            os.chown(cache, 1000, 1000)
        self.env |= {"HF_HOME": str(cache)}
        # A disk of its own, small enough to be filled.
        self.state = root / "state"
        self.state.mkdir()
        if os.geteuid() == 0:
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(self.state)], check=True)

    def close(self) -> None:
        if self.state.is_mount():
            subprocess.run(["umount", "--lazy", str(self.state)], check=True)

    def log(self, part: str) -> str:
        return docker("logs", CONTAINERS[part])

    def generated(self, name: str) -> str:
        return docker("exec", CONTAINERS["engine"], "cat", f"/app/generated_configs/{name}")

    def written(self) -> dict[str, str]:
        found = {**super().written(), **{f"log of the {part}": self.log(part) for part in CONTAINERS}}
        for name in docker("exec", CONTAINERS["engine"], "ls", "/app/generated_configs").split():
            found[name] = self.generated(name)
        for container in CONTAINERS.values():
            found[f"inspect {container}"] = docker("inspect", container)
            found[f"history of {container}'s image"] = docker("history", "--no-trunc", inspect(container)["Image"])
        return found

    def database_address(self) -> tuple[str, int]:
        (network,) = inspect(CONTAINERS["database"])["NetworkSettings"]["Networks"].values()
        return str(network["IPAddress"]), 5432


def docker(*arguments: str, check: bool = True) -> str:
    """`docker ARGUMENTS`; what it prints."""
    done = subprocess.run(["docker", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300)
    text = done.stdout.decode("utf-8", "replace")
    assert done.returncode == 0 or not check, f"docker {' '.join(arguments)}: {text}"
    return text


def inspect(container: str) -> dict[str, Any]:
    return dict(json.loads(docker("inspect", container))[0])


def family(pid: int) -> dict[int, str]:
    """A process and its descendants, with their command lines."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found: dict[int, str] = {}
    waiting = [pid]
    while waiting:
        one = waiting.pop()
        with contextlib.suppress(OSError):
            found[one] = Path(f"/proc/{one}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            waiting += children.get(one, [])
    return found


def core_of(engine: int) -> int:
    """The process that computes, of an engine's. While it stands still, no answer goes on, and none ends."""
    return next(pid for pid, command in family(engine).items() if "EngineCore" in command)


@contextlib.contextmanager
def frozen(*pids: int) -> Iterator[None]:
    """Processes stand still meanwhile."""
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def wait_for(check: Callable[[], Any], what: str) -> float:
    """Until it is so; the seconds it took. How long that may take where it is a promise, tests say of the result."""
    began = time.monotonic()
    while not check():
        assert time.monotonic() - began < PATIENCE, f"waited {PATIENCE} s for {what}"
        time.sleep(0.2)
    return time.monotonic() - began
