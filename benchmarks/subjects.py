"""What is measured: nothing in between, two plain proxies, LiteLLM by its documentation, this stack's gateway."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import gateways
from benchmarks.processes import free_port, running
from stack.errors import Problem, RunError
from stack.runtime import install, probe
from stack.runtime.layout import Layout
from stack.runtime.report import Report


class LeftOutError(Exception):
    """A subject cannot be had on this machine; says why."""


@dataclass(frozen=True)
class Bench:
    """What subjects share.

    Attributes:
        folder: temporary; logs and state.
        upstream: the upstream's port.
        streams: requests at once that a gateway has to allow.
        layout: temporary state, and the repository's installed environments.
        report: receives progress.
    """

    folder: Path
    upstream: int
    streams: int
    layout: Layout
    report: Report

    @property
    def upstream_url(self) -> str:
        """Where the upstream listens."""
        return f"http://127.0.0.1:{self.upstream}"


@dataclass(frozen=True)
class Subject:
    """Something that answers requests.

    Attributes:
        base: address without a path.
        key: bearer token.
        version: of what is measured.
        all_routes: whether it treats the four routes differently.
        recorded: what was spent by the key: requests, prompt tokens, completion tokens. None: nothing is recorded.
    """

    base: str
    key: str = "none"
    version: str = ""
    all_routes: bool = False
    recorded: Callable[[], tuple[int, int, int]] | None = None


@contextlib.contextmanager
def direct(bench: Bench) -> Iterator[Subject]:
    """The upstream itself."""
    yield Subject(bench.upstream_url)


_NGINX = """daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr; {user}
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {folder}; proxy_temp_path {folder};
  fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};
  upstream engine {{ server 127.0.0.1:{upstream}; keepalive 256; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://engine; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
    }}
  }}
}}
"""


@contextlib.contextmanager
def nginx(bench: Bench) -> Iterator[Subject]:
    """Nginx as a plain streaming proxy with one worker."""
    program = _nginx_program(bench)
    folder = bench.folder / "nginx"
    folder.mkdir()
    port = free_port()
    config = folder / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    config.write_text(_NGINX.format(folder=folder, upstream=bench.upstream, port=port, user=user))
    version = subprocess.run([program, "-v"], capture_output=True, text=True).stderr.strip().rpartition("/")[2]
    argv = [program, "-e", "stderr", "-p", str(folder), "-c", str(config)]
    with running("nginx", argv, bench.folder / "nginx.log", lambda: probe.listens("127.0.0.1", port)):
        yield Subject(f"http://127.0.0.1:{port}", version=version)


def _nginx_program(bench: Bench) -> str:
    """An nginx that is installed, or Debian's unpacked beside the environments: nothing is installed system-wide."""
    found = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found:
        return found
    folder = bench.layout.environments / "nginx"
    program = folder / "usr" / "sbin" / "nginx"
    if not program.exists():
        bench.report.phase("nginx", "fetching Debian's package")
        part = folder.with_name("nginx.part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        try:
            subprocess.run(["apt-get", "download", "nginx"], cwd=part, check=True, capture_output=True)
            (package,) = part.glob("nginx_*.deb")
            subprocess.run(["dpkg-deb", "-x", package, part], check=True, capture_output=True)
        except (OSError, ValueError, subprocess.CalledProcessError):
            raise LeftOutError("it is not installed and apt-get cannot download it") from None
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
    if subprocess.run([program, "-v"], capture_output=True).returncode != 0:
        raise LeftOutError("Debian's package does not run here")
    return str(program)


@contextlib.contextmanager
def router(bench: Bench) -> Iterator[Subject]:
    """vllm-router, the vLLM project's own, with one worker behind it."""
    try:
        environment = install.ensure(bench.layout, "router", bench.report)
    except RunError as error:
        raise LeftOutError(f"it cannot be installed: {error.problems[0].what.splitlines()[0]}") from None
    port = free_port()
    argv = [str(environment / "bin" / "vllm-router"), "--host", "127.0.0.1", "--port", str(port)]
    argv += ["--worker-urls", bench.upstream_url, "--policy", "round_robin", "--log-level", "warning"]
    argv += ["--prometheus-port", str(free_port())]

    def ready() -> bool:
        return probe.get(f"http://127.0.0.1:{port}/v1/models")[0] == 200

    with running("router", argv, bench.folder / "router.log", ready):
        version = gateways.package_version(environment, "vllm_router")
        yield Subject(f"http://127.0.0.1:{port}", version=version)


@contextlib.contextmanager
def litellm(bench: Bench) -> Iterator[Subject]:
    """LiteLLM as its documentation sets it up."""
    with gateways.plain(bench.layout, bench.report, bench.upstream_url) as found:
        yield Subject(found.base, found.key, found.version, all_routes=True)


@contextlib.contextmanager
def stack(bench: Bench) -> Iterator[Subject]:
    """This stack's gateway."""
    with gateways.ours(bench.layout, bench.report, bench.upstream_url, bench.streams) as found:
        yield Subject(found.base, found.key, found.version, all_routes=True, recorded=found.recorded)


SUBJECTS: dict[str, Callable[[Bench], contextlib.AbstractContextManager[Subject]]] = {
    "direct": direct,
    "nginx": nginx,
    "router": router,
    "litellm": litellm,
    "stack": stack,
}


@contextlib.contextmanager
def upstream(folder: Path, tokens_per_chunk: int) -> Iterator[int]:
    """The upstream in a process of its own; its port."""
    port = free_port()
    program = Path(__file__).with_name("upstream.py")
    argv = [sys.executable, str(program), "--port", str(port), "--tokens-per-chunk", str(tokens_per_chunk)]
    with running("upstream", argv, folder / "upstream.log", lambda: probe.listens("127.0.0.1", port)):
        yield port


def check(names: list[str]) -> list[str]:
    """The subjects to measure, `direct` first as the others are compared with it.

    Raises:
        RunError: there is no such subject.
    """
    for name in names:
        if name not in SUBJECTS:
            raise RunError(Problem(f"--only {name}", "no such subject", f"there are: {', '.join(SUBJECTS)}"))
    return [name for name in SUBJECTS if name == "direct" or not names or name in names]
