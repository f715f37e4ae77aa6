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
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest

from stack.runtime import gateway_environment, install
from stack.runtime.layout import Layout, file_digest
from stack.runtime.report import Silent

HERE = Path(__file__).parent
LAYOUT = Layout.from_environ({"ENVS_DIR": os.environ.get("ENVS_DIR", "")})
FROM_NPM = {"claude": "claude", "codex": "codex", "continue": "cn", "node": "node"}
FROM_PYPI = {"aider": "aider", "llm": "clients", "python": "clients"}
SECONDS = 240


@dataclass(frozen=True)
class Setup:
    """What a program needs in order to use the stack.

    Attributes:
        environment: variables.
        files: what is in which file of the user's home.
    """

    environment: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)


def setup(client: str, url: str, key: str, model: str, context: int) -> Setup:
    """How a program is told of the stack.

    Args:
        client: its name.
        url: the gateway, without a path.
        key: the key.
        model: the model's name.
        context: the model's context in tokens.
    """
    if client == "claude":
        names = ("MODEL", "DEFAULT_OPUS_MODEL", "DEFAULT_SONNET_MODEL", "DEFAULT_HAIKU_MODEL")
        return Setup(
            {
                "ANTHROPIC_BASE_URL": url,
                "ANTHROPIC_AUTH_TOKEN": key,
                **{f"ANTHROPIC_{name}": model for name in names},
                "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
                "CLAUDE_CODE_MAX_CONTEXT_TOKENS": str(context),  # else it counts on a million
                "CLAUDE_CODE_MAX_OUTPUT_TOKENS": "200",
            }
        )
    if client == "codex":
        config = [
            f"model = {json.dumps(model)}",
            'model_provider = "stack"',
            f"model_context_window = {context}",
            "[model_providers.stack]",
            'name = "vLLM Multi-Model Server"',
            f'base_url = "{url}/v1"',
            'env_key = "STACK_KEY"',
            'wire_api = "responses"',
        ]
        return Setup({"STACK_KEY": key}, {".codex/config.toml": "\n".join(config) + "\n"})
    if client == "continue":
        entry: dict[str, object] = {
            "name": model,
            "provider": "openai",
            "model": model,
            "apiBase": f"{url}/v1",
            "apiKey": key,
            "roles": ["chat", "edit", "apply"],
            "capabilities": ["tool_use"],
            "defaultCompletionOptions": {"contextLength": context, "maxTokens": 200},
        }
        # JSON is YAML.
        config_yaml = {"name": "stack", "version": "1.0.0", "schema": "v1", "models": [entry]}
        return Setup(files={".continue/config.yaml": json.dumps(config_yaml)})
    if client == "copilot":
        entry = {
            "id": model,
            "name": model,
            "url": f"{url}/v1/chat/completions",
            "toolCalling": True,
            "vision": False,
            "maxInputTokens": context - 4096,
            "maxOutputTokens": 4096,
        }
        provider = {
            "name": "stack",
            "vendor": "customendpoint",
            "apiKey": key,
            "apiType": "chat-completions",
            "models": [entry],
        }
        return Setup(files={".config/Code/User/chatLanguageModels.json": json.dumps([provider])})
    if client == "llm":
        entry = {
            "model_id": model,
            "model_name": model,
            "api_base": f"{url}/v1",
            "api_key_name": "openai",
            "supports_tools": True,
            "supports_schema": True,
        }
        files = {".config/io.datasette.llm/extra-openai-models.yaml": json.dumps([entry])}
        return Setup({"OPENAI_API_KEY": key}, files)
    if client == "aider":
        return Setup({"OPENAI_API_BASE": f"{url}/v1", "OPENAI_API_KEY": key, "AIDER_MODEL": f"openai/{model}"})
    openai = {"OPENAI_BASE_URL": f"{url}/v1", "OPENAI_API_KEY": key}
    return Setup({**openai, "ANTHROPIC_BASE_URL": url, "ANTHROPIC_AUTH_TOKEN": key, "MODEL": model})


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


def program(client: str, given: Setup, folder: Path) -> Program:
    """Install a program and set it up; skips the test where that cannot be done.

    Args:
        client: its name.
        given: its set-up.
        folder: for its home and the folder it works in.
    """
    if client == "aider" and sys.version_info >= (3, 13):
        pytest.skip("aider needs Python 3.12 or older")
    home, work = folder / "home", folder / "work"
    for name, text in given.files.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)
    home.mkdir(exist_ok=True)
    work.mkdir()
    searched = ["/usr/local/bin", "/usr/bin", "/bin"]
    if client in FROM_NPM:
        packages = npm_packages()
        searched = [str(packages / "node_modules" / ".bin"), str(node()), *searched]
        path = (node() if client == "node" else packages / "node_modules" / ".bin") / FROM_NPM[client]
        (work / "node_modules").symlink_to(packages / "node_modules")
    else:
        path = install.ensure(LAYOUT, FROM_PYPI[client], Silent()) / "bin" / client
    environment = {"HOME": str(home), "PATH": ":".join(searched), "LANG": "C.UTF-8", **given.environment}
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
