"""Puts a set-up into a client's own configuration files without losing anything of the user's."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stack.clients.setup import File
from stack.errors import ConfigError, Problem
from stack.files import write_atomic
from stack.plan import digest

# Ahead of a file that is not JSON. The digest tells whether somebody has changed the file since.
MARK = "# Written by ./runMe.sh client, {}: the next --write replaces it unless you change it\n"


def place(file: File, environ: Mapping[str, str], here: Path) -> Path:
    """Where a file is to lie: links are followed, as one may lead to where somebody keeps their settings.

    Args:
        file: what to place.
        environ: HOME, XDG_CONFIG_HOME and the client's own variable count.
        here: the folder the user is in.
    """
    folder = environ.get(file.variable) if file.variable else ""
    if not folder and file.folder.startswith("~/.config/") and environ.get("XDG_CONFIG_HOME"):
        folder = file.folder.replace("~/.config", environ["XDG_CONFIG_HOME"], 1)
    folder = folder or file.folder.replace("~", environ.get("HOME") or str(Path.home()), 1)
    return (here / folder / file.name).resolve()


def write(files: tuple[File, ...], environ: Mapping[str, str], here: Path) -> list[tuple[Path, bool]]:
    """Write every file, or none if one of them cannot be merged.

    Returns:
        Each path, and whether it had to be changed.

    Raises:
        ConfigError: a file is there that cannot be merged safely; says what to put into it.
        RunError: a file cannot be written.
    """
    merged = [(place(file, environ, here), file) for file in files]
    texts = [_merge_json(path, file) if path.suffix == ".json" else _replace(path, file) for path, file in merged]
    for (path, file), text in zip(merged, texts, strict=True):
        if text is not None:
            write_atomic(path, text, _mode(path, file.secret))
        elif file.secret:
            path.chmod(_mode(path, file.secret))
    return [(path, text is not None) for (path, _), text in zip(merged, texts, strict=True)]


def _mode(path: Path, secret: bool) -> int:
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
    return mode & 0o600 if secret else mode


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8"
        raise ConfigError(Problem(str(path), f"cannot be read: {reason}")) from None


def _replace(path: Path, file: File) -> str | None:
    """The new text, or None if it is there already. Comments and order of YAML and TOML would not survive a merge."""
    before, after = _read(path), MARK.format(digest(file.text)) + file.text
    if before in (after, file.text):
        return None
    first, _, body = before.partition("\n")
    if before.strip() and f"{first}\n" != MARK.format(digest(body)):
        raise _refusal(path, file, "is there and says something else")
    return after


def _merge_json(path: Path, file: File) -> str | None:
    """The new text, or None if all of it is there already."""
    before, new = _read(path), json.loads(file.text)
    if not before.strip():
        return file.text
    try:
        old = json.loads(before, object_pairs_hook=_unique)
    except ValueError:
        # Comments, which some programs allow, or a name twice: writing it anew would lose them.
        raise _refusal(path, file, "is not plain JSON") from None
    if type(old) is not type(new):
        raise _refusal(path, file, "is not of the form that is expected")
    merged = merge(old, new)
    if merged == old:
        return None
    indent = re.search(r"^[ \t]+", before, re.MULTILINE)
    return json.dumps(merged, indent=indent[0] if indent else 2, ensure_ascii=False) + "\n"


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name twice")
    return found


def merge(old: Any, new: Any) -> Any:
    """`old` with all that `new` says; what only `old` has stays, entries of lists included."""
    if isinstance(old, dict) and isinstance(new, dict):
        return {**old, **{name: merge(old[name], value) if name in old else value for name, value in new.items()}}
    if isinstance(old, list) and isinstance(new, list):
        merged = list(old)
        for entry in new:
            same = [index for index, other in enumerate(merged) if _same(other, entry)]
            if same:
                merged[same[0]] = merge(merged[same[0]], entry)
            else:
                merged.append(entry)
        return merged
    return new


def _same(one: Any, other: Any) -> bool:
    """Whether two entries of a list are about the same thing: by `id`, else by `vendor` and `name`."""
    if not (isinstance(one, dict) and isinstance(other, dict)):
        return bool(one == other)
    names = ("id",) if "id" in other else ("vendor", "name")
    return all(name in one and one[name] == other.get(name) for name in names)


def _refusal(path: Path, file: File, what: str) -> ConfigError:
    return ConfigError(Problem(str(path), f"{what}, so nothing was written", f"put this into it yourself:\n\n{file.text}"))
