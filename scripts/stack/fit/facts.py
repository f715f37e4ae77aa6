"""What is known of a model without downloading it: recorded in facts.yml, or read from files that are already there."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from stack import hub_cache
from stack.fit import config
from stack.fit.shape import Shape, UnknownShapeError

RECORDED = Path(__file__).with_name("facts.yml")
GIB = 1 << 30


@dataclass(frozen=True)
class Facts:
    """A model's memory, as far as it is its own.

    Attributes:
        repository: its name on the hub, or the folder it was read from.
        shape: what its config.json says.
        weights: bytes of its weights.
        experts: bytes of them that expert parallelism divides; 0: not known.
        origin: where this is known from.
    """

    repository: str
    shape: Shape
    weights: int
    experts: int = 0
    origin: str = "recorded"

    @property
    def architecture(self) -> str:
        """config.json's `architectures`, the first."""
        return self.shape.architecture

    @property
    def context(self) -> int:
        """The longest sequence the model was made for, in tokens; 0: not known."""
        return self.shape.context

    def of_dtype(self, size: int) -> Facts:
        """The model with elements of so many bytes, by --dtype; 0: as its repository has it."""
        if size in (0, self.shape.dtype):
            return self
        weights, experts = (count * size // self.shape.dtype for count in (self.weights, self.experts))
        return replace(self, shape=replace(self.shape, dtype=size), weights=weights, experts=experts)


class UnknownModelError(LookupError):
    """Nothing is known of a model; the message says why."""


def of(repository: str) -> Facts | None:
    """What is recorded of a repository, or None."""
    entry = recorded().get(repository)
    if entry is None:
        return None
    return Facts(repository, config.read(entry["config"]), int(entry["weights"]), int(entry.get("experts", 0)))


def find(repository: str, hub: Path) -> Facts:
    """What is known of a model: what is recorded, else what the files that are here say.

    Args:
        repository: as in the command: a repository, or a folder.
        hub: the folder of the hub's cache.

    Raises:
        UnknownModelError: nothing is, or it is of a kind that is not counted here.
    """
    try:
        found = of(repository) or _local(repository, hub)
    except UnknownShapeError as error:
        raise UnknownModelError(str(error)) from None
    if found is None:
        raise UnknownModelError("its layers and the size of its weights are not recorded, and its files are not here")
    if not found.weights:
        raise UnknownModelError("the size of its weights is not known: model.safetensors.index.json is not here")
    return found


@cache
def recorded() -> Mapping[str, Mapping[str, Any]]:
    """facts.yml by repository; `like` takes another entry's config, which the entry's own keys extend."""
    import yaml

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    entries: dict[str, dict[str, Any]] = yaml.load(RECORDED.read_text("utf-8"), loader)  # noqa: S506
    for entry in entries.values():
        if "like" in entry:
            entry["config"] = {**entries[entry["like"]]["config"], **entry.get("config", {})}
    return entries


def snapshot(repository: str, hub: Path) -> Path | None:
    """The newest folder of the hub's cache that has a repository's config.json."""
    found = [file.parent for file in (hub / f"models--{repository.replace('/', '--')}").glob("snapshots/*/config.json")]
    return max(found, key=lambda folder: folder.stat().st_mtime, default=None)


def hub_folder(hf_home: str, environ: Mapping[str, str]) -> Path:
    """Where the hub's cache is."""
    return hub_cache.folder(Path(os.path.expanduser(hf_home)), environ)


def is_cached(repository: str, hub: Path) -> bool:
    """Whether a repository's weights are in the hub's cache."""
    folder = snapshot(repository, hub)
    return folder is not None and any(file.exists() for file in folder.glob("*.safetensors"))


def _local(repository: str, hub: Path) -> Facts | None:
    folder = Path(repository) if repository.startswith(("/", "./", "../")) else snapshot(repository, hub)
    if folder is None or not (folder / "config.json").is_file():
        return None
    try:
        made = config.read(json.loads((folder / "config.json").read_text("utf-8")))
        index = folder / "model.safetensors.index.json"
        weights = 0
        if index.is_file():
            weights = int(json.loads(index.read_text("utf-8")).get("metadata", {}).get("total_size", 0))
    except (OSError, AttributeError, TypeError, ValueError) as error:
        if isinstance(error, UnknownShapeError):
            raise
        raise UnknownShapeError(f"{folder}: its config.json cannot be read: {error}") from None
    weights = weights or sum(file.stat().st_size for file in folder.glob("*.safetensors") if file.exists())
    return Facts(repository, made, weights, origin=str(folder))
