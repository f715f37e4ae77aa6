"""The chat page: one setting brings it up beside the API, and takes it away again."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness import QUESTION, Stack, free_port, wait_for
from stack.runtime import install
from stack.runtime.layout import Layout
from stack.runtime.report import Silent

pytestmark = [
    pytest.mark.last,
    pytest.mark.only("native", reason="Open WebUI's image cannot be had where these tests run; unit tests compare the two"),
    pytest.mark.timeout(1500),
]
ANSWER = "The capital of France is Paris."


class Page:
    """The chat page of a stack."""

    def __init__(self, stack: Stack, port: int) -> None:
        self.stack = stack
        self.base = f"http://127.0.0.1:{port}"
        self.settings: dict[str, Any] = {"CHAT": "true", "CHAT_PORT": str(port)}

    def up(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Repeatable answers, as a test of words needs them."""
        return self.stack.run("up", "--set", "litellm.temperature=0", *arguments, **self.settings)

    def part(self) -> dict[str, Any]:
        """Its line of `status`; empty if there is none."""
        return next((part for part in self.stack.status()["parts"] if part["name"] == "chat"), {})

    def token(self) -> str:
        """Of its one user."""
        status, body = self.stack.call("/api/v1/auths/signin", {"email": "", "password": ""}, base=self.base)
        assert status == 200
        return str(body["token"])


@pytest.fixture(scope="module")
def page(started: Stack) -> Iterator[Page]:
    """Up, with the engine serving at temperature 0."""
    made = Page(started, free_port())
    try:
        yield made
    finally:
        started.restore()
        started.run()
        started.changed = False


def posts(stack: Stack) -> int:
    """Requests for text that the gateway has had."""
    return len(re.findall(r'"POST /v1/chat/completions HTTP/1.1" 200', stack.log("gateway")))


def test_one_setting_brings_it_up(page: Page) -> None:
    assert page.part() == {}
    done = page.up()
    assert f"Chat page      {page.base}" in done.stdout
    assert "chat: ready after" in done.stderr
    # The API is announced first.
    assert done.stderr.index("engine: ready after") < done.stderr.index("chat: ")
    part = page.part()
    assert (part["state"], part["detail"]) == ("ready", page.base)
    status, body = page.stack.call("/", base=page.base)
    assert status == 200
    assert "<title>Open WebUI</title>" in body


def test_its_own_api_reaches_the_gateway(page: Page) -> None:
    token, before = page.token(), posts(page.stack)
    status, models = page.stack.call("/api/models", key=token, base=page.base)
    assert (status, {model["id"] for model in models["data"]}) == (200, {"vllm_agent", "smollm2-135m"})
    body = {"model": "vllm_agent", "messages": [{"role": "user", "content": QUESTION}]}
    status, answer = page.stack.call("/api/chat/completions", body, key=token, base=page.base)
    assert (status, answer["choices"][0]["message"]["content"]) == (200, ANSWER)
    wait_for(lambda: posts(page.stack) == before + 1, "the gateway's log")


@pytest.mark.parametrize("kind", ["functions", "tools"])
def test_no_code_that_a_user_types_runs(page: Page, tmp_path: Path, kind: str) -> None:
    proof = tmp_path / "proof"
    content = f"import pathlib\npathlib.Path({str(proof)!r}).touch()\nclass Pipe:\n    pass\nclass Tools:\n    pass\n"
    body = {"id": "mine", "name": "mine", "content": content, "meta": {"description": ""}}
    status, _ = page.stack.call(f"/api/v1/{kind}/create", body, key=page.token(), base=page.base)
    assert status in (400, 403, 404)
    assert not proof.exists()


def test_only_this_machine_and_no_other_site_may_use_it(page: Page) -> None:
    for header in ("Host: elsewhere.example", "Origin: http://elsewhere.example"):
        argv = [
            "curl",
            "-s",
            "-o",
            os.devnull,
            "-w",
            "%{http_code}",
            "--noproxy",
            "*",
            "-H",
            header,
            f"{page.base}/api/config",
        ]
        assert subprocess.run(argv, capture_output=True, text=True).stdout == "403"
    listening = subprocess.run(["ss", "-Hltn"], capture_output=True, text=True).stdout
    port = page.settings["CHAT_PORT"]
    assert [line.split()[3] for line in listening.splitlines() if line.split()[3].endswith(f":{port}")] == [
        f"127.0.0.1:{port}"
    ]


def chromium() -> str:
    """A Chromium of this machine; installed by root on Debian, as tests/docker does with Docker."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    debian = "ID=debian" in Path("/etc/os-release").read_text().splitlines()
    if not found and os.geteuid() == 0 and debian:
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update"], ["install", "-y", "--no-install-recommends", "chromium"]):
            subprocess.run(["apt-get", *command], env=env, capture_output=True)
        found = shutil.which("chromium")
    if not found:
        pytest.skip("there is no Chromium here, and one is installed only by root on Debian")
    return found


def test_a_person_asks_in_a_browser(page: Page, tmp_path: Path) -> None:
    program = chromium()
    before = posts(page.stack)
    layout = Layout.from_environ(page.stack.env)
    python = install.ensure(layout, "browser", Silent()) / "bin" / "python"
    picture = tmp_path / "chat.png"
    script = Path(__file__).with_name("chat_browser.py")
    argv = [str(python), str(script), program, page.base, QUESTION, ANSWER, str(picture)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [page.base.removeprefix("http://")], "nothing comes from elsewhere"
    assert picture.stat().st_size > 10_000
    assert posts(page.stack) == before + 1, "one request for a question: no titles, tags or suggestions"


def test_a_page_that_ends_comes_back_and_disturbs_nobody(page: Page) -> None:
    before = page.stack.pids()
    os.kill(before["chat"], 9)
    assert page.stack.run("status", check=False).returncode == 0, "the API is there"
    wait_for(lambda: page.part()["state"] == "ready" and page.part()["restarts"] == 1, "the page")
    assert {**page.stack.pids(), "chat": 0} == {**before, "chat": 0}
    assert "Started server process" in page.stack.run("logs", "chat").stdout


def test_what_keeps_the_page_from_starting_does_not_keep_the_api(page: Page) -> None:
    """Its data cannot be written; the rest is as it was, and `up` says so and succeeds."""
    data = page.stack.root / "state" / "chat"
    before = page.stack.pids()
    page.stack.run("up", "--set", "litellm.temperature=0", CHAT="false")
    data.rename(data.with_name("kept"))
    data.write_text("in the way")
    done = page.up()
    assert "the chat page is not there, the API is" in done.stderr
    assert page.stack.call("/v1/models")[0] == 200
    data.unlink()
    data.with_name("kept").rename(data)
    wait_for(lambda: page.part()["state"] == "ready", "the page")
    assert {**page.stack.pids(), "chat": 0} == {**before, "chat": 0}


def test_switched_off_it_goes_alone_and_leaves_its_data(page: Page) -> None:
    before = page.stack.pids()
    done = page.stack.run("up", "--set", "litellm.temperature=0", CHAT="false")
    assert "Chat page" not in done.stdout
    wait_for(lambda: page.stack.call("/health", base=page.base)[0] == 0, "the page to be gone")
    assert page.part() == {}
    before.pop("chat")
    assert page.stack.pids() == before
    assert (page.stack.root / "state" / "chat" / "single" / "webui.db").is_file()


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"CHAT_ADDRESS": "0.0.0.0"}, "CHAT_ADDRESS=0.0.0.0 would let other machines use and administer the chat page"),
        (
            {"LOCAL_KEY": "false"},
            "secrets/CHAT_API_KEY: is missing: with LOCAL_KEY=false the chat page needs a key of its own",
        ),
    ],
    ids=["open", "key"],
)
def test_refused_before_anything_changes(page: Page, given: dict[str, str], problem: str) -> None:
    before = page.stack.pids()
    done = page.stack.run(check=False, **page.settings, **given)
    assert done.returncode == 2
    assert problem in done.stderr
    assert page.stack.pids() == before
