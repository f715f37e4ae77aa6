"""The secrets the stack makes for itself: random, one file each, readable by their owner only."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from stack.errors import ConfigError, Problem
from stack.runtime.report import Report

# name -> prefix of a generated value. LiteLLM wants keys to begin with sk-.
GENERATED = {
    "LITELLM_MASTER_KEY": "sk-",
    "LITELLM_SALT_KEY": "sk-",
    "VLLM_API_KEY": "sk-",
    "POSTGRES_PASSWORD": "",
    "METRICS_API_KEY": "sk-",
    "GRAFANA_ADMIN_PASSWORD": "",
}
USER_GIVEN = ("HF_TOKEN", "ANTHROPIC_AUTH_TOKEN", "CHAT_API_KEY")
_PLAIN = re.compile(r"^[A-Za-z0-9._~-]+$")
MAX_BYTES = 64 << 10


def check(folder: Path, environ: Mapping[str, str]) -> list[Problem]:
    """What is wrong with the secrets there are; their values are never shown."""
    problems = []
    for name in (*GENERATED, *USER_GIVEN):
        given = environ.get(f"{name}_FILE", "")
        if given and environ.get(name):
            problems.append(Problem(name, f"set together with {name}_FILE", "set one of the two"))
            continue
        path = place(folder, name, environ)
        shown = given or f"secrets/{name}"
        if not os.path.lexists(path):
            if given:
                problems.append(Problem(shown, f"no such file, but {name}_FILE names it"))
            continue
        problems += _check_file(path, shown, plain=name == "POSTGRES_PASSWORD", key=name == "LITELLM_MASTER_KEY")
    return problems


def _check_file(path: Path, place: str, plain: bool, key: bool) -> list[Problem]:
    if not path.is_file():  # a link is followed: secret stores mount them that way
        return [Problem(place, "is not a file" if path.exists() else "is a link to nothing")]
    try:
        raw = path.read_bytes() if path.stat().st_size <= MAX_BYTES else b""
    except OSError as error:
        return [Problem(place, f"cannot be read: {error.strerror}", f"check its permissions: ls -l {place}")]
    text = raw.decode("utf-8", "replace").rstrip("\r\n")
    if not text.strip():
        return [Problem(place, "is empty or larger than 64 KiB", "write the secret into it, or delete it")]
    if "\n" in text or "\0" in text:
        return [Problem(place, "has more than one line", "a secret is one line of text")]
    if plain and not _PLAIN.match(text):
        return [Problem(place, "may have letters, digits and . _ ~ - only", "it becomes part of a database address")]
    if key and not text.startswith("sk-"):
        return [Problem(place, "has to begin with sk-", "LiteLLM asks for it")]
    return []


def ensure(folder: Path) -> list[str]:
    """Make the secrets that are missing.

    Returns:
        Names of those that were made.

    Raises:
        ConfigError: the folder cannot be written to.
    """
    made = []
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, prefix in GENERATED.items():
            path = folder / name
            if os.environ.get(f"{name}_FILE") or os.path.lexists(path):
                continue
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "w") as file:
                file.write(prefix + secrets.token_urlsafe(32) + "\n")
            made.append(name)
    except OSError as error:
        raise ConfigError(Problem(str(folder), f"cannot be written to: {error.strerror}")) from None
    return made


def prepare(folder: Path, environ: Mapping[str, str], report: Report) -> None:
    """Make what is missing, and say what was made and what of the environment does not count.

    Raises:
        ConfigError: the folder cannot be written to.
    """
    made = ensure(folder)
    if made:
        report.note(f"made secrets/: {', '.join(made)}")
    for name in only_in_environment(folder, environ):
        report.note(f"{name} is set in the environment only; the stack reads secrets/{name}")


def only_in_environment(folder: Path, environ: Mapping[str, str]) -> list[str]:
    """Secrets that the caller has as a variable but not as a file, from which alone services read them."""
    return [
        name
        for name in USER_GIVEN
        if environ.get(name) and not environ.get(f"{name}_FILE") and not os.path.lexists(folder / name)
    ]


def place(folder: Path, name: str, environ: Mapping[str, str]) -> Path:
    """The file of a secret: the one that NAME_FILE names, else `folder`'s."""
    return Path(environ.get(f"{name}_FILE") or folder / name)


def read(folder: Path, name: str) -> str:
    """A secret's value; empty if it cannot be read."""
    try:
        return place(folder, name, os.environ).read_text("utf-8").rstrip("\r\n")
    except OSError:
        return ""


def version(folder: Path, names: Iterable[str]) -> str:
    """Changes when one of the files does; says nothing of what is in them."""
    times = []
    for name in names:
        with contextlib.suppress(OSError):
            times.append(f"{name}={place(folder, name, os.environ).stat().st_mtime_ns}")
    return " ".join(times)


def main() -> int:
    """`python -m stack.runtime.secret_files FOLDER`: make what is missing; what root makes belongs to the folder's owner."""
    folder = Path(sys.argv[1])
    problems = check(folder, {})
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        return 2
    try:
        made = ensure(folder)
        owner = folder.stat()
        for name in made if os.geteuid() == 0 else ():
            os.chown(folder / name, owner.st_uid, owner.st_gid)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    print(f"made secrets/: {', '.join(made)}" if made else "all secrets are there")
    return 0


if __name__ == "__main__":
    sys.exit(main())
