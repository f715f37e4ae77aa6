"""From sources to everything that has to be written or run."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from stack import check, command, fragment, gateway, settings, sources, yaml_source
from stack.check import gpus
from stack.errors import ConfigError, Problem
from stack.settings import Resolved, Served

TEMPLATE = "litellm_config.template.yaml"


@dataclass(frozen=True)
class Plan:
    """What was decided and what follows from it.

    Attributes:
        resolved: every value with its origin.
        engine_env: environment for the engine, without secrets.
        engine_argv: the `vllm serve` argument list.
        gateway_config: the text of config.yaml.
        notes: what the user should know although it is no error.
    """

    resolved: Resolved
    engine_env: Mapping[str, str]
    engine_argv: tuple[str, ...]
    gateway_config: str
    notes: tuple[str, ...]

    @property
    def served(self) -> Served:
        """The model the stack serves."""
        return self.resolved.models[0]

    @property
    def drain_seconds(self) -> int:
        """How long the engine lets running requests finish when it stops; a fragment may say so itself."""
        given = command.option(list(self.engine_argv), "--shutdown-timeout")[-1:]
        return int(given[0]) if given and given[0].isdigit() else int(self.resolved["ENGINE_SHUTDOWN_TIMEOUT"])

    @property
    def engine_digest(self) -> str:
        """Changes when the engine has to be started anew."""
        return digest("\0".join([*(f"{k}={v}" for k, v in self.engine_env.items()), *self.engine_argv]))

    @property
    def gateway_digest(self) -> str:
        """Changes when the gateway has to be started anew."""
        return digest(self.gateway_config)


def digest(text: str) -> str:
    """A short name for a content."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def select(layers: sources.Sources, model: str = "") -> str:
    """The name of the model to serve: `model` if given, else by the usual precedence."""
    if model:
        return model
    for layer in (layers.overrides, layers.environment, *layers.files):
        if "MODEL" in layer:
            return str(layer["MODEL"].value)
    return settings.BY_KEY["MODEL"].default


def early(key: str, root: Path, environ: Mapping[str, str]) -> str:
    """A setting's text for a command that has to work although the configuration may be in error."""
    setting = settings.BY_KEY[key]
    try:
        layers = sources.read(root, environ, [])
        entries = [layer[key] for layer in (layers.environment, *layers.files) if key in layer]
        return str(setting.parse(entries[0].value if entries else setting.default))
    except (ConfigError, ValueError):
        return setting.default


def load_fragments(root: Path, layers: sources.Sources, model: str = "") -> tuple[fragment.Fragment, ...]:
    """Read and validate the selected fragments (today there is one)."""
    return (fragment.parse(sources.read_fragment(root, select(layers, model))),)


def make(root: Path, environ: Mapping[str, str], overrides: list[str], model: str = "", *, accepted: bool = False) -> Plan:
    """Read everything under `root` and plan the stack.

    Args:
        root: the folder of vars.env and models/.
        environ: the environment.
        overrides: `KEY=VALUE`, above everything.
        model: the model's name; by the usual precedence if empty.
        accepted: it has been accepted before, by whatever was known then: what vLLM knows is not asked again.

    Raises:
        ConfigError: all problems.
    """
    problems: list[Problem] = []
    template = ""
    fragments: tuple[fragment.Fragment, ...] = ()
    layers = sources.Sources({}, {}, ())
    try:
        layers = sources.read(root, environ, overrides)
    except ConfigError as error:
        problems.extend(error.problems)
        model = model or environ.get("MODEL", "").strip()
    try:
        fragments = load_fragments(root, layers, model)
    except ConfigError as error:
        problems.extend(dict.fromkeys([*_also_wrong(root, select(layers, model)), *error.problems]))
    try:
        template = yaml_source.read_text(root / TEMPLATE, TEMPLATE)
    except ConfigError as error:
        problems.extend(error.problems)
    try:
        resolved = settings.resolve(layers, fragments)
    except ConfigError as error:
        known = [problem for one in fragments if not accepted for problem in check.problems(one)]
        errors = [problem for problem in known if problem.level == "error"]
        raise ConfigError(*dict.fromkeys([*problems, *error.problems, *errors])) from None
    warnings: list[Problem] = []
    for served in () if accepted else resolved.models:
        for problem in check.problems(served.fragment, served.env, resolved["VLLM_IMAGE"], gpus.count):
            (warnings if problem.level == "warning" else problems).append(problem)
    if problems:
        raise ConfigError(*dict.fromkeys(problems))
    made = from_resolved(resolved, template, environ.get("STACK_MODEL_PATH", ""))
    return replace(made, notes=(*made.notes, *map(_note, warnings)))


def _also_wrong(root: Path, model: str) -> list[Problem]:
    """What else is wrong with a fragment that its schema refuses."""
    try:
        document = sources.read_fragment(root, model)
    except ConfigError:
        return []
    return [problem for problem in check.of_document(document) if problem.level == "error"]


def _note(problem: Problem) -> str:
    return f"{problem.place}: {problem.what}" + (f"; {problem.cure}" if problem.cure else "")


def from_resolved(resolved: Resolved, template: str, model_path: str = "") -> Plan:
    """Build both command and configuration.

    Args:
        resolved: every decision.
        template: the text of litellm_config.template.yaml.
        model_path: a local folder with the model's weights, or empty.
    """
    served = resolved.models[0]
    argv, notes = command.apply_dynamic(
        served.fragment.argv(),
        command.Dynamic(
            host=resolved["ENGINE_HOST"],
            port=resolved["ENGINE_PORT"],
            served_names=gateway.engine_names(served),
            model=model_path,
            revision=served.fragment.revision or "",
            shutdown_timeout=resolved["ENGINE_SHUTDOWN_TIMEOUT"],
            generation=gateway.generation_defaults(served),
            log_requests=resolved["ENGINE_LOG_REQUESTS"],
        ),
    )
    if gateway.context_length(served) is None and not gateway.is_pooling(served):
        notes.append(
            "the context length is not known, so LITELLM_MAX_TOKENS is not sent: "
            "give --max-model-len in the command, or context: in the fragment"
        )
    at_once, limit = command.option(argv, "--max-num-seqs"), gateway.key_limit(resolved)
    if at_once and at_once[-1].isdigit() and int(at_once[-1]) < limit:
        notes.append(
            f"the engine works on {at_once[-1]} requests at once (--max-num-seqs), and the local key may have {limit} "
            "(MAX_PARALLEL_REQUESTS): the others wait in the engine"
        )
    env = {name: value.value for name, value in served.env.items()}
    env["HF_HOME"] = os.path.expanduser(resolved["HF_HOME"])
    config = gateway.render(resolved, template)
    try:
        yaml.safe_load(config)
    except yaml.YAMLError as error:
        raise ConfigError(Problem(TEMPLATE, f"does not render to YAML: {error}")) from None
    place = served.fragment.document.name
    return Plan(resolved, env, tuple(argv), config, tuple(f"{place}: {note}" for note in notes))


def ignored_environment(made: Plan) -> list[str]:
    """A line for each variable of the environment that the fragment outranks, as whoever set it may not expect that."""
    found = []
    for name, value in made.served.params.items():
        for origin, text in value.overrode:
            if origin == "environment" and value.origin.startswith(made.served.fragment.document.name):
                key = settings.BY_PARAM[name].key
                found.append(f"{key}={text} of the environment loses to {value.origin}; --set {key}={text} would win")
    return found
