"""scripts/entrypoint.sh with a `vllm` that only records what it was given."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from stack import plan

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
FAKE_VLLM = f"""\
#!{sys.executable}
import json, os, signal, sys, time
record = {{"argv": sys.argv[1:], "env": dict(os.environ), "pid": os.getpid()}}
signal.signal(signal.SIGTERM, lambda *_: sys.exit(43))
out = os.environ["RECORD"]
with open(out + ".part", "w") as file:
    json.dump(record, file)
os.rename(out + ".part", out)
if "WAIT" in os.environ:
    time.sleep(20)
sys.exit(42)
"""


@dataclass
class Entry:
    """The entrypoint and its folders."""

    root: Path
    config: Path
    secrets: Path
    record: Path
    path: str
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, **environment: str) -> subprocess.Popen[str]:
        """Begin it."""
        self.record.unlink(missing_ok=True)
        env = {
            **os.environ,
            **{"STACK_ROOT": str(self.root), "CONFIG_DIR": str(self.config), "SECRETS_DIR": str(self.secrets)},
            **{"PATH": self.path, "RECORD": str(self.record), "HF_HOME": "/cache", **environment},
        }
        process = subprocess.Popen(
            ["bash", str(SCRIPTS / "entrypoint.sh")], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.started.append(process)
        return process

    def run(self, **environment: str) -> tuple[int, str, str]:
        """Run it to its end: exit status (42 is the fake engine's), output, errors."""
        process = self.start(**environment)
        out, err = process.communicate(timeout=30)
        return process.returncode, out, err

    def recorded(self) -> dict[str, Any]:
        """What the fake engine was given."""
        found: dict[str, Any] = json.loads(self.record.read_text())
        return found

    def generated(self) -> dict[str, bytes]:
        """The generated files, without the one that the engine writes."""
        return {path.name: path.read_bytes() for path in self.files()}

    def files(self) -> list[Path]:
        """Where they are."""
        return [path for path in self.config.iterdir() if path.name != "phase"] if self.config.exists() else []

    def secret(self, name: str, text: str) -> None:
        """Write secrets/NAME."""
        self.secrets.mkdir(exist_ok=True)
        (self.secrets / name).write_text(text)


@pytest.fixture
def entry(root: Path, tmp_path: Path) -> Iterator[Entry]:
    """The entrypoint over a copy of the root."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "vllm").write_text(FAKE_VLLM)
    (programs / "vllm").chmod(0o755)
    made = Entry(root, tmp_path / "config", root / "secrets", tmp_path / "record", f"{programs}:{os.environ['PATH']}")
    yield made
    for process in made.started:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.communicate(timeout=10)


def test_starts_what_was_planned(entry: Entry) -> None:
    made = plan.make(entry.root, {"HF_HOME": "/cache"}, ["LITELLM_TOP_K=7"], "smollm2-135m")
    status, out, err = entry.run(MODEL="smollm2-135m", STACK_SET="LITELLM_TOP_K=7")
    assert (status, err) == (42, "")
    assert ("vllm", *entry.recorded()["argv"]) == made.engine_argv
    environment = entry.recorded()["env"]
    assert {key: environment[key] for key in made.engine_env} == made.engine_env
    assert environment["STACK_MODEL"] == "smollm2-135m"
    assert out.splitlines()[-1].startswith("starting: vllm serve ")


def test_idle_connections_are_kept_longer_than_the_gateway_keeps_them(entry: Entry) -> None:
    assert entry.run(MODEL="minilm")[0] == 42
    assert int(entry.recorded()["env"]["VLLM_HTTP_TIMEOUT_KEEP_ALIVE"]) > 120
    assert entry.run(MODEL="minilm", VLLM_HTTP_TIMEOUT_KEEP_ALIVE="7")[0] == 42
    assert entry.recorded()["env"]["VLLM_HTTP_TIMEOUT_KEEP_ALIVE"] == "7"


def test_default_model(entry: Entry) -> None:
    assert entry.run()[0] == 42
    assert entry.recorded()["argv"][:2] == ["serve", "zai-org/GLM-4.7-Flash"]


def test_arguments_and_values_are_never_seen_by_a_shell(entry: Entry) -> None:
    (entry.root / "models" / "m.yml").write_text(
        "command: |\n  vllm serve m --a '$(touch canary) `touch canary`; *' --j '{\"a b\": [1]}' --e '' --n 'x\n  y'\n"
        "env:\n  A: $(touch canary) \"'*\n"
    )
    assert entry.run(MODEL="m")[0] == 42
    argv = entry.recorded()["argv"]
    expected = ["serve", "m", "--a", "$(touch canary) `touch canary`; *", "--j", '{"a b": [1]}', "--e", "", "--n", "x\ny"]
    assert argv[: len(expected)] == expected
    assert entry.recorded()["env"]["A"] == "$(touch canary) \"'*"


def test_secrets_reach_the_environment_and_nothing_else(entry: Entry, tmp_path: Path) -> None:
    entry.secret("VLLM_API_KEY", "sk-engine\n")
    (tmp_path / "elsewhere").write_text("hf_token")
    status, out, err = entry.run(MODEL="minilm", HF_TOKEN_FILE=str(tmp_path / "elsewhere"))
    assert status == 42
    environment = entry.recorded()["env"]
    assert (environment["VLLM_API_KEY"], environment["HF_TOKEN"]) == ("sk-engine", "hf_token")
    assert "HF_TOKEN_FILE" not in environment
    everywhere = [" ".join(entry.recorded()["argv"]), out, err, *(raw.decode() for raw in entry.generated().values())]
    for secret in ("sk-engine", "hf_token"):
        assert [text for text in everywhere if secret in text] == []


def test_secret_of_the_environment_is_kept(entry: Entry) -> None:
    assert entry.run(MODEL="minilm", HF_TOKEN="hf_given", VLLM_API_KEY="sk-given")[0] == 42
    environment = entry.recorded()["env"]
    assert (environment["HF_TOKEN"], environment["VLLM_API_KEY"]) == ("hf_given", "sk-given")
    assert all(b"given" not in raw for raw in entry.generated().values())


@pytest.mark.parametrize(
    ("name", "environment", "message"),
    [
        (
            "both",
            {"HF_TOKEN": "a", "HF_TOKEN_FILE": "b"},
            "error: HF_TOKEN: set together with HF_TOKEN_FILE\n  set one of the two\n",
        ),
        ("gone", {"HF_TOKEN_FILE": "/nowhere/x"}, "error: HF_TOKEN: /nowhere/x is not a readable file\n"),
        ("folder", {"HF_TOKEN_FILE": "/"}, "error: HF_TOKEN: / is not a readable file\n"),
    ],
)
def test_wrong_secret_stops_it(entry: Entry, name: str, environment: dict[str, str], message: str) -> None:
    assert entry.run(MODEL="minilm", **environment) == (2, "", message)
    assert entry.generated() == {}
    assert not entry.record.exists()


def test_all_wrong_secrets_are_named(entry: Entry) -> None:
    status, _, err = entry.run(HF_TOKEN_FILE="/nowhere/x", VLLM_API_KEY_FILE="/nowhere/y")
    assert status == 2
    assert [line.split(":")[1] for line in err.splitlines()] == [" HF_TOKEN", " VLLM_API_KEY"]


def test_unknown_model(entry: Entry) -> None:
    started = time.monotonic()
    status, out, err = entry.run(MODEL="minlm")
    assert (status, out) == (2, "")
    names = sorted(path.stem for path in (entry.root / "models").glob("*.yml"))
    assert {"glm47-flash", "minilm"} <= set(names)
    assert err == (
        "error: MODEL: no model 'minlm': models/minlm.yml does not exist\n"
        f"  did you mean minilm? models there are: {', '.join(names)}\n"
    )
    assert time.monotonic() - started < 5


def test_engine_is_the_process_itself_and_gets_its_signals(entry: Entry) -> None:
    process = entry.start(MODEL="minilm", WAIT="1")
    deadline = time.monotonic() + 20
    while not entry.record.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert entry.recorded()["pid"] == process.pid
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 43


def _accepted(entry: Entry) -> str:
    """Start once; the engine's digest of that start, as `up` hands it over."""
    assert entry.run(MODEL="minilm")[0] == 42
    return (entry.config / "digest").read_text().split()[0]


def test_accepted_configuration_is_not_made_again(entry: Entry) -> None:
    digest = _accepted(entry)
    before, argv = entry.generated(), entry.recorded()["argv"]
    times = {path.name: path.stat().st_mtime_ns for path in entry.files()}
    (entry.root / "models" / "minilm.yml").write_text("command: vllm serve broken; x\n")
    status, _, err = entry.run(MODEL="minilm", STACK_DIGEST=digest)
    assert (status, err) == (42, "")
    assert (entry.generated(), entry.recorded()["argv"]) == (before, argv)
    assert {path.name: path.stat().st_mtime_ns for path in entry.files()} == times


def test_other_digest_makes_it_again(entry: Entry) -> None:
    digest = _accepted(entry)
    (entry.root / "models" / "minilm.yml").write_text("command: vllm serve other --runner pooling\n")
    for other in ("", "0" * 16, digest[:8], digest[:-1] + "."):
        assert entry.run(MODEL="minilm", STACK_DIGEST=other)[0] == 42
        assert entry.recorded()["argv"][1] == "other"


def test_files_are_made_again_on_demand_and_nothing_is_started(entry: Entry) -> None:
    digest = _accepted(entry)
    entry.record.unlink()
    (entry.config / "phase").write_text("1 ready\n")
    before = entry.generated()
    env = {**os.environ, "STACK_ROOT": str(entry.root), "CONFIG_DIR": str(entry.config), "HF_HOME": "/cache"}
    env |= {"PATH": entry.path, "MODEL": "minilm", "STACK_DIGEST": digest, "LITELLM_NUM_RETRIES": "3"}
    done = subprocess.run(["bash", str(SCRIPTS / "entrypoint.sh"), "generate"], env=env, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert {name for name, raw in entry.generated().items() if raw != before[name]} == {"config.yaml", "digest"}
    assert (entry.config / "digest").read_text().split()[0] == digest
    assert (entry.config / "phase").read_text() == "1 ready\n"
    assert not entry.record.exists()


def test_what_was_accepted_is_used_instead_of_what_is_mounted(entry: Entry, tmp_path: Path) -> None:
    app = tmp_path / "app"
    shutil.copytree(SCRIPTS, app / "scripts", ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
    for name in ("models", "vars.env", "litellm_config.template.yaml"):
        (app / name).symlink_to(entry.root / name)
    env = {**os.environ, "PATH": entry.path, "HF_HOME": "/cache", "RECORD": str(entry.record), "MODEL": "minilm"}

    def served() -> list[str]:
        subprocess.run(["bash", str(app / "scripts" / "entrypoint.sh")], env=env, capture_output=True, timeout=30)
        return list(entry.recorded()["argv"][:2])

    assert served() == ["serve", "sentence-transformers/all-MiniLM-L6-v2"]
    accepted = app / "releases" / "0007"
    shutil.copytree(entry.root, accepted)
    (accepted / "models" / "minilm.yml").write_text("command: vllm serve accepted --runner pooling\n")
    (app / "releases" / "current").symlink_to("0007")
    assert served() == ["serve", "accepted"]
    assert (app / "generated_configs" / "digest").exists()


def test_broken_fragment_goes_on_with_the_last_good_files(entry: Entry) -> None:
    _accepted(entry)
    before, argv = entry.generated(), entry.recorded()["argv"]
    (entry.root / "models" / "minilm.yml").write_text("command: vllm serve broken; x\n")
    status, _, err = entry.run(MODEL="minilm")
    assert (status, entry.recorded()["argv"], entry.generated()) == (42, argv, before)
    assert err.splitlines()[0] == "error: models/minilm.yml:1: command: has ';', a shell operator"
    assert err.splitlines()[-1] == "warning: the configuration is in error, see above; going on with the last good one"


@pytest.mark.parametrize("model", ["smollm2-135m", "minilm-2"])
def test_last_good_files_of_another_model_do_not_count(entry: Entry, model: str) -> None:
    _accepted(entry)
    (entry.root / "models" / f"{model}.yml").write_text("command: vllm serve broken; x\n")
    status, _, err = entry.run(MODEL=model)
    assert status == 2
    assert "warning" not in err
    assert not entry.record.exists()


def test_files_without_digest_do_not_count(entry: Entry) -> None:
    _accepted(entry)
    (entry.config / "digest").unlink()
    (entry.root / "models" / "minilm.yml").write_text("command: vllm serve broken; x\n")
    assert entry.run(MODEL="minilm")[0] == 2


def _phase(entry: Entry) -> str:
    seconds, name = (entry.config / "phase").read_text().strip().split(" ", 1)
    assert abs(time.time() - float(seconds)) < 60
    return name


def test_the_engine_is_told_to_report_its_phases(entry: Entry) -> None:
    entry.config.mkdir()
    (entry.config / "phase").write_text("17 ready\n")
    assert entry.run(MODEL="minilm")[0] == 42
    assert _phase(entry) == "starting Python and vLLM"
    environment = entry.recorded()["env"]
    assert environment["VLLM_LOGGING_CONFIG_PATH"] == str(SCRIPTS / "engine_logging.json")
    assert environment["PYTHONPATH"].split(":")[0] == str(SCRIPTS)
    assert environment["CONFIG_DIR"] == str(entry.config)


def test_phases_are_no_part_of_the_digest(entry: Entry) -> None:
    made = plan.make(entry.root, {}, [], "minilm")
    assert entry.run(MODEL="minilm")[0] == 42
    assert "VLLM_LOGGING_CONFIG_PATH" not in made.engine_env


@pytest.mark.parametrize(
    ("extra", "environment"),
    [
        ("env: {VLLM_LOGGING_CONFIG_PATH: /mine.json}", {}),
        ("env: {VLLM_CONFIGURE_LOGGING: '0'}", {}),
        ("env: {PYTHONPATH: /mine}", {}),
        ("", {"VLLM_CONFIGURE_LOGGING": "0"}),
        ("--log-level DEBUG", {}),
        ("--logging-config.formatter json", {}),
        ("--disable_access_log_for_endpoints /health", {}),
    ],
)
def test_logging_of_the_users_own_is_left_alone(entry: Entry, extra: str, environment: dict[str, str]) -> None:
    flags, rest = (extra, "") if extra.startswith("--") else ("", extra)
    (entry.root / "models" / "m.yml").write_text(f"command: vllm serve m {flags}\n{rest}\n")
    assert entry.run(MODEL="m", **environment)[0] == 42
    assert _phase(entry) == "loading the model"
    assert entry.recorded()["env"].get("VLLM_LOGGING_CONFIG_PATH") in (None, "/mine.json")
