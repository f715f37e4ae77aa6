"""Reads a repository's small files: from a folder, the hub's cache, or the hub. Weights are never fetched."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from stack import hub_cache
from stack.errors import ConfigError, Problem
from stack.runtime import secret_files

SECONDS = 15.0
MAX_BYTES = 32 << 20
# What is read, if it is there; config.json has to be.
TEMPLATE = "chat_template.jinja"
FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "sentence_bert_config.json",
    "modules.json",
    TEMPLATE,
)


@dataclass(frozen=True)
class Repository:
    """What is known of a repository.

    Attributes:
        name: as `vllm serve` takes it: ORGANISATION/MODEL, or a folder.
        source: where the files were read: `hub`, `cache`, `folder`, or empty if nothing could be.
        files: file name to what it says, JSON read.
        revision: the commit, if known.
        weights: size of the safetensors files in bytes, 0 if not known.
    """

    name: str
    source: str = ""
    files: Mapping[str, Any] = field(default_factory=dict)
    revision: str = ""
    weights: int = 0

    def get(self, name: str) -> Mapping[str, Any]:
        """A JSON file, empty if it is not there."""
        found = self.files.get(name)
        return found if isinstance(found, dict) else {}


def read(name: str, hf_home: Path, environ: Mapping[str, str], token: str) -> Repository:
    """Everything that can be known of a repository or folder without its weights.

    Args:
        name: ORGANISATION/MODEL, or a path to a folder, which then begins with / or a dot.
        hf_home: the Hugging Face cache's folder.
        environ: for HF_ENDPOINT and HF_HUB_OFFLINE.
        token: for gated repositories, or empty.

    Returns:
        What was found; with an empty source if the hub cannot be reached and the cache does not have it.

    Raises:
        ConfigError: there is no such folder or repository, or it may not be read.
    """
    if name.startswith(("/", ".", "~")):
        return _folder(Path(name).expanduser().resolve(), name)
    if name.count("/") != 1 or not all(part and part.strip("-._") for part in name.split("/")):
        cure = f"a folder is written ./{name}" if Path(name).is_dir() else "for example Qwen/Qwen3-8B; a folder: ./FOLDER"
        raise ConfigError(Problem("new", f"{name!r} is not ORGANISATION/MODEL", cure))
    if not hub_cache.forbidden(environ):
        found = _hub(name, (environ.get("HF_ENDPOINT") or hub_cache.ENDPOINT).rstrip("/"), token)
        if found:
            return found
    return _cache(name, hf_home) or Repository(name)


def _folder(folder: Path, given: str) -> Repository:
    if not (folder / "config.json").is_file():
        what = "has no config.json" if folder.is_dir() else "is not a folder"
        raise ConfigError(Problem(f"new {given}", what, "name a folder with a model's files, or ORGANISATION/MODEL"))
    return Repository(str(folder), "folder", _read_folder(folder), weights=_size(folder))


def _cache(name: str, hf_home: Path) -> Repository | None:
    """From the hub's cache the newest snapshot if main is not known."""
    snapshots = hub_cache.snapshots(name, hf_home / "hub")
    if not snapshots:
        return None
    repository = snapshots[0].parents[1]
    main = repository / "refs" / "main"
    named = repository / "snapshots" / (main.read_text("utf-8").strip() if main.is_file() else "-")
    folder = named if named in snapshots else max(snapshots, key=lambda path: path.stat().st_mtime)
    return Repository(name, "cache", _read_folder(folder), folder.name, _size(folder))


def _read_folder(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in FILES:
        path = folder / name
        if path.is_file():
            found[name] = _parse(name, path.read_bytes(), str(path))
    return found


def _parse(name: str, raw: bytes, place: str) -> Any:
    try:
        text = raw.decode("utf-8")
        return text if name == TEMPLATE else json.loads(text)
    except ValueError as error:
        raise ConfigError(Problem(place, f"cannot be read: {error}", "is the download complete?")) from None


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def _hub(name: str, endpoint: str, token: str) -> Repository | None:
    """From the hub; None if it cannot be reached."""
    info = _get(f"{endpoint}/api/models/{quote(name)}?blobs=true", name, token)
    if info is None:
        return None
    about = json.loads(info) if info else {}
    revision = str(about.get("sha") or "")
    listed = {str(one.get("rfilename")): int(one.get("size") or 0) for one in about.get("siblings", [])}
    files: dict[str, Any] = {}
    for file in FILES:
        if listed and file not in listed:
            continue
        raw = _get(f"{endpoint}/{quote(name)}/resolve/{revision or 'main'}/{file}", name, token, required=file == FILES[0])
        if raw:
            files[file] = _parse(file, raw, f"{name}/{file}")
    weights = sum(size for file, size in listed.items() if file.endswith(".safetensors") and "/" not in file)
    return Repository(name, "hub", files, revision, weights)


def _get(url: str, name: str, token: str, required: bool = True) -> bytes | None:
    """A file's content; empty if it is not there and need not be; None if nothing answers."""
    request = urllib.request.Request(url, headers={"User-Agent": "vllm-multi-model-server"})
    if token:
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            return bytes(answer.read(MAX_BYTES))
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            # The hub says 401 for a repository that is not there, too: it does not tell strangers which ones there are.
            cure = f"accept its licence at {_host(url)}/{name} and put your token into secrets/HF_TOKEN"
            what = "is gated, private or not there" if not token else "may not be read with the token in secrets/HF_TOKEN"
            raise ConfigError(Problem(f"new {name}", what, cure)) from None
        if error.code == 404 and not required:
            return b""
        if error.code == 404:
            raise ConfigError(Problem(f"new {name}", f"{_host(url)} has no such repository", "check the name")) from None
        return None
    except (OSError, HTTPException, ValueError):
        return None


def _host(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def token(secrets: Path, environ: Mapping[str, str]) -> str:
    """The hub's token, if there is one: HF_TOKEN, HF_TOKEN_FILE or secrets/HF_TOKEN."""
    if environ.get("HF_TOKEN"):
        return environ["HF_TOKEN"].strip()
    path = secret_files.place(secrets, "HF_TOKEN", environ)
    return path.read_text("utf-8").strip() if os.access(path, os.R_OK) and path.is_file() else ""
