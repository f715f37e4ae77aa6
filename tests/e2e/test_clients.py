"""The programs that people use, at pinned versions, against the stack: each completes a turn, agents also a tool call.

The model has 135 million parameters: it understands no agent's prompt and would never call a tool. What is tested is
the wire: that a program's real request is taken, that what the real vLLM writes reaches the program as the tool call it
is, that the program runs the tool, and that the result reaches the model. To that end the model's chat template
(clients/chat.jinja) puts behind the conversation a text that the model goes on with: every token is the model's own,
its wish to write it is not. Where an SDK forces a tool or a schema, vLLM's grammar does it, without the template.

Run for real: Claude Code, Codex, Continue (its command line, which reads the same config.yaml as the extension), aider,
llm, LangChain, the SDKs of OpenAI and Anthropic for Node and Python, curl. VS Code's Copilot is not run: its file is
compared with the keys that its documentation names, and one request is sent as the file says.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anthropic
import pytest

from clients import programs
from clients.programs import Program
from harness import REPOSITORY, Stack, wait_for

pytestmark = [
    pytest.mark.last,
    pytest.mark.only("native", reason="what programs send does not depend on what the stack runs on"),
]
MODEL = "for-clients"
CONTEXT = 65536
NOTE = "The code is blue-whale-4711."
REPEAT = f"Repeat: {NOTE}"
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Paris"]}},
    "required": ["city"],
    "additionalProperties": False,
}
# What each program calls itself in the books.
AGENTS: set[str] = set()


def call_of(tool: str, **arguments: str) -> str:
    """A prompt that the model answers with this tool call."""
    return f"Repeat: <tool_call>{json.dumps({'name': tool, 'arguments': arguments})}</tool_call>"


@pytest.fixture(scope="module")
def served(started: Stack) -> Iterator[Stack]:
    """The stack serving the model with room for an agent's prompt, and with the template."""
    started.restore()
    fragment = (REPOSITORY / "models" / "smollm2-135m.yml").read_text()
    for old, new in (
        (
            "--max-model-len 8192 ",
            f"--max-model-len {CONTEXT} --hf-overrides '{{\"max_position_embeddings\": {CONTEXT}}}' "
            f"--chat-template {programs.HERE / 'chat.jinja'} --enable-auto-tool-choice --tool-call-parser hermes ",
        ),
        ("env:\n", 'env:\n  VLLM_ALLOW_LONG_MAX_MODEL_LEN: "1"\n'),
        ('VLLM_CPU_KVCACHE_SPACE: "2"', 'VLLM_CPU_KVCACHE_SPACE: "4"'),
        # Always the likeliest token: no program sets top_k, though some set a temperature.
        ("litellm:\n", "litellm:\n  top_k: 1\n  repetition_penalty: 1.0\n"),
    ):
        assert fragment.count(old) == 1, old
        fragment = fragment.replace(old, new)
    path = started.root / "models" / f"{MODEL}.yml"
    path.write_text(fragment)
    try:
        started.run("up", MODEL=MODEL)
        yield started
    finally:
        path.unlink()


@pytest.fixture(scope="module")
def since(served: Stack) -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


def program(stack: Stack, client: str, folder: Path, agent: str) -> Program:
    """A program set up for the stack, with a file to read in the folder it works in."""
    made = programs.program(stack, client, folder)
    (made.work / "note.txt").write_text(NOTE + "\n")
    AGENTS.add(agent)
    return made


def events(printed: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in printed.splitlines() if line.startswith("{")]


@pytest.mark.usefixtures("since")
class TestAgents:
    def test_claude_code_runs_a_tool(self, served: Stack, tmp_path: Path) -> None:
        claude = program(served, "claude-code", tmp_path, "claude-cli")
        asked = call_of("Bash", command="cat note.txt")
        shown = ["--output-format", "stream-json", "--verbose"]
        printed = claude.run("-p", asked, *shown, "--allowedTools", "Bash(cat:*)")
        seen = events(printed)
        said = [event["message"] for event in seen if event["type"] in ("assistant", "user")]
        blocks = [block for message in said for block in message["content"]]
        assert [block["type"] for block in blocks] == ["tool_use", "tool_result", "text"], printed
        assert (blocks[0]["name"], blocks[0]["input"]) == ("Bash", {"command": "cat note.txt"})
        assert (blocks[1]["content"], blocks[1]["is_error"]) == (NOTE, False)
        assert (blocks[2]["text"], seen[-1]["result"], seen[-1]["num_turns"]) == (NOTE, NOTE, 2)
        assert seen[-1]["usage"]["input_tokens"] > 2000, "its own prompt, though the template cuts it"
        assert seen[-1]["modelUsage"][MODEL]["contextWindow"] == CONTEXT

    def test_codex_runs_a_tool(self, served: Stack, tmp_path: Path) -> None:
        codex = program(served, "codex", tmp_path, "codex_exec")
        asked = call_of("exec_command", cmd="cat note.txt")
        # Its sandbox needs rights that a container may not give.
        free = "--dangerously-bypass-approvals-and-sandbox"
        printed = codex.run("--profile", "vllm", "exec", "--json", "--skip-git-repo-check", free, asked)
        items = [event["item"] for event in events(printed) if event["type"] == "item.completed"]
        ran = [item for item in items if item["type"] == "command_execution"]
        assert [(item["exit_code"], item["aggregated_output"].strip()) for item in ran] == [(0, NOTE)], printed
        assert items[-1]["text"] == NOTE, printed

    def test_continue_runs_a_tool(self, served: Stack, tmp_path: Path) -> None:
        cn = program(served, "continue", tmp_path, "ls/JS")  # what OpenAI's SDK is called after bundling
        config = ["--config", ".continue/models/vllm.yaml", "--auto"]
        assert cn.run(*config, "-p", call_of("Bash", command="cat note.txt")).strip() == NOTE

    def test_aider(self, served: Stack, tmp_path: Path) -> None:
        aider = program(served, "aider", tmp_path, "OpenAI/Python")
        quiet = ["--no-git", "--yes-always", "--no-check-update", "--analytics-disable", "--no-show-model-warnings"]
        assert NOTE in aider.run(*quiet, "--no-pretty", "--message", REPEAT)

    def test_llm(self, served: Stack, tmp_path: Path) -> None:
        llm = program(served, "llm", tmp_path, "OpenAI/Python")
        llm.run("keys", "set", "vllm", "--value", "sk-FAKE")  # as the set-up's note says: it keeps keys itself
        assert llm.run("-m", MODEL, REPEAT).strip() == NOTE


@pytest.mark.usefixtures("since")
class TestLibraries:
    def test_sdks_for_node(self, served: Stack, tmp_path: Path) -> None:
        node = program(served, "node", tmp_path, "OpenAI/JS")
        AGENTS.add("Anthropic/JS")
        # Beside its packages, where node looks for them.
        script = node.work / "sdks.mjs"
        script.write_text((programs.HERE / "sdks.mjs").read_text())
        paris = {"city": "Paris"}
        assert json.loads(node.run(str(script))) == {
            "answer": NOTE,
            "streamed": NOTE,
            "tool": paris,
            "structured": paris,
            "responses": NOTE,
            "message": NOTE,
            "tool_use": paris,
            "tool_result": NOTE,
        }

    def test_langchain(self, served: Stack, tmp_path: Path) -> None:
        python = program(served, "python", tmp_path, "OpenAI/Python")
        paris = {"city": "Paris"}
        found = json.loads(python.run(str(programs.HERE / "langchain_chat.py")))
        assert found == {"answer": NOTE, "streamed": NOTE, "tool": paris, "structured": paris}

    def test_openai_for_python(self, served: Stack) -> None:
        AGENTS.add("OpenAI/Python")
        client = served.openai()
        tool: Any = {"type": "function", "function": {"name": "visit", "strict": True, "parameters": SCHEMA}}
        with client.chat.completions.stream(
            model=MODEL,
            messages=[{"role": "user", "content": "Visit Paris."}],
            tools=[tool],
            tool_choice={"type": "function", "function": {"name": "visit"}},
        ) as stream:
            message = stream.get_final_completion().choices[0].message
        assert message.tool_calls
        assert json.loads(message.tool_calls[0].function.arguments) == {"city": "Paris"}

    def test_anthropic_for_python(self, served: Stack) -> None:
        AGENTS.add("Anthropic/Python")
        client = anthropic.Anthropic(base_url=served.url, auth_token="sk-FAKE", max_retries=0)
        messages: list[Any] = [{"role": "user", "content": call_of("cat", file="note.txt")}]
        tools: list[Any] = [{"name": "cat", "input_schema": {"type": "object"}}]
        with client.messages.stream(model=MODEL, max_tokens=100, messages=messages, tools=tools) as stream:
            message = stream.get_final_message()
        assert message.stop_reason == "tool_use"
        (use,) = [block for block in message.content if block.type == "tool_use"]
        assert (use.name, use.input) == ("cat", {"file": "note.txt"})
        result = {"type": "tool_result", "tool_use_id": use.id, "content": NOTE}
        messages += [{"role": "assistant", "content": message.content}, {"role": "user", "content": [result]}]
        after = client.messages.create(model=MODEL, max_tokens=100, messages=messages, tools=tools)
        assert [block.text for block in after.content if block.type == "text"] == [NOTE]

    def test_curl(self, served: Stack) -> None:
        AGENTS.add("curl")
        body = {"model": MODEL, "stream": True, "messages": [{"role": "user", "content": REPEAT}]}
        curl = ["curl", "-sSN", f"{served.url}/v1/chat/completions", "-d", json.dumps(body)]
        for header in ("Authorization: Bearer sk-FAKE", "Content-Type: application/json"):
            curl += ["-H", header]
        done = subprocess.run(curl, capture_output=True, text=True, timeout=60)
        assert text_of(done.stdout) == NOTE, done


@pytest.mark.usefixtures("since")
@pytest.mark.parametrize("client", ["curl", "openai-python", "anthropic-python", "langchain", "openai-node"])
def test_what_is_printed_runs_as_it_is(served: Stack, tmp_path: Path, client: str) -> None:
    text = programs.printed(served, client, tmp_path / "home", tmp_path / "work")["text"]
    if client == "openai-node":
        node = program(served, "node", tmp_path, "OpenAI/JS")
        (node.work / "printed.mjs").write_text(text)
        assert "Paris" in node.run("printed.mjs")
    elif client == "langchain":
        assert "Paris" in program(served, "python", tmp_path, "OpenAI/Python").run("-c", text)
    else:
        argv = ["bash", "-c", text] if client == "curl" else [sys.executable, "-c", text]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
        assert "Paris" in done.stdout, done


def text_of(streamed: str) -> str:
    lines = [line.removeprefix("data: ") for line in streamed.splitlines() if line.startswith("data: {")]
    return "".join(json.loads(line)["choices"][0]["delta"].get("content") or "" for line in lines)


@pytest.mark.usefixtures("since")
def test_vs_code_copilot_by_its_documentation(served: Stack, tmp_path: Path) -> None:
    """Not run. VS Code 1.122 and newer: docs/agent-customization/language-models.md in its documentation."""
    (file,) = programs.printed(served, "copilot", tmp_path / "home", tmp_path / "work")["files"]
    assert file["path"] == str(tmp_path / "home" / ".config" / "Code" / "User" / "chatLanguageModels.json")
    (provider,) = json.loads(file["text"])
    (model,) = provider["models"]
    assert set(provider) <= {"name", "vendor", "apiKey", "apiType", "url", "models"}
    assert provider["vendor"] == "customendpoint"
    assert provider["apiType"] in ("chat-completions", "responses", "messages")
    needed = {"id", "name", "url", "toolCalling", "vision", "maxInputTokens", "maxOutputTokens"}
    assert needed <= set(model) <= needed | {"apiType", "thinking", "requestHeaders"}
    assert model["maxInputTokens"] + model["maxOutputTokens"] <= CONTEXT
    tool = {"type": "function", "function": {"name": "visit", "parameters": SCHEMA}}
    body = {"model": model["id"], "stream": True, "messages": [{"role": "user", "content": REPEAT}], "tools": [tool]}
    # A whole address is used as it is.
    scheme, _, key = model["requestHeaders"]["authorization"].partition(" ")
    status, answer = served.call(model["url"].removeprefix(served.url), body, key=key)
    assert (scheme, status) == ("Bearer", 200), answer
    assert text_of(answer) == NOTE


def test_all_of_it_was_passed_through(served: Stack, since: datetime) -> None:
    """Nothing that a program sends keeps its requests off the fast way; runs last."""
    if not AGENTS:
        pytest.skip("no program was run")

    def rows() -> list[tuple[str, str, str]]:
        with served.database() as cursor:
            cursor.execute(
                "SELECT metadata->>'user_agent', call_type, status FROM \"LiteLLM_SpendLogs\" "
                'WHERE "startTime" >= %s AND model_group = %s',
                (since, MODEL),
            )
            return [(str(agent), str(kind), str(status)) for agent, kind, status in cursor.fetchall()]

    def missing() -> set[str]:
        there = {row[0] for row in rows()}
        return {agent for agent in AGENTS if not any(name.startswith(agent) for name in there)}

    wait_for(lambda: not missing(), "the books to name every program")
    assert {(kind, status) for _, kind, status in rows()} == {("pass_through_endpoint", "success")}, rows()
