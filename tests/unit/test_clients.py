"""`client`: every set-up as it is printed, what becomes of a user's files, and the command."""

from __future__ import annotations

import json
import os
import subprocess
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from stack import cli, plan
from stack.clients import registry, setup, write
from stack.clients.setup import Endpoint, File, Key
from stack.errors import ConfigError
from stack.releases import GOOD, Releases

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "clients"
NAMES = [client.name for client in registry.CLIENTS]
AGENTS = ("claude-code", "codex", "aider", "llm")
CHAT = Endpoint(
    "http://127.0.0.1:4000", Key("sk-FAKE"), "qwen3", ("qwen3", "vllm_agent"), 131072, 32768, tools=True, reasons=True
)
EMBED = replace(CHAT, model="minilm", names=("minilm", "vllm_agent"), context=256, max_output=64, embeds=True, tools=False)
UNKNOWN = replace(CHAT, key=Key(None))


def made(name: str, to: Endpoint = CHAT) -> setup.Setup:
    """The set-up of a client by name."""
    return registry.render(registry.find(name)[0], to)


@pytest.mark.parametrize("name", NAMES)
def test_golden(name: str) -> None:
    """UPDATE_GOLDEN=1 writes them anew."""
    cases = {"the local key": CHAT, "a key of one's own": UNKNOWN}
    if registry.find(name)[0].embeds:
        cases["a model that embeds"] = EMBED
    text = "".join(f"===== {title}\n{made(name, to).text}" for title, to in cases.items())
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.mkdir(exist_ok=True)
        (GOLDEN / f"{name}.txt").write_text(text)
    assert text == (GOLDEN / f"{name}.txt").read_text()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("to", [CHAT, UNKNOWN], ids=["local", "unknown"])
def test_scripts_parse(name: str, to: Endpoint) -> None:
    """Python compiles, a shell takes the rest; files are what their names say."""
    shown = made(name, to)
    if shown.text.startswith(("from ", "import os")):
        compile(shown.text, name, "exec")
    elif name in ("curl", "open-webui", *AGENTS):
        assert subprocess.run(["bash", "-n"], input=shown.text, text=True).returncode == 0
    for file in shown.files:
        {".json": json.loads, ".toml": tomllib.loads}.get(Path(file.name).suffix, yaml.safe_load)(file.text)


@pytest.mark.parametrize("name", AGENTS)
@pytest.mark.parametrize("folders", [{}, {"CODEX_HOME": "c o", "LLM_USER_PATH": "l m"}], ids=["usual", "moved"])
def test_printed_script_makes_the_same_files(tmp_path: Path, name: str, folders: Mapping[str, str]) -> None:
    """Run with programs that only say how they were called; twice, as people do."""
    shown = made(name)
    folder = folders.get("LLM_USER_PATH", ".config/io.datasette.llm")
    (tmp_path / folder).mkdir(parents=True)
    for program in ("claude", "codex", "aider", "llm"):
        said = f'[ "$1 $2" != "logs path" ] || echo "$PWD/{folder}/logs.db"; [ "$1" = logs ] || env >called; echo "$0 $*" >>calls'
        (tmp_path / program).write_text(f"#!/bin/sh\n{said}\n")
        (tmp_path / program).chmod(0o755)
    environment = {**folders, "HOME": str(tmp_path), "PATH": f"{tmp_path}:/usr/bin:/bin", "ANTHROPIC_API_KEY": "sk-other"}
    for _ in range(2):
        subprocess.run(["bash", "-eu"], input=shown.text, text=True, cwd=tmp_path, env=environment, check=True)
    for file in shown.files:
        if name != "claude-code" and file.name != ".aider.conf.yml":  # those set variables instead
            assert write.place(file, environment, tmp_path).read_text() == file.text
    seen = dict(line.split("=", 1) for line in (tmp_path / "called").read_text().splitlines() if "=" in line)
    assert seen | dict(shown.environment) == seen
    assert name != "claude-code" or "ANTHROPIC_API_KEY" not in seen
    assert shown.command.replace("'", "") in (tmp_path / "calls").read_text()


def test_claude_code_settings() -> None:
    shown = made("claude-code")
    assert shown.files[0].name == ".claude/settings.local.json"
    assert json.loads(shown.files[0].text)["env"] == {
        "ANTHROPIC_BASE_URL": "http://127.0.0.1:4000",
        "ANTHROPIC_AUTH_TOKEN": "sk-FAKE",
        "ANTHROPIC_MODEL": "qwen3",
        "ANTHROPIC_DEFAULT_OPUS_MODEL": "qwen3",
        "ANTHROPIC_DEFAULT_SONNET_MODEL": "qwen3",
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": "qwen3",
        "ANTHROPIC_DEFAULT_FABLE_MODEL": "qwen3",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "CLAUDE_CODE_ATTRIBUTION_HEADER": "0",
        "CLAUDE_CODE_MAX_CONTEXT_TOKENS": "131072",
        "CLAUDE_CODE_MAX_OUTPUT_TOKENS": "32768",
    }
    assert shown.notes == ()


def test_codex_profile() -> None:
    assert tomllib.loads(made("codex").files[0].text) == {
        "model": "qwen3",
        "model_provider": "vllm",
        "model_context_window": 131072,
        "web_search": "disabled",
        "model_providers": {
            "vllm": {
                "name": "vLLM Multi-Model Server",
                "base_url": "http://127.0.0.1:4000/v1",
                "env_key": "GATEWAY_API_KEY",
                "wire_api": "responses",
            }
        },
    }


def test_aider_files() -> None:
    config, metadata = made("aider").files
    url = "http://127.0.0.1:4000/v1"
    assert yaml.safe_load(config.text) == {"model": "openai/qwen3", "openai-api-base": url, "openai-api-key": "sk-FAKE"}
    limits = json.loads(metadata.text)["openai/qwen3"]
    assert (limits["max_input_tokens"], limits["max_output_tokens"], limits["litellm_provider"]) == (131072, 32768, "openai")


def test_llm_entry() -> None:
    assert yaml.safe_load(made("llm").files[0].text) == [
        {
            "model_id": "qwen3",
            "model_name": "qwen3",
            "api_base": "http://127.0.0.1:4000/v1",
            "api_key_name": "vllm",
            "supports_schema": True,
            "supports_tools": True,
        }
    ]


def test_continue_block() -> None:
    """A block has one model (config-yaml 1.42.0, blockSchema)."""
    assert yaml.safe_load(made("continue").text) == {
        "name": "vLLM Multi-Model Server",
        "version": "1.0.0",
        "schema": "v1",
        "models": [
            {
                "name": "qwen3",
                "provider": "openai",
                "model": "qwen3",
                "apiBase": "http://127.0.0.1:4000/v1",
                "apiKey": "sk-FAKE",
                "roles": ["chat", "edit", "apply", "summarize"],
                "capabilities": ["tool_use"],
                "defaultCompletionOptions": {"contextLength": 131072, "maxTokens": 32768},
            }
        ],
    }
    assert yaml.safe_load(made("continue", UNKNOWN).text)["models"][0]["apiKey"] == "${{ secrets.GATEWAY_API_KEY }}"
    assert yaml.safe_load(made("continue", EMBED).text)["models"][0]["roles"] == ["embed"]


def test_copilot_group() -> None:
    """No apiKey: VS Code takes keys from its own store only."""
    (group,) = json.loads(made("copilot").text)
    assert set(group) == {"vendor", "name", "apiType", "models"}
    assert (group["vendor"], group["apiType"]) == ("customendpoint", "chat-completions")
    (model,) = group["models"]
    assert model["url"] == "http://127.0.0.1:4000/v1/chat/completions"
    assert model["maxInputTokens"] + model["maxOutputTokens"] == 131072
    assert model["requestHeaders"] == {"authorization": "Bearer sk-FAKE"}
    assert "requestHeaders" not in json.loads(made("copilot", UNKNOWN).text)[0]["models"][0]


def test_no_secret_in_what_names_a_variable() -> None:
    for name in NAMES:
        shown = made(name, UNKNOWN)
        assert "sk-" not in shown.text + "".join(file.text for file in shown.files), name
        assert "None" not in shown.text, name
        assert name in ("copilot", "codex") or "GATEWAY_API_KEY" in shown.text


@pytest.mark.parametrize("name", ["claude-code", "aider", "continue", "copilot"])
def test_files_with_a_secret_say_so(name: str) -> None:
    shown = made(name, replace(CHAT, key=Key("sk-mine", secret=True)))
    assert [file.secret for file in shown.files] == ["sk-mine" in file.text for file in shown.files]
    assert any(file.secret for file in shown.files)


@pytest.mark.parametrize("name", [client.name for client in registry.CLIENTS if not client.embeds])
def test_embedding_model_and_a_client_that_chats(name: str) -> None:
    with pytest.raises(ConfigError, match=r"minilm embeds and does not chat.*\n.*curl, openai-python"):
        made(name, EMBED)


def test_unknown_context() -> None:
    """Limits are left out where they may be."""
    to = replace(CHAT, context=None, max_output=None)
    for name in NAMES:
        if name == "copilot":
            with pytest.raises(ConfigError, match="give --max-model-len"):
                made(name, to)
        else:
            assert "None" not in made(name, to).text
            assert "null" not in made(name, to).text


def test_notes_for_agents() -> None:
    small = replace(CHAT, context=8192, max_output=2048, tools=False)
    assert made("claude-code", small).notes == (
        "Claude Code needs about 20000 tokens for its first request; qwen3 takes 8192",
        "qwen3 is served without --enable-auto-tool-choice, and Claude Code works by tool calls",
    )


def test_endpoint(root: Path) -> None:
    glm = setup.endpoint(plan.make(root, {"MODEL": "glm47-flash", "BIND_ADDRESS": "0.0.0.0", "LOCAL_KEY": "false"}, []))
    assert glm == Endpoint(
        url="http://127.0.0.1:4000",
        key=Key(None),
        model="glm47-flash",
        names=("glm47-flash", "vllm_agent"),
        context=131072,
        max_output=32768,  # its own is all of the context
        tools=True,
        reasons=True,
    )
    small = setup.endpoint(plan.make(root, {"MODEL": "smollm2-135m", "LITELLM_PORT": "4100"}, []))
    assert (small.url, small.key, small.context, small.max_output) == ("http://127.0.0.1:4100", Key("sk-FAKE"), 8192, 2048)
    assert not small.tools
    assert setup.endpoint(plan.make(root, {"MODEL": "minilm"}, [])).embeds
    assert setup.endpoint(plan.make(root, {}, []), "sk-mine").key == Key("sk-mine", secret=True)
    assert setup.endpoint(plan.make(root, {}, []), "sk-FAKE").key == Key("sk-FAKE")


@pytest.mark.parametrize(
    ("value", "text"),
    [("step-3.5-flash", "step-3.5-flash"), ("http://[::1]:4000/v1", '"http://[::1]:4000/v1"'), ("no", '"no"'), ("3", '"3"')],
)
def test_yaml_values(value: str, text: str) -> None:
    assert setup.yaml_pairs({"a": value, "b": None}) == [("a", text)]
    assert yaml.safe_load(f"a: {text}") == {"a": value}


# Files


def put(folder: Path, *files: File, **environ: str) -> list[tuple[Path, bool]]:
    """Write them for a user whose home is `folder`/home."""
    return write.write(files, {"HOME": str(folder / "home"), **environ}, folder)


def test_new_files(tmp_path: Path) -> None:
    env = File(".claude/settings.local.json", '{"env": {}}\n')
    profile = File("vllm.config.toml", "model = 1\n", "~/.codex", "CODEX_HOME")
    assert put(tmp_path, env, profile) == [(tmp_path / env.name, True), (tmp_path / "home/.codex/vllm.config.toml", True)]
    assert (tmp_path / env.name).read_text() == env.text
    assert put(tmp_path, env, profile) == [(tmp_path / env.name, False), (tmp_path / "home/.codex/vllm.config.toml", False)]
    assert put(tmp_path, profile, CODEX_HOME=str(tmp_path / "x")) == [(tmp_path / "x/vllm.config.toml", True)]
    user = File("m.json", "[]", "~/.config/Code/User")
    assert put(tmp_path, user, XDG_CONFIG_HOME=str(tmp_path / "xdg")) == [(tmp_path / "xdg/Code/User/m.json", True)]


def test_json_keeps_what_is_the_users(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    path.write_text('{\n\t"permissions": {"allow": ["Bash(ls)"]},\n\t"env": {"MINE": "ü", "A": "old"},\n\t"z": 1.5\n}\n')
    assert put(tmp_path, File("s.json", '{"env": {"A": "new", "B": "2"}}')) == [(path, True)]
    assert path.read_text() == json.dumps(
        {"permissions": {"allow": ["Bash(ls)"]}, "env": {"MINE": "ü", "A": "new", "B": "2"}, "z": 1.5},
        indent="\t",
        ensure_ascii=False,
    ) + "\n"  # fmt: skip
    before = path.stat().st_mtime_ns
    assert put(tmp_path, File("s.json", '{"env": {"A": "new"}}')) == [(path, False)]
    assert path.stat().st_mtime_ns == before


def test_json_lists(tmp_path: Path) -> None:
    """VS Code's groups: the other ones stay, and in ours the reference to the key and other models."""
    path = tmp_path / "chatLanguageModels.json"
    ours: dict[str, Any] = json.loads(made("copilot", UNKNOWN).text)[0]
    other = {"vendor": "ollama", "name": ours["name"]}
    old = {
        **ours,
        "apiKey": "${input:chat.lm.secret.1}",
        "models": [{"id": "qwen3", "vision": True, "mine": 1}, {"id": "x"}],
    }
    path.write_text(json.dumps([other, old]))
    put(tmp_path, replace(made("copilot", UNKNOWN).files[0], folder="."))
    model = {"id": "qwen3", "vision": False, "mine": 1, **ours["models"][0]}
    assert json.loads(path.read_text()) == [other, {**old, "models": [model, {"id": "x"}]}]
    assert write.merge([1, 2], [2, 3]) == [1, 2, 3]


@pytest.mark.parametrize(
    ("name", "before"),
    [
        ("s.json", '{"a": 1} // mine'),
        ("s.json", '{"a": 1, "a": 2}'),
        ("s.json", "[]"),
        ("s.toml", "model = 2\n"),
        ("s.yml", "# mine\n"),
    ],
)
def test_refusals(tmp_path: Path, name: str, before: str) -> None:
    """Nothing is written, the other files neither; what to put there is said."""
    (tmp_path / name).write_text(before)
    with pytest.raises(ConfigError) as caught:
        put(tmp_path, File("other.json", "{}"), File(name, '{"wanted": 1}\n'))
    assert 'nothing was written\n  put this into it yourself:\n\n{"wanted": 1}\n' in str(caught.value)
    assert (tmp_path / name).read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_own_file_is_replaced_until_somebody_changes_it(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    for text in ("model = 1\n", "model = 2\n"):
        assert put(tmp_path, File("s.toml", text)) == [(path, True)]
        assert tomllib.loads(path.read_text()) == tomllib.loads(text)
    path.write_text(path.read_text() + "mine = 1\n")
    with pytest.raises(ConfigError, match="says something else"):
        put(tmp_path, File("s.toml", "model = 3\n"))
    path.write_text("model = 4\n")  # pasted
    assert put(tmp_path, File("s.toml", "model = 4\n")) == [(path, False)]


def test_permissions(tmp_path: Path) -> None:
    def mode(name: str) -> int:
        return (tmp_path / name).stat().st_mode & 0o777

    secret = File("secret.json", '{"key": 1}', secret=True)
    put(tmp_path, secret, File("plain.json", '{"key": 1}'))
    assert (mode("secret.json"), mode("plain.json")) == (0o600, 0o644)
    (tmp_path / "secret.json").chmod(0o644)
    assert put(tmp_path, secret) == [(tmp_path / "secret.json", False)]
    assert mode("secret.json") == 0o600
    (tmp_path / "secret.json").write_text("{}")
    (tmp_path / "secret.json").chmod(0o644)
    put(tmp_path, secret)
    assert mode("secret.json") == 0o600
    (tmp_path / "plain.json").chmod(0o600)
    put(tmp_path, File("plain.json", '{"key": 2}'))
    assert mode("plain.json") == 0o600


def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "real.json").write_text('{"mine": 1}')
    (tmp_path / "s.json").symlink_to("kept/real.json")
    assert put(tmp_path, File("s.json", '{"a": 2}')) == [(tmp_path / "kept/real.json", True)]
    assert (tmp_path / "s.json").is_symlink()
    assert json.loads((tmp_path / "kept" / "real.json").read_text()) == {"mine": 1, "a": 2}


# The command


@pytest.fixture
def run(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run `client` in a folder of its own: exit status, output, errors."""
    home = tmp_path / "home"
    (home / "project").mkdir(parents=True)
    monkeypatch.chdir(home / "project")
    # A port on which nothing listens.
    values = {
        "STACK_ROOT": root,
        "STATE_DIR": tmp_path / "state",
        "HOME": home,
        "LITELLM_PORT": "4",
        "SECRETS_DIR": tmp_path,
    }
    for key, value in values.items():
        monkeypatch.setenv(key, str(value))
    for key in ("CODEX_HOME", "XDG_CONFIG_HOME", "LLM_USER_PATH"):
        monkeypatch.delenv(key, raising=False)

    def call(*arguments: str) -> tuple[int, str, str]:
        status = cli.main(["client", *arguments])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return call


def test_list(run: Any) -> None:
    status, out, _ = run()
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()[1 : len(NAMES) + 1]] == NAMES
    assert [row["client"] for row in json.loads(run("--json")[1])] == NAMES
    assert [row["client"] for row in json.loads(run("vscode", "--json")[1])] == ["continue", "copilot"]


def test_unknown_name(run: Any) -> None:
    assert run("codx") == (
        2,
        "",
        "error: client codx: no such client\n  did you mean codex?\nnothing was started or changed\n",
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--write",), "name one of: curl, "),
        (("vscode", "--write"), "name one of: continue, copilot"),
        (("curl", "--write"), "has no configuration file of its own"),
        (("curl", "--key", ""), "is empty"),
        (("curl", "--key", "a\nb"), "characters that no key has"),
    ],
)
def test_wrong_use(run: Any, arguments: tuple[str, ...], message: str) -> None:
    status, out, error = run(*arguments)
    assert (status, out) == (2, "")
    assert message in error


def test_nothing_runs(run: Any) -> None:
    status, out, error = run("curl")
    assert status == 0
    assert error == "note: nothing runs yet; this is for glm47-flash, which ./runMe.sh would start\n"
    assert out.startswith("curl http://127.0.0.1:4/v1/chat/completions -H 'Authorization: Bearer sk-FAKE' ")


def test_the_release_counts(run: Any, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not what has been edited since."""
    known = Releases(tmp_path / "state" / "releases")
    environ = {"MODEL": "smollm2-135m", "LITELLM_PORT": "5"}
    release = known.propose(root, environ, [], plan.make(root, environ, []), "native")
    known.activate(known.mark(release, GOOD))
    monkeypatch.setenv("MODEL", "glm47-flash")
    status, out, error = run("openai-python")
    assert status == 0
    assert "note: smollm2-135m was served last, and nothing answers now: ./runMe.sh status\n" in error
    assert 'base_url="http://127.0.0.1:5/v1"' in out
    assert 'model="smollm2-135m"' in out
    monkeypatch.setattr("stack.clients.show.listens", lambda host, port: (host, port) == ("127.0.0.1", 5))
    assert "note: smollm2-135m is served; it also answers to vllm_agent\n" in run("openai-python")[2]


def test_json(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL", "smollm2-135m")
    data = json.loads(run("codex", "--json")[1])
    text = data["text"]
    assert list(data) == [
        "client", "url", "model", "context", "max_output_tokens", "environment", "files", "command", "text"
    ]  # fmt: skip
    assert data["environment"] == {"GATEWAY_API_KEY": "sk-FAKE"}
    assert (data["url"], data["context"], data["max_output_tokens"]) == ("http://127.0.0.1:4", 8192, 2048)
    assert data["command"] == "codex --profile vllm"
    assert data["files"][0]["path"] == str(Path.home() / ".codex/vllm.config.toml")
    assert data["files"][0]["text"] in text


def test_write(run: Any) -> None:
    path = Path.cwd() / ".claude" / "settings.local.json"
    status, out, error = run("claude-code", "--write")
    assert (status, out) == (0, f"wrote {path}\nstart it: claude\n")
    assert "Git" not in error
    assert path.stat().st_mode & 0o777 == 0o644
    assert run("claude-code", "--write")[1].startswith(f"already so: {path}\n")
    status, _, error = run("claude-code", "--write", "--key", "sk-mine")
    assert "note: the key is in a file of the project: keep that out of Git\n" in error
    assert path.stat().st_mode & 0o777 == 0o600
    assert json.loads(path.read_text())["env"]["ANTHROPIC_AUTH_TOKEN"] == "sk-mine"
    assert json.loads(run("claude-code", "--write", "--json")[1])["written"] == [str(path)]


def test_local_key_off(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The master key is never printed, and is told apart."""
    monkeypatch.setenv("LOCAL_KEY", "false")
    (tmp_path / "LITELLM_MASTER_KEY").write_text("sk-master\n")
    _, out, error = run("curl")
    assert '-H "Authorization: Bearer $GATEWAY_API_KEY"' in out
    assert (
        f'export GATEWAY_API_KEY=$(curl -s http://127.0.0.1:4/key/generate -H "Authorization: Bearer $(cat {tmp_path}'
        in error
    )
    assert "sk-" not in out + error.replace("sk-FAKE is off", "")
    _, out, error = run("curl", "--key", "sk-mine")
    assert "Bearer sk-mine" in out
    assert "key" not in error
    assert "this is the master key" in run("curl", "--key", "sk-master")[2]


def test_embedding_model(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL", "minilm")
    assert "/v1/embeddings" in run("curl")[1]
    status, out, error = run("aider")
    assert (status, out) == (2, "")
    assert "error: client aider: minilm embeds and does not chat; aider needs a model that chats\n" in error
