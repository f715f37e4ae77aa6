"""The chat page: what it is told, what it may see, and that nothing depends on it."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from stack import cli, plan
from stack.errors import DisturbedError, Problem, RunError
from stack.releases import Releases
from stack.runtime import chat, containers, probe
from stack.runtime.docker import Docker
from stack.runtime.layout import Layout
from stack.runtime.probe import Health
from stack.runtime.spec import Service, write_services
from stack.runtime.watch import Part, Watch, all_ready

ENTRY = Path(__file__).resolve().parents[3] / "scripts" / "chat_entrypoint.sh"
CALLER = {"PATH": "/usr/bin:/bin", "https_proxy": "http://proxy:3128", "OPENAI_API_KEY": "never-to-be-seen", "LANG": "C"}


@pytest.fixture
def layout(root: Path, tmp_path: Path) -> Layout:
    return Layout(root, tmp_path / "state", tmp_path / "secrets", tmp_path / "envs")


def made(layout: Layout, *overrides: str) -> plan.Plan:
    return plan.make(layout.root, {}, ["CHAT=true", *overrides], "smollm2-135m")


def service(layout: Layout, *overrides: str) -> Service:
    return chat.service(made(layout, *overrides), layout, layout.environments / "chat", CALLER)


def test_what_it_is_told(layout: Layout) -> None:
    page = service(layout)
    assert (page.name, page.host, page.port) == ("chat", "127.0.0.1", 3000)
    assert page.argv == ("bash", str(ENTRY))
    assert page.env == {
        "PATH": f"{layout.environments}/chat/bin:/usr/bin:/bin",
        "LANG": "C",
        "CHAT_ADDRESS": "127.0.0.1",
        "CHAT_PORT": "3000",
        "CHAT_LOGIN": "false",
        "LOCAL_KEY": "true",
        "GATEWAY_URL": "http://127.0.0.1:4000",
        "LISTEN_ADDRESS": "127.0.0.1",
        "LISTEN_PORT": "3000",
        "CHAT_DATA": str(layout.state / "chat"),
        "SECRETS_DIR": str(layout.secrets),
        "PYTHONUNBUFFERED": "1",
    }


def test_the_gateways_address_is_not_its_own(layout: Layout) -> None:
    page = service(layout, "BIND_ADDRESS=0.0.0.0", "LOCAL_KEY=false", "LITELLM_PORT=4400")
    assert (page.host, page.env["LISTEN_ADDRESS"]) == ("127.0.0.1", "127.0.0.1")
    assert page.env["GATEWAY_URL"] == "http://127.0.0.1:4400"


@pytest.mark.parametrize(
    ("overrides", "anew"),
    [
        (["MODEL=minilm", "litellm.temperature=0", "LITELLM_REQUEST_TIMEOUT=7"], False),
        (["CHAT_PORT=3001"], True),
        (["CHAT_LOGIN=true"], True),
        (["LITELLM_PORT=4001"], True),
    ],
    ids=["model", "port", "login", "gateway"],
)
def test_it_is_started_anew_only_for_its_own_settings(layout: Layout, overrides: list[str], anew: bool) -> None:
    assert (service(layout).digest != service(layout, *overrides).digest) is anew


def test_a_new_key_starts_it_anew(layout: Layout) -> None:
    before = service(layout).digest
    layout.secrets.mkdir()
    (layout.secrets / "CHAT_API_KEY").write_text("sk-secret")
    after = service(layout)
    assert after.digest != before
    assert "sk-secret" not in json.dumps(asdict(after))


def test_without_the_local_key_it_needs_one_of_its_own(layout: Layout) -> None:
    resolved = made(layout, "LOCAL_KEY=false").resolved
    (problem,) = chat.check(resolved, layout.secrets)
    assert problem.place == "secrets/CHAT_API_KEY"
    assert "docs/chat.md" in problem.cure
    layout.secrets.mkdir()
    (layout.secrets / "CHAT_API_KEY").write_text("sk-secret")
    assert chat.check(resolved, layout.secrets) == []


def test_it_needs_none_otherwise(layout: Layout) -> None:
    assert chat.check(made(layout).resolved, layout.secrets) == []
    assert chat.check(plan.make(layout.root, {}, ["LOCAL_KEY=false"], "minilm").resolved, layout.secrets) == []


def test_its_address_is_shown_only_if_it_is_asked_for(layout: Layout) -> None:
    assert chat.url(made(layout, "CHAT_PORT=3001").resolved) == "http://127.0.0.1:3001"
    assert chat.url(made(layout, "CHAT_ADDRESS=::", "CHAT_LOGIN=true").resolved) == "http://[::1]:3000"
    assert chat.url(plan.make(layout.root, {}, [], "minilm").resolved) == ""


READY = [Part(name, "ready", "") for name in ("database", "engine", "gateway")]


def test_the_api_is_ready_without_it() -> None:
    assert all_ready(READY)
    assert all_ready([*READY, Part("chat", "restarting", "exit status 1")])
    assert not all_ready([*READY[:2], Part("gateway", "starting", ""), Part("chat", "ready", "")])
    assert not all_ready([Part("chat", "ready", "")])
    assert not all_ready([])


def test_status_lists_it_only_if_it_is_asked_for(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    layout.run.mkdir(parents=True)
    watch = Watch(layout)
    assert [part.name for part in watch.parts()] == ["database", "engine", "gateway"]
    page = service(layout)
    write_services(layout.run / "services.json", [page])
    assert watch.parts()[-1] == Part("chat", "stopped", "not started")
    monkeypatch.setattr(watch, "_records", lambda: {"chat": {"digest": page.digest, "restarts": 0}})
    monkeypatch.setattr(watch, "_part", lambda service, record: Part(service.name, "ready", ""))
    assert watch.parts({"chat": page.digest}, without={"database", "engine", "gateway"}) == [Part("chat", "ready", "")]
    assert watch.parts({"chat": "another"}, without={"database", "engine", "gateway"})[0].state == "starting"
    assert not watch.runs_as("engine", {})


@pytest.mark.parametrize(("status", "ready"), [(200, True), (503, False), (0, False)])
def test_its_health(monkeypatch: pytest.MonkeyPatch, status: int, ready: bool) -> None:
    monkeypatch.setattr(probe, "get", lambda url: (status, None) if url == "http://127.0.0.1:3000/health" else (0, url))
    detail = "http://127.0.0.1:3000" if ready else "does not answer yet"
    assert probe.chat("0.0.0.0", 3000) == Health(ready, detail)


def test_a_release_from_before_it_comes_back_without_it(layout: Layout) -> None:
    known = Releases(layout.releases)
    release = known.propose(layout.root, {}, [], plan.make(layout.root, {}, [], "minilm"), "native")
    with_page = known.propose(layout.root, {}, ["CHAT=true"], plan.make(layout.root, {}, ["CHAT=true"], "minilm"), "native")
    assert (release.plan().resolved["CHAT"], with_page.plan().resolved["CHAT"]) == (False, True)


@pytest.fixture
def entry(tmp_path: Path) -> Any:
    """Runs the entry with a Python that shows what it was started with."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "secrets").mkdir()
    python = tmp_path / "bin" / "python3"
    python.write_text('#!/bin/sh\necho "argv: $*"\necho "cwd: $PWD"\nenv\n')
    python.chmod(0o755)

    def run(**given: str) -> tuple[int, dict[str, str], str]:
        env = {
            "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
            "CHAT_ADDRESS": "127.0.0.1",
            "CHAT_PORT": "3000",
            "CHAT_LOGIN": "false",
            "LOCAL_KEY": "true",
            "GATEWAY_URL": "http://127.0.0.1:4000",
            "LISTEN_ADDRESS": "127.0.0.1",
            "LISTEN_PORT": "3000",
            "CHAT_DATA": str(tmp_path / "data"),
            "SECRETS_DIR": str(tmp_path / "secrets"),
            **given,
        }
        done = subprocess.run(["bash", str(ENTRY)], env=env, capture_output=True, text=True)
        shown = dict(re.findall(r"^(\w+)(?:=|: )(.*)$", done.stdout, re.M))
        return done.returncode, shown, done.stderr

    return run


def test_the_entry_starts_the_page(entry: Any, tmp_path: Path) -> None:
    status, shown, errors = entry()
    assert (status, errors) == (0, "")
    assert shown["argv"] == "-m uvicorn chat_app:app --host 127.0.0.1 --port 3000 --timeout-graceful-shutdown 5"
    assert shown["cwd"] == shown["DATA_DIR"] == f"{tmp_path}/data/single"
    assert (shown["OPENAI_API_BASE_URL"], shown["OPENAI_API_KEY"]) == ("http://127.0.0.1:4000/v1", "sk-FAKE")
    assert shown["CORS_ALLOW_ORIGIN"].split(";")[:2] == ["http://127.0.0.1:3000", "http://localhost:3000"]
    off = "WEBUI_AUTH ENABLE_OLLAMA_API ENABLE_PERSISTENT_CONFIG ENABLE_VERSION_UPDATE_CHECK ENABLE_COMMUNITY_SHARING "
    off += "ENABLE_TITLE_GENERATION ENABLE_TAGS_GENERATION ENABLE_FOLLOW_UP_GENERATION ENABLE_PLUGINS ENABLE_WEB_SEARCH"
    assert {name: shown[name] for name in off.split()} == dict.fromkeys(off.split(), "false")
    assert (shown["OFFLINE_MODE"], shown["HF_HUB_OFFLINE"], shown["USE_SLIM_DOCKER"]) == ("true", "1", "true")


def test_what_it_made_stays_and_is_private(entry: Any, tmp_path: Path) -> None:
    first, second = entry()[1]["WEBUI_SECRET_KEY"], entry()[1]["WEBUI_SECRET_KEY"]
    assert first == second
    assert len(first) >= 40
    assert (tmp_path / "data").stat().st_mode & 0o077 == 0
    assert (tmp_path / "data" / "session-key").stat().st_mode & 0o077 == 0


def test_with_a_login_it_is_another_page_with_an_administrator(entry: Any, tmp_path: Path) -> None:
    entry()
    status, shown, _ = entry(CHAT_LOGIN="true", CHAT_ADDRESS="0.0.0.0")
    assert (status, shown["WEBUI_AUTH"], shown["ENABLE_SIGNUP"]) == (0, "true", "false")
    assert shown["DATA_DIR"] == f"{tmp_path}/data/accounts"
    assert shown["WEBUI_ADMIN_PASSWORD"] == (tmp_path / "data" / "admin-password").read_text()
    assert len(shown["WEBUI_ADMIN_PASSWORD"]) >= 40


def test_its_own_key_is_preferred(entry: Any, tmp_path: Path) -> None:
    (tmp_path / "secrets" / "CHAT_API_KEY").write_text("sk-of-its-own\n")
    for local in ("true", "false"):
        shown = entry(LOCAL_KEY=local)[1]
        assert shown["OPENAI_API_KEY"] == "sk-of-its-own"
        assert "CHAT_API_KEY" not in shown
        assert "sk-of-its-own" not in shown["argv"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"CHAT_ADDRESS": "0.0.0.0"}, "CHAT_ADDRESS=0.0.0.0 would let other machines use and administer the chat page"),
        ({"CHAT_LOGIN": "maybe"}, "CHAT_LOGIN=maybe: expected true or false"),
        ({"LOCAL_KEY": "false"}, "secrets/CHAT_API_KEY is missing"),
    ],
    ids=["open", "login", "key"],
)
def test_the_entry_refuses(entry: Any, given: dict[str, str], message: str) -> None:
    status, shown, errors = entry(**given)
    assert status == 2
    assert message in errors
    assert "argv" not in shown


class Notes:
    """Remembers what was reported."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def phase(self, name: str, text: str, done: float | None = None) -> None:
        """Nothing."""

    def finished(self, name: str, text: str) -> None:
        self.lines.append(f"{name}: {text.partition(' after ')[0]}")

    def note(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def docker(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The docker runtime of an accepted release with the page, whose calls of Compose are only noted."""
    known = Releases(layout.releases)
    known.activate(known.propose(layout.root, {}, ["CHAT=true"], made(layout), "docker"))
    layout.run.mkdir(parents=True, exist_ok=True)
    runtime: Any = Docker(layout)
    runtime.calls = []
    monkeypatch.setattr(runtime, "_compose", lambda env, *arguments, report: runtime.calls.append(arguments))
    return runtime


def test_in_docker_it_is_a_profile_of_its_own(docker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "parts", lambda secrets, without: [Part("chat", "ready", "")])
    notes = Notes()
    docker.start_chat({}, notes)
    assert docker.calls == [("--profile", "chat", "up", "-d", "--no-build", "chat")]
    assert notes.lines == ["chat: ready"]


def test_in_docker_it_is_given_up_like_the_others(docker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    restarts = iter(range(10))
    monkeypatch.setattr(
        containers, "parts", lambda secrets, without: [Part("chat", "restarting", "exited with 1", restarts=next(restarts))]
    )
    monkeypatch.setattr(containers, "inspect", dict)
    with pytest.raises(RunError, match="exited with 1") as caught:
        docker.start_chat({}, Notes())
    assert "./runMe.sh logs chat" in caught.value.problems[0].cure
    assert next(restarts) == 3


def test_a_page_that_somebody_stopped_is_not_waited_for(docker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "parts", lambda secrets, without: [])
    with pytest.raises(DisturbedError, match="another"):
        docker.start_chat({}, Notes())
    known = Releases(docker.layout.releases)
    known.activate(known.propose(docker.layout.root, {}, [], plan.make(docker.layout.root, {}, [], "minilm"), "docker"))
    with pytest.raises(DisturbedError, match="another"):
        docker.start_chat({}, Notes())
    assert len(docker.calls) == 1


class Runtime:
    """Whose page does not come up."""

    asked = 0

    def start_chat(self, environ: Any, report: Any) -> None:
        self.asked += 1
        raise RunError(Problem("chat environment", "failed: no network", "all of it: chat.log"))


def test_its_failure_is_told_and_nothing_more(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    runtime = Runtime()
    cli._start_beside(runtime, made(layout), {})
    assert "the chat page is not there, the API is: chat environment: failed: no network" in capsys.readouterr().err
    cli._start_beside(runtime, plan.make(layout.root, {}, [], "minilm"), {})
    assert runtime.asked == 1
