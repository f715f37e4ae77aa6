"""Programs that people point at the stack: how they are installed, set up and run.

They are pinned like everything else: package-lock.json beside this file, clients.txt and aider.txt in
scripts/requirements. Each gets a home of its own and nothing of the caller's environment.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from harness import REPOSITORY, Stack
from stack.runtime import gateway_environment, install
from stack.runtime.layout import Layout, file_digest
from stack.runtime.report import Silent

HERE = Path(__file__).parent
LAYOUT = Layout.from_environ({"ENVS_DIR": os.environ.get("ENVS_DIR", "")})
FROM_NPM = {"claude-code": "claude", "codex": "codex", "continue": "cn", "node": "node"}
FROM_PYPI = {"aider": "aider", "llm": "clients", "python": "clients"}
SECONDS = 240


@dataclass(frozen=True)
class Program:
    """A program in a home of its own.

    Attributes:
        path: the program.
        home: the user's home.
        work: where it runs.
        environment: all of its environment.
    """

    path: Path
    home: Path
    work: Path
    environment: dict[str, str]

    def run(self, *arguments: str) -> str:
        """What it prints; it has to succeed."""
        done = self._run(*arguments)
        assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def need(self) -> None:
        """Skip the test where this program is not made for the machine."""
        done = self._run("--version")
        if done.returncode != 0:
            said = " ".join((done.stderr or done.stdout).split())
            pytest.skip(f"{self.path.name} does not run on this machine: {said[:300]}")

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.path), *arguments],
            cwd=self.work,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )


def printed(stack: Stack, client: str, home: Path, work: Path, *options: str) -> dict[str, Any]:
    """What `./runMe.sh client NAME --json` says to a user with this home, in this folder."""
    home.mkdir(exist_ok=True)
    work.mkdir(exist_ok=True)
    done = subprocess.run(
        [str(REPOSITORY / "runMe.sh"), "client", client, "--json", *options],
        cwd=work,
        env={**stack.env, "HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done
    return dict(json.loads(done.stdout))


def program(stack: Stack, client: str, folder: Path) -> Program:
    """Install a program and set it up as `./runMe.sh client NAME --write` does; skips the test where that cannot be done.

    Args:
        stack: what it is set up for.
        client: its name; `node` and `python` stand for the libraries, which are told by the usual variables.
        folder: for its home and the folder it works in.
    """
    if client == "aider" and sys.version_info >= (3, 13):
        pytest.skip("aider needs Python 3.12 or older")
    home, work = folder / "home", folder / "work"
    if client in ("node", "python"):
        like = printed(stack, "openai-python", home, work)
        given = {"OPENAI_BASE_URL": f"{stack.url}/v1", "ANTHROPIC_BASE_URL": stack.url, "MODEL": like["model"]}
        given |= {"OPENAI_API_KEY": "sk-FAKE", "ANTHROPIC_AUTH_TOKEN": "sk-FAKE"}
    else:
        given = printed(stack, client, home, work, "--write")["environment"]
    searched = ["/usr/local/bin", "/usr/bin", "/bin"]
    if client in FROM_NPM:
        packages = npm_packages()
        searched = [str(packages / "node_modules" / ".bin"), str(node()), *searched]
        path = (node() if client == "node" else packages / "node_modules" / ".bin") / FROM_NPM[client]
        (work / "node_modules").symlink_to(packages / "node_modules")
    else:
        path = install.ensure(LAYOUT, FROM_PYPI[client], Silent()) / "bin" / client
    environment = {"HOME": str(home), "PATH": ":".join(searched), "LANG": "C.UTF-8", **given}
    made = Program(path, home, work, environment)
    made.need()
    return made


@cache
def node() -> Path:
    """The folder of node and npm that the gateway's database client is made with."""
    return gateway_environment.ensure(LAYOUT, install.ensure(LAYOUT, "database", Silent()), Silent()) / "node"


@cache
def npm_packages() -> Path:
    """The folder with the programs of package-lock.json, installed if they are not there."""
    pinned = [HERE / "package.json", HERE / "package-lock.json"]
    folder = LAYOUT.environments / f"clients-{file_digest(*pinned)}"
    label, log = "clients from npm", folder.with_name(f"{folder.name}.log")
    with install.locked(folder.with_name(f"{folder.name}.lock"), lambda: None):
        if (folder / install.STAMP).exists():
            return folder
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for path in pinned:
            shutil.copy(path, folder)
        env = {**os.environ, "PATH": f"{node()}:{os.environ.get('PATH', '')}"}
        env["npm_config_cache"] = str(folder / "npm-cache")
        # Packages' own scripts may fetch from anywhere; the one that is needed only puts a program in its place.
        npm = [str(node() / "npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        install.run_logged(npm, log, label, env=env, cwd=folder)
        claude = folder / "node_modules" / "@anthropic-ai" / "claude-code"
        install.run_logged([str(node() / "node"), "install.cjs"], log, label, env=env, cwd=claude)
        shutil.rmtree(folder / "npm-cache")
        (folder / install.STAMP).touch()
    return folder
