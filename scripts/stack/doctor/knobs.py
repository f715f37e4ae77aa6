"""The settings the checks need, also where the configuration is broken or the packages that read it are not there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stack.doctor.probe import Probe, read
from stack.errors import Problem, StackError

# For when settings.TABLE cannot be imported; a test compares the two.
DEFAULTS: Mapping[str, str] = {
    "MODEL": "glm47-flash",
    "RUNTIME": "auto",
    "BIND_ADDRESS": "127.0.0.1",
    "LITELLM_PORT": "4000",
    "ENGINE_PORT": "8000",
    "POSTGRES_PORT": "54320",
    "CHAT": "false",
    "CHAT_ADDRESS": "127.0.0.1",
    "CHAT_PORT": "3000",
    "ENGINE_BUILD": "auto",
    "WEIGHTS_SOURCE": "auto",
    "HF_HOME": "~/.cache/huggingface",
    "VLLM_IMAGE": "vllm/vllm-openai:v0.32.0",
}
_LINE = re.compile(r"^\s*(?:export\s+)?([A-Za-z_]\w*)\s*=\s*(.*?)\s*$")
_SERVE = re.compile(r"\bvllm\s+serve\s+([^\s\\\"']+)")


@dataclass(frozen=True)
class Knobs:
    """What is configured.

    Attributes:
        values: the settings of DEFAULTS, parsed.
        repository: the model's, or a local folder; empty if not known.
        revision: its commit or branch; empty: main.
        offline: whether the fragment has an offline source of the weights.
        image: the fragment's own base image, or empty.
        weights: bytes of the model's weights as recorded for `fit`; 0: not known.
        argv: the engine's command; empty if the configuration is wrong.
        env: the engine's environment, if known.
        problems: what is wrong with the configuration.
        notes: what the user should know.
        missing: the package without which the configuration could not be read in full, or empty.
    """

    values: Mapping[str, Any]
    repository: str = ""
    revision: str = ""
    offline: bool = False
    image: str = ""
    weights: int = 0
    argv: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    missing: str = ""

    def __getitem__(self, key: str) -> Any:
        return self.values[key]

    def option(self, name: str) -> str:
        """The value of an option of the engine's command; empty if it is not given."""
        for index, word in enumerate(self.argv):
            if word == name and index + 1 < len(self.argv):
                return self.argv[index + 1]
            if word.startswith(f"{name}="):
                return word.partition("=")[2]
        return ""

    @property
    def local(self) -> bool:
        """Whether the model is a folder of this machine rather than a repository."""
        return self.repository.startswith(("/", "./", "../", "~"))


def knobs(probe: Probe) -> Knobs:
    """What is configured; read once."""
    return probe.once("knobs", lambda: _read(probe))


def _read(probe: Probe) -> Knobs:
    try:
        return _planned(probe)
    except ImportError as error:
        return _guessed(probe, missing=error.name or str(error))
    except StackError as error:
        return _guessed(probe, tuple(error.problems))
    except Exception as error:
        what = f"cannot be read: {type(error).__name__}: {error}"
        return _guessed(probe, (Problem("configuration", what, "look at vars.env, vars.local.env and models/"),))


def _planned(probe: Probe) -> Knobs:
    from stack import plan
    from stack.fit import facts

    made = plan.make(probe.layout.root, probe.environ, [])
    fragment = made.served.fragment
    repository = fragment.argv()[2]
    return Knobs(
        values={key: made.resolved[key] for key in DEFAULTS},
        repository=repository,
        revision=fragment.revision or "",
        offline=fragment.weights is not None,
        image=fragment.image or "",
        weights=int(facts.recorded().get(repository, {}).get("weights", 0)),
        argv=made.engine_argv,
        env=made.engine_env,
        notes=(*made.notes, *plan.ignored_environment(made)),
    )


def _guessed(probe: Probe, problems: tuple[Problem, ...] = (), missing: str = "") -> Knobs:
    """By plain reading of lines: where the real reader stopped at a mistake, the other settings still matter."""
    files = [_lines(probe.layout.root / name) for name in ("vars.local.env", "vars.env")]
    texts = {}
    for key, default in DEFAULTS.items():
        given = [layer[key] for layer in (probe.environ, *files) if layer.get(key, "").strip()]
        texts[key] = (given[0] if given else default).strip()
    model = texts["MODEL"]
    text = read(probe.layout.root / "models" / f"{model}.yml") if "/" not in model else ""
    found = _SERVE.search("\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#")))
    revision = re.search(r"^revision:\s*([^\s#]+)", text, re.MULTILINE)
    values = {key: _parsed(key, value) for key, value in texts.items()}
    return Knobs(
        values=values,
        repository=found[1] if found else "",
        revision=revision[1].strip("'\"") if revision else "",
        offline=bool(re.search(r"^weights:\s*(#.*)?$", text, re.MULTILINE)),
        problems=problems,
        missing=missing,
    )


def _lines(path: Path) -> dict[str, str]:
    found = {}
    for line in read(path).splitlines():
        match = _LINE.match(line)
        if match:
            value = match[2]
            found[match[1]] = value[1:-1] if value[:1] == value[-1:] and value[:1] in ("'", '"') else value
    return found


def _parsed(key: str, text: str) -> Any:
    if key.endswith("_PORT"):
        return int(text) if text.isdecimal() and 0 < int(text) < 65536 else int(DEFAULTS[key])
    return text.lower() in ("1", "true", "yes", "on") if key == "CHAT" else text
