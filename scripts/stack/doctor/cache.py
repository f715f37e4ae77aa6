"""What the Hugging Face cache holds of a model (its folder layout: huggingface_hub's documentation)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stack import hub_cache
from stack.doctor import dockerfacts
from stack.doctor.knobs import knobs
from stack.doctor.probe import Probe, read

_WEIGHTS = (".safetensors", ".bin", ".pt", ".gguf")
_POINTER = b"version https://git-lfs"


@dataclass(frozen=True)
class Cached:
    """A model in the cache.

    Attributes:
        there: whether a snapshot with a configuration is.
        lacks: the first file that is missing or is none; empty if the snapshot is whole.
        size: bytes of the weights that are there.
        unfinished: bytes of downloads that were not finished.
    """

    there: bool = False
    lacks: str = ""
    size: int = 0
    unfinished: int = 0

    @property
    def whole(self) -> bool:
        """Whether the model can be loaded without the hub."""
        return self.there and not self.lacks


def hub(probe: Probe) -> Path:
    """The folder of the hub's cache."""
    environ = probe.environ if dockerfacts.runtime(probe) == "native" else {}
    return probe.expand(str(hub_cache.folder(Path(str(knobs(probe)["HF_HOME"])), environ)))


def cached(probe: Probe) -> Cached:
    """What is there of the selected model; looked at once."""
    return probe.once("cache", lambda: _looked(probe))


def _looked(probe: Probe) -> Cached:
    try:
        return _look(probe)
    except OSError:  # a folder that this user may not enter: for the engine nothing is there either
        return Cached()


def _look(probe: Probe) -> Cached:
    wanted = knobs(probe)
    if not wanted.repository or wanted.local:
        return Cached()
    folder = hub(probe) / f"models--{wanted.repository.replace('/', '--')}"
    unfinished = sum(path.stat().st_size for path in folder.glob("blobs/*.incomplete"))
    commit = read(folder / "refs" / (wanted.revision or "main")) or wanted.revision
    named = folder / "snapshots" / commit
    snapshots = [named] if commit and named.is_dir() else sorted(folder.glob("snapshots/*/"))
    snapshots = [one for one in snapshots if (one / "config.json").exists()]
    if not snapshots:
        return Cached(unfinished=unfinished)
    snapshot = snapshots[-1]
    weights = [path for path in snapshot.rglob("*") if path.suffix in _WEIGHTS]
    size = sum(path.stat().st_size for path in weights if path.exists())
    return Cached(True, next(_lacking(snapshot, weights), ""), size, unfinished)


def _lacking(snapshot: Path, weights: list[Path]) -> Iterator[str]:
    """Files that are listed or linked and not there, and pointers in the place of weights."""
    for path in weights:
        if not path.exists():
            yield path.name
        elif path.stat().st_size < 1024 and path.read_bytes().startswith(_POINTER):
            yield f"{path.name} (a Git LFS pointer, not the file)"
    for index in snapshot.glob("*.index.json"):
        try:
            listed = set(json.loads(index.read_text("utf-8"))["weight_map"].values())
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            yield f"{index.name} (not readable)"
        else:
            yield from sorted(name for name in listed if not (snapshot / str(name)).exists())
    if not weights:
        yield "the weights"
