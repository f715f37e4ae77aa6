"""The machine that is examined, and a hub that answers as it is told."""

from __future__ import annotations

import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.unit.doctor.machines import FRAGMENT, Hub, Machine, free_port


@pytest.fixture
def machine(tmp_path: Path, root: Path) -> Machine:
    """A bare machine with a model, no Docker, no GPU, and a hub that refuses connections."""
    (root / "models" / "m.yml").write_text(FRAGMENT)
    for name in ("bin", "sys", "dev/shm", "home"):
        (tmp_path / name).mkdir(parents=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        closed = probe.getsockname()[1]
    environ = {
        "PATH": str(tmp_path / "bin"),
        "HOME": str(tmp_path / "home"),
        "HF_ENDPOINT": f"http://127.0.0.1:{closed}",
        "MODEL": "m",
        "LITELLM_PORT": str(free_port()),
        "ENGINE_PORT": str(free_port()),
        "POSTGRES_PORT": str(free_port()),
    }
    return Machine(tmp_path, root, environ)


@pytest.fixture
def hub(machine: Machine) -> Iterator[Hub]:
    """A hub that the machine reaches."""
    made = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.seen.append((self.command, self.path, self.headers.get("Authorization", "")))
            status, headers, body = made.answers.get(self.path.partition("?")[0], (200, {}, ""))
            self.send_response_only(status)
            for name, value in {"Content-Length": str(len(body)), "Date": self.date_time_string(), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body.encode())

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    made.url = machine.environ["HF_ENDPOINT"] = f"http://127.0.0.1:{server.server_port}"
    yield made
    server.shutdown()
    server.server_close()


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)
