"""What the Hugging Face hub's cache holds, and whether the hub answers. Standard library only: the engine's entry asks too.

    python -m stack.hub_cache REPOSITORY HF_HOME

ends with 0 if the engine should not ask the hub: the cache has the repository, and the hub cannot be reached.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

ENDPOINT = "https://huggingface.co"
_TRUE = ("1", "true", "yes", "on")


def folder(hf_home: Path, environ: Mapping[str, str]) -> Path:
    """Where the cache is. `environ` is that of the engine: containers are given HF_HOME only, so theirs is empty."""
    return Path(environ.get("HF_HUB_CACHE") or hf_home / "hub")


def snapshots(repository: str, hub: Path) -> list[Path]:
    """The snapshots of `repository` that have a config.json (folder layout: huggingface_hub's documentation)."""
    return [path.parent for path in (hub / f"models--{repository.replace('/', '--')}").glob("snapshots/*/config.json")]


def forbidden(environ: Mapping[str, str]) -> bool:
    """Whether the caller wants the hub left alone."""
    return environ.get("HF_HUB_OFFLINE", "").lower() in _TRUE


def reachable(environ: Mapping[str, str], seconds: float = 3.0) -> bool:
    """Whether the hub, or the mirror that HF_ENDPOINT names, takes a connection; through a proxy it is taken to."""
    if forbidden(environ):
        return False
    if environ.get("https_proxy") or environ.get("HTTPS_PROXY"):
        return True
    found: list[bool] = []

    def connect() -> None:
        try:
            address = urlsplit(environ.get("HF_ENDPOINT") or ENDPOINT)
            port = address.port or (80 if address.scheme == "http" else 443)
            with socket.create_connection((address.hostname or "", port), timeout=seconds):
                found.append(True)
        except (OSError, ValueError):
            found.append(False)

    # A name may take much longer to be looked up than a connection may take to be made, and has no timeout.
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(seconds + 0.5)
    return found == [True]


def only_cache(repository: str, hf_home: Path, environ: Mapping[str, str]) -> bool:
    """Whether what the cache has is all that can be had."""
    hub = folder(hf_home, environ)
    found = snapshots(repository, hub)
    complete = any(any(one.glob(f"*{ending}")) for one in found for ending in (".safetensors", ".bin", ".gguf"))
    return complete and not reachable(environ)


if __name__ == "__main__":
    sys.exit(0 if only_cache(sys.argv[1], Path(sys.argv[2]), os.environ) else 1)
