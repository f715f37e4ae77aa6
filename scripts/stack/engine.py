"""What the real vLLM says of a command, without a GPU or weights."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

CHECKER = Path(__file__).with_name("engine_check.py")


def problems(argv: list[str], python: Path, seconds: float = 120) -> list[str]:
    """What vLLM would refuse in a `vllm serve` command; empty if nothing, or if it could not be asked.

    Args:
        argv: the whole argument list.
        python: the interpreter of the environment that has vLLM.
        seconds: how long it may take.
    """
    return check([argv], python, seconds)[0]


def check(commands: list[list[str]], python: Path, seconds: float = 300) -> list[list[str]]:
    """The same for several commands at once: importing vLLM is what takes long."""
    return ask(commands, [str(python), str(CHECKER)], seconds)


def ask(commands: list[list[str]], argv: list[str], seconds: float = 300) -> list[list[str]]:
    """The same by any command that runs engine_check.py, for example in a container."""
    inherited = {name: value for name, value in os.environ.items() if name == "PATH" or name.startswith("DOCKER_")}
    env = {**inherited, "VLLM_LOGGING_LEVEL": "ERROR", "PYTHONSAFEPATH": "1", "HOME": str(Path.home())}
    try:
        done = subprocess.run(argv, input=json.dumps(commands), capture_output=True, text=True, timeout=seconds, env=env)
        return list(json.loads(done.stdout.splitlines()[-1]))
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError):
        return [[] for _ in commands]
