"""What people get wrong: each a clear error with place and cure, or a documented acceptance; never a traceback."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from stack import cli
from stack.runtime import secret_files

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
OK = "command: vllm serve m --max-model-len 4096\n"


@dataclass(frozen=True)
class Row:
    """One input, and what has to come of it.

    Attributes:
        name: what is wrong.
        expected: texts that the answer has to have.
        bad: content of models/bad.yml, which is selected unless `environment` says otherwise.
        files: other files to write in the root; None removes one.
        prepare: anything else to do to the root.
        environment: added to the environment.
        arguments: after `config`.
        status: the exit status.
    """

    name: str
    expected: tuple[str, ...]
    bad: str | bytes | None = OK
    files: Mapping[str, str | bytes | None] = field(default_factory=dict)
    prepare: Callable[[Path], object] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    status: int = 2


def _large(root: Path) -> None:
    with (root / "models/bad.yml").open("wb") as file:
        file.truncate(50 << 20)


def _bomb() -> str:
    lines = ["command: vllm serve m", "a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    return "\n".join(lines) + "\n"


def _command(text: str) -> str:
    return f"command: |\n  vllm serve m \\\n    {text}\n"


def _link(root: Path, target: str) -> None:
    (root / "models/bad.yml").unlink()
    (root / "models/bad.yml").symlink_to(target)


YAML = [
    Row("syntax", ("models/bad.yml:3: is not YAML",), bad=OK + "env:\n  A: b: c\n", status=2),
    Row("open-bracket", ("models/bad.yml:", "is not YAML"), bad=OK + "litellm: {top_p: 1\n"),
    Row("open-quote", ("models/bad.yml:", "is not YAML"), bad=OK + "description: 'x\n"),
    Row(
        "latin-1",
        ("models/bad.yml:2: is not UTF-8 text", "save the file as UTF-8"),
        bad=OK.encode() + b"description: gr\xf6\xdfe\n",
    ),
    Row("utf-16", ("models/bad.yml:1: is not UTF-8 text",), bad=OK.encode("utf-16")),
    Row("utf-16-without-mark", ("models/bad.yml:1: has a NUL byte",), bad=OK.encode("utf-16-le")),
    Row("nul", ("models/bad.yml:2: has a NUL byte",), bad=OK.encode() + b"\0"),
    Row("control-character", ("models/bad.yml", "is not YAML"), bad=OK + "description: \x07\n"),
    Row("tab", ("models/bad.yml:3: is not YAML", "indent with spaces"), bad=OK + "env:\n\tA: b\n"),
    Row("duplicate-key", ("models/bad.yml:4: env.A: stands twice, first in line 3",), bad=OK + "env:\n  A: b\n  A: c\n"),
    Row("duplicate-section", ("models/bad.yml:2: command: stands twice, first in line 1",), bad=OK + OK),
    Row("alias-bomb", ("models/bad.yml:3: a2.0: uses a YAML alias", "aliases are refused"), bad=_bomb()),
    Row("endless-alias", ("models/bad.yml:2", "alias"), bad=OK + "env: &a {A: *a}\n"),
    Row("python-tag", ("models/bad.yml:2",), bad=OK + "description: !!python/object/apply:os.system ['touch canary']\n"),
    Row("large", ("models/bad.yml: 50.0 MiB is larger than the 256 KiB",), prepare=_large),
    Row(
        "deep",
        ("models/bad.yml:3: is not YAML: nested too deeply",),
        bad=OK + "litellm:\n  extra_body: " + "[" * 2000 + "]" * 2000 + "\n",
    ),
    Row("impossible-date", ("models/bad.yml:2: description: cannot be read",), bad=OK + "description: 2024-13-45\n"),
    Row("number-of-5000-digits", ("models/bad.yml:2: context: cannot be read",), bad=OK + "context: " + "9" * 5000 + "\n"),
    Row("empty", ("models/bad.yml: is empty",), bad=""),
    Row("list", ("models/bad.yml:1: expected a mapping",), bad="- command: vllm serve m\n"),
    Row("two-documents", ("models/bad.yml:2: is not YAML",), bad=OK + "---\n" + OK),
    Row("byte-order-mark", (), bad=b"\xef\xbb\xbf" + OK.encode(), status=0),
    Row("crlf", ("vllm serve m --max-model-len 4096 --host",), bad=OK.replace("\n", "\r\n"), status=0),
]
SCHEMA = [
    Row("unknown-key", ("models/bad.yml:2: comand: unknown key", "did you mean command?"), bad=OK + "comand: x\n"),
    Row(
        "unknown-parameter",
        ("models/bad.yml:3: litellm.tempurature: unknown key", "did you mean temperature?"),
        bad=OK + "litellm:\n  tempurature: 1\n",
    ),
    Row(
        "unknown-weights-key",
        ("models/bad.yml:3: weights.pipy: unknown key", "did you mean pypi?"),
        bad=OK + "weights:\n  pipy: a\n",
    ),
    Row("list-for-text", ("models/bad.yml:1: command: expected text, got a list",), bad="command: [vllm, serve, m]\n"),
    Row("text-for-keys", ("models/bad.yml:2: env: expected keys with values, got text",), bad=OK + "env: A=b\n"),
    Row(
        "bool-in-env",
        ("models/bad.yml:2: env.A: expected text, got true/false", "put it in quotes"),
        bad=OK + "env: {A: yes}\n",
    ),
    Row(
        "text-for-number",
        ("models/bad.yml:2: LITELLM_TEMPERATURE: expected a number, got 'hot'",),
        bad=OK + "litellm: {temperature: hot}\n",
    ),
    Row(
        "128Q",
        ("models/bad.yml:2: LITELLM_MAX_TOKENS: expected a size such as 8192 or 128K, got '128Q'",),
        bad=OK + "litellm: {max_tokens: 128Q}\n",
    ),
    Row(
        "negative-limit",
        ("models/bad.yml:2: MAX_PARALLEL_REQUESTS: expected a whole number at least 1",),
        bad=OK + "litellm: {max_parallel_requests: -1}\n",
    ),
    Row(
        "nan",
        ("models/bad.yml:2: litellm.temperature: expected a finite number",),
        bad=OK + "litellm: {temperature: .nan}\n",
    ),
    Row("infinity", ("models/bad.yml:2: litellm.top_p: expected a finite number",), bad=OK + "litellm: {top_p: .inf}\n"),
    Row(
        "nan-of-another-parameter",
        ("models/bad.yml:2: litellm.min_p: expected a finite number",),
        bad=OK + "litellm: {min_p: .nan}\n",
    ),
    Row("context-128Q", ("models/bad.yml:2: context: expected a size",), bad=OK + "context: 128Q\n"),
    Row(
        "max-model-len",
        ("models/bad.yml:1: command: --max-model-len: expected a length",),
        bad="command: vllm serve m --max-model-len 9x\n",
    ),
    Row(
        "secret-in-env",
        ("models/bad.yml:2: env.HF_TOKEN: is not to be set here", "secrets/HF_TOKEN"),
        bad=OK + "env: {HF_TOKEN: hf_x}\n",
    ),
    Row(
        "weights-outside",
        ("models/bad.yml:2: weights.path:",),
        bad=OK + f"weights: {{pypi: a==1, sha256: {'0' * 64}, path: ../x}}\n",
    ),
]
COMMANDS = [
    Row("no-command", ("models/bad.yml: command: missing", "add it"), bad="env: {A: b}\n"),
    Row("null-command", ("models/bad.yml:1: command: expected text, got nothing",), bad="command:\n"),
    Row("empty-command", ("models/bad.yml:1: command: is empty",), bad="command: ''\n"),
    Row(
        "other-program",
        ("models/bad.yml:1: command: begins with 'python x.py', not `vllm serve`",),
        bad="command: python x.py\n",
    ),
    Row("assignment-first", ("environment variables belong under env:",), bad="command: A=b vllm serve m\n"),
    Row("no-model", ("models/bad.yml:1: command: names no model",), bad="command: vllm serve\n"),
    Row(
        "open-quote-in-command", ("models/bad.yml:3: command: a quote ' is opened and never closed",), bad=_command("--a 'x")
    ),
    Row("unquoted-json", ("models/bad.yml:3: command: has unquoted JSON", "single quotes"), bad=_command('--j {"a": 1}')),
    Row("generation-no-json", ("is not a JSON object: 'top_k=1'",), bad=_command("--override-generation-config 'top_k=1'")),
    Row(
        "generation-nan",
        ("LITELLM_TEMPERATURE: expected a finite number",),
        bad=_command("--override-generation-config '{\"temperature\": NaN}'"),
    ),
    *(
        Row(f"shell-{name}", (f"models/bad.yml:3: command: has {text!r}",), bad=_command(f"--a {code}"))
        for name, text, code in [
            ("semicolon", ";", "x; touch canary"),
            ("pipe", "|", "x | tee canary"),
            ("ampersand", "&", "x & touch canary"),
            ("redirection", ">", "x > canary"),
            ("input", "<", "x < canary"),
            ("substitution", "$", "$(touch canary)"),
            ("variable", "$", "${IFS}"),
            ("in-double-quotes", "$", '"$(touch canary)"'),
            ("backticks", "`", "`touch canary`"),
            ("subshell", "(", "(touch canary)"),
            ("home", "~", "~/x"),
        ]
    ),
    Row(
        "single-quotes-are-literal",
        ("--chat-template '$(touch canary); `touch canary`'",),
        bad=_command("--chat-template '$(touch canary); `touch canary`'"),
        status=0,
    ),
    Row(
        "shell-in-a-value",
        ("$(touch canary)",),
        bad=OK + "env: {A: '$(touch canary) `touch canary`; touch canary'}\n",
        status=0,
    ),
]
NAMES = [
    Row(
        "unknown-model",
        ("MODEL: no model 'smolm'", "did you mean smollm2-135m", "models there are: bad, gemma-4-26b-a4b, glm47-flash"),
        environment={"MODEL": "smolm"},
    ),
    Row("traversal", ("MODEL: '../secrets/HF_TOKEN' is not a model name",), environment={"MODEL": "../secrets/HF_TOKEN"}),
    Row("absolute", ("MODEL: '/etc/passwd' is not a model name",), environment={"MODEL": "/etc/passwd"}),
    Row("newline", ("MODEL: 'bad\\nbad' is not a model name",), environment={"MODEL": "bad\nbad"}),
    Row("long-name", ("is not a model name",), environment={"MODEL": "x" * 5000}),
    Row("shell-in-name", ("is not a model name",), environment={"MODEL": "$(touch canary)"}),
    Row("with-suffix", ("no model 'bad.yml'", "did you mean bad?"), environment={"MODEL": "bad.yml"}),
    Row("blank-is-unset", ("glm47-flash",), environment={"MODEL": "  "}, status=0),
    Row("unknown-model-option", ("no model 'nope'",), arguments=("--model", "nope")),
    Row("link-to-nothing", ("models/bad.yml: no such file",), prepare=lambda root: _link(root, "nowhere.yml")),
    Row("link-to-itself", ("models/bad.yml:",), prepare=lambda root: _link(root, "bad.yml")),
    Row(
        "folder",
        ("models/dir.yml: is a directory, not a file",),
        prepare=lambda root: (root / "models/dir.yml").mkdir(),
        environment={"MODEL": "dir"},
    ),
    Row("device", ("models/bad.yml: no such file",), prepare=lambda root: _link(root, "/dev/zero")),
    Row(
        "pipe",
        ("models/pipe.yml: no such file",),
        prepare=lambda root: os.mkfifo(root / "models/pipe.yml"),
        environment={"MODEL": "pipe"},
    ),
]
VARS = [
    Row("no-vars", ("vars.env: no such file", "git checkout vars.env"), files={"vars.env": None}),
    Row("spaces-around-equals", ("0.25",), files={"vars.local.env": "LITELLM_TEMPERATURE = 0.25 \n"}, status=0),
    Row(
        "quoted-values", ("0.25",), files={"vars.local.env": "LITELLM_TEMPERATURE=\"0.25\"\nLITELLM_TOP_P='0.5'\n"}, status=0
    ),
    Row("crlf-vars", ("0.25",), files={"vars.local.env": "LITELLM_TEMPERATURE=0.25\r\nLITELLM_TOP_P=0.5\r\n"}, status=0),
    Row(
        "duplicate",
        ("vars.local.env:3: LITELLM_TOP_P: stands twice, first in line 1",),
        files={"vars.local.env": "LITELLM_TOP_P=1\n\nLITELLM_TOP_P=1\n"},
    ),
    Row(
        "no-equals",
        ("vars.local.env:2: 'LITELLM_TOP_P 1' is not KEY=value",),
        files={"vars.local.env": "# x\nLITELLM_TOP_P 1\n"},
    ),
    Row("open-quote-in-vars", ("vars.local.env:1:", "is not KEY=value"), files={"vars.local.env": "HF_HOME='x\n"}),
    Row(
        "unknown-setting",
        ("vars.local.env:1: LITELM_TOP_P: unknown setting", "did you mean LITELLM_TOP_P"),
        files={"vars.local.env": "LITELM_TOP_P=1\n"},
    ),
    Row("secret-in-vars", ("vars.local.env:1: HF_TOKEN: unknown setting",), files={"vars.local.env": "HF_TOKEN=hf_x\n"}),
    Row("vars-latin-1", ("vars.local.env:1: is not UTF-8 text",), files={"vars.local.env": b"HF_HOME=/gr\xf6\xdfe\n"}),
    Row(
        "vars-128Q",
        ("vars.local.env:1: LITELLM_MAX_TOKENS: expected a size",),
        files={"vars.local.env": "LITELLM_MAX_TOKENS=128Q\n"},
    ),
    Row("size-of-400-digits", ("LITELLM_MAX_TOKENS: expected a",), environment={"LITELLM_MAX_TOKENS": "9" * 400}),
    Row(
        "negative-vars",
        ("vars.local.env:1: MAX_PARALLEL_REQUESTS: expected a whole number at least 1",),
        files={"vars.local.env": "MAX_PARALLEL_REQUESTS=-3\n"},
    ),
    Row(
        "shell-in-vars",
        ("NCCL_X", "$(touch canary)"),
        files={"vars.local.env": "NCCL_X=$(touch canary)`touch canary`\n"},
        status=0,
    ),
    Row("template-missing", ("litellm_config.template.yaml: no such file",), files={"litellm_config.template.yaml": None}),
    Row(
        "template-broken",
        ("litellm_config.template.yaml:1: is not a valid template",),
        files={"litellm_config.template.yaml": "{% for %}\n"},
    ),
]
ARGUMENTS = [
    Row(
        "set-without-equals",
        ("--set: 'LITELLM_TOP_P' is not KEY=VALUE", "for example"),
        arguments=("--set", "LITELLM_TOP_P"),
    ),
    Row(
        "set-unknown",
        ("--set: LITELM_TOP_P: unknown setting", "did you mean LITELLM_TOP_P"),
        arguments=("--set", "LITELM_TOP_P=1"),
    ),
    Row("set-secret", ("--set: env.VLLM_API_KEY: is not to be set here",), arguments=("--set", "env.VLLM_API_KEY=x")),
    Row("set-empty", ("--set: LITELLM_TOP_P: expected a number, got ''",), arguments=("--set", "LITELLM_TOP_P=")),
    Row("port-text", ("environment: LITELLM_PORT: expected a number, got 'http'",), environment={"LITELLM_PORT": "http"}),
    Row(
        "port-range",
        ("environment: LITELLM_PORT: expected a whole number from 1 to 65535",),
        environment={"LITELLM_PORT": "70000"},
    ),
    Row(
        "port-twice", ("ENGINE_PORT=8000 is also LITELLM_PORT", "choose another port"), environment={"LITELLM_PORT": "8000"}
    ),
    Row(
        "open-address",
        ("BIND_ADDRESS=0.0.0.0 would offer the well-known key sk-FAKE", "LOCAL_KEY=false"),
        environment={"BIND_ADDRESS": "0.0.0.0"},
    ),
    Row("open-address-v6", ("would offer the well-known key sk-FAKE",), environment={"BIND_ADDRESS": "::"}),
    Row("open-without-key", ("0.0.0.0",), environment={"BIND_ADDRESS": "0.0.0.0", "LOCAL_KEY": "false"}, status=0),
    Row("host-name", ("BIND_ADDRESS: expected an IP address", "got 'localhost'"), environment={"BIND_ADDRESS": "localhost"}),
    Row("runtime", ("RUNTIME: expected auto, docker or native, got 'podman'",), environment={"RUNTIME": "podman"}),
    Row(
        "timeout-nan", ("LITELLM_REQUEST_TIMEOUT: expected a finite number",), environment={"LITELLM_REQUEST_TIMEOUT": "nan"}
    ),
]
ROWS = [*YAML, *SCHEMA, *COMMANDS, *NAMES, *VARS, *ARGUMENTS]
IN_A_PROCESS = (
    "alias-bomb",
    "deep",
    "large",
    "shell-substitution",
    "shell-in-vars",
    "unknown-model",
    "pipe",
    "size-of-400-digits",
)


def _write(row: Row, root: Path) -> None:
    for name, content in {"models/bad.yml": row.bad, **row.files}.items():
        path = root / name
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
    if row.prepare:
        row.prepare(root)


def _check(row: Row, status: int, output: str, seconds: float, folder: Path) -> None:
    assert [text for text in row.expected if text not in output] == [], output
    assert status == row.status, output
    assert "Traceback" not in output
    assert ("nothing was started or changed" in output) == (status == 2)
    assert seconds < 2
    assert list(folder.rglob("*canary*")) == []


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_bad_input(
    row: Row, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _write(row, root)
    monkeypatch.chdir(tmp_path)
    for key, value in {
        "STACK_ROOT": str(root),
        "STATE_DIR": str(tmp_path / "state"),
        "MODEL": "bad",
        **row.environment,
    }.items():
        monkeypatch.setenv(key, value)
    started = time.monotonic()
    status = cli.main(["config", *row.arguments])
    seconds = time.monotonic() - started
    printed = capsys.readouterr()
    _check(row, status, printed.out + printed.err, seconds, tmp_path)


@pytest.mark.parametrize("row", [row for row in ROWS if row.name in IN_A_PROCESS], ids=lambda row: row.name)
def test_bad_input_in_a_process(row: Row, root: Path, tmp_path: Path) -> None:
    _write(row, root)
    given = {"STACK_ROOT": str(root), "STATE_DIR": str(tmp_path / "state"), "MODEL": "bad", **row.environment}
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "stack", "config", *row.arguments],
        env={**os.environ, **given},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
    )
    _check(row, done.returncode, done.stdout + done.stderr, time.monotonic() - started, tmp_path)


def test_the_table_is_as_long_as_it_should_be() -> None:
    names = [row.name for row in ROWS]
    assert len(names) == len(set(names))
    assert len(names) >= 40


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("name", ["models/bad.yml", "vars.env", "litellm_config.template.yaml"])
def test_unreadable_file(
    name: str, root: Path, open_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here = open_folder / "root"
    shutil.copytree(root, here)
    (here / "models" / "bad.yml").write_text(OK)
    (here / name).chmod(0)
    monkeypatch.setenv("STACK_ROOT", str(here))
    monkeypatch.setenv("MODEL", "bad")
    was = os.geteuid()
    if was == 0:
        os.seteuid(65534)
    try:
        status = cli.main(["config"])
    finally:
        os.seteuid(was)
    printed = capsys.readouterr()
    assert (status, printed.out) == (2, "")
    assert f"error: {name}: cannot be read: Permission denied\n  check its permissions: ls -l {name}\n" in printed.err


def _secret(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def _linked(path: Path) -> None:
    path.with_name("store").write_text("hf_secret\n")
    path.symlink_to("store")


# What to do to the file secrets/HF_TOKEN, the environment, the problems that have to be found.
SECRETS: dict[str, tuple[Callable[[Path], object] | None, dict[str, str], list[str]]] = {
    "none": (None, {}, []),
    "plain": (_secret(b"hf_secret\n"), {}, []),
    "crlf": (_secret(b"hf_secret\r\n"), {}, []),
    "link": (_linked, {}, []),
    "link-to-nothing": (lambda path: path.symlink_to("nowhere"), {}, ["error: secrets/HF_TOKEN: is a link to nothing"]),
    "folder": (lambda path: path.mkdir(), {}, ["error: secrets/HF_TOKEN: is not a file"]),
    "empty": (
        _secret(b""),
        {},
        ["error: secrets/HF_TOKEN: is empty or larger than 64 KiB\n  write the secret into it, or delete it"],
    ),
    "blank": (
        _secret(b" \n"),
        {},
        ["error: secrets/HF_TOKEN: is empty or larger than 64 KiB\n  write the secret into it, or delete it"],
    ),
    "large": (
        _secret(b"x" * 70000),
        {},
        ["error: secrets/HF_TOKEN: is empty or larger than 64 KiB\n  write the secret into it, or delete it"],
    ),
    "two-lines": (
        _secret(b"hf_secret\nmore\n"),
        {},
        ["error: secrets/HF_TOKEN: has more than one line\n  a secret is one line of text"],
    ),
    "both": (
        None,
        {"HF_TOKEN": "hf_secret", "HF_TOKEN_FILE": "/x"},
        ["error: HF_TOKEN: set together with HF_TOKEN_FILE\n  set one of the two"],
    ),
    "file-not-there": (
        None,
        {"HF_TOKEN_FILE": "/nowhere/x"},
        ["error: /nowhere/x: no such file, but HF_TOKEN_FILE names it"],
    ),
}


@pytest.mark.parametrize("name", SECRETS)
def test_secret(tmp_path: Path, name: str) -> None:
    prepare, environment, problems = SECRETS[name]
    if prepare:
        prepare(tmp_path / "HF_TOKEN")
    found = [str(problem) for problem in secret_files.check(tmp_path, environment)]
    assert found == problems
    assert "hf_secret" not in "".join(found)


@pytest.mark.parametrize("name", ["folder", "link-to-nothing", "both", "file-not-there", "empty", "two-lines"])
def test_secret_stops_the_start(root: Path, tmp_path: Path, name: str) -> None:
    prepare, environment, problems = SECRETS[name]
    (root / "secrets").mkdir()
    if prepare:
        prepare(root / "secrets" / "HF_TOKEN")
    folders = {"STACK_ROOT": str(root), "STATE_DIR": str(tmp_path / "state"), "ENVS_DIR": str(tmp_path / "envs")}
    done = subprocess.run(
        [sys.executable, "-m", "stack", "up", "--model", "minilm"],
        env={**os.environ, **folders, "RUNTIME": "native", **environment},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 2, done.stderr
    assert problems[0] in done.stderr
    assert "hf_secret" not in done.stdout + done.stderr
    assert [path for path in (tmp_path / "state").rglob("*") if path.name != "releases"] == []
    assert not (tmp_path / "envs").exists()
