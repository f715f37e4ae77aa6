"""`usage` says what clients counted themselves; a backup brings keys and usage back."""

from __future__ import annotations

import http.client
import json
import tarfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from harness import Stack, core_of, frozen, wait_for
from load import crowd
from streams import read_pieces

MODEL, NO_MODEL = "smollm2-135m", "no-such-model"
MESSAGES = [{"role": "user", "content": "Name three rivers."}]
CHAT = {"model": MODEL, "messages": MESSAGES, "max_tokens": 8}
LONG = {**CHAT, "max_tokens": 2000}
STORY = {**LONG, "messages": [{"role": "user", "content": "Write a very long story about a river."}], "ignore_eos": True}
ORDINARY = {"drop_params": True}  # a parameter of LiteLLM's own: not passed through
COUNTED = ("requests", "answered", "errors", "cancelled", "tokens_in", "tokens_out")
# Seconds without anything, after which a client has all there is of an engine that stands still.
SILENCE = 5.0


class Client:
    """Asks with one key, and keeps books of its own.

    Attributes:
        books: what COUNTED should be, for each model.
    """

    def __init__(self, stack: Stack, key: str, name: str) -> None:
        self.stack, self.key, self.name = stack, key, name
        self.books: dict[str, Counter[str]] = {}

    def ask(self, path: str, body: dict[str, Any]) -> int:
        """Have an answer, whole or streamed, or a refusal; its status."""
        with self._answer(path, body) as (_, answer):
            text = answer.read().decode()
        if answer.status != 200:
            self._note(body, errors=1)
        else:
            data = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")] or [json.loads(text)]
            tokens = [_tokens(one) for one in data]
            self._note(body, answered=1, tokens_in=max(one[0] for one in tokens), tokens_out=max(one[1] for one in tokens))
        return int(answer.status)

    def leave_a_stream(self, path: str, body: dict[str, Any], tokens_in: int) -> None:
        """Read some pieces of an answer, each of which is a token, and go away.

        The engine's core stands still then, so that the client can have all that was on its way.
        """
        core = core_of(self.stack.pids()["engine"])
        with self._answer(path, {**body, "stream": True}) as (connection, answer):
            pieces = read_pieces(answer, path, 3)
            with frozen(core):
                connection.sock.settimeout(SILENCE)
                pieces += read_pieces(answer, path)
                connection.close()
                wait_for(lambda: self._under_way() == 0, "the gateway to notice that the client has left")
        self._note(body, answered=1, tokens_in=tokens_in, tokens_out=pieces)

    def leave_before_an_answer(self, path: str, body: dict[str, Any]) -> None:
        """Ask for something long and go away while the engine works on it."""
        connection = http.client.HTTPConnection("127.0.0.1", self.stack.port)
        self._send(connection, path, body)
        wait_for(lambda: self.stack.requests_inside() == 1, "the request to reach the engine")
        connection.close()
        self._note(body, cancelled=1)
        wait_for(lambda: self.stack.requests_inside() == 0, "the request to stop")

    def _under_way(self) -> int:
        return int(self.stack.call("/stack/requests", key=self.stack.secret("LITELLM_MASTER_KEY"))[1]["under_way"])

    def total(self) -> Counter[str]:
        return sum(self.books.values(), Counter())

    @contextmanager
    def _answer(
        self, path: str, body: dict[str, Any]
    ) -> Iterator[tuple[http.client.HTTPConnection, http.client.HTTPResponse]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.stack.port, timeout=120)
        try:
            self._send(connection, path, body)
            yield connection, connection.getresponse()
        finally:
            connection.close()

    def _send(self, connection: http.client.HTTPConnection, path: str, body: dict[str, Any]) -> None:
        headers = {
            "Authorization": f"Bearer {self.key}",
            "User-Agent": f"{self.name}/1.0",
            "Content-Type": "application/json",
        }
        connection.request("POST", path, json.dumps(body), headers)

    def _note(self, body: dict[str, Any], **counted: int) -> None:
        self.books.setdefault(body["model"], Counter()).update({"requests": 1, **counted})


def _tokens(body: dict[str, Any]) -> tuple[int, int]:
    """What an answer or event says was read and written."""
    nested = body.get("response") or body.get("message") or {}
    usage = body.get("usage") or nested.get("usage") or {}
    read, wrote = (usage.get(name) for name in ("prompt_tokens", "completion_tokens"))
    return int(read or usage.get("input_tokens") or 0), int(wrote or usage.get("output_tokens") or 0)


def shown(stack: Stack, by: str, since: str = "3h") -> dict[str, dict[str, Any]]:
    """`usage --json`: its rows by name, and the total."""
    data = json.loads(stack.run("usage", "--json", "--by", by, "--since", since).stdout)
    return {row["name"]: row for row in (*data["rows"], data["total"])}


def settled(stack: Stack, by: str) -> dict[str, dict[str, Any]]:
    """The same once nothing more is written of earlier requests."""
    while True:
        first = shown(stack, by)
        time.sleep(7)  # usage is written every five seconds
        if {name: row["requests"] for name, row in shown(stack, by).items()} == {
            name: row["requests"] for name, row in first.items()
        }:
            return first


@pytest.fixture
def client(stack: Stack) -> Iterator[Callable[..., Client]]:
    """Makes a client with a key of its own."""
    master, made = stack.secret("LITELLM_MASTER_KEY"), []

    def make(name: str, **limits: Any) -> Client:
        status, answer = stack.call("/key/generate", {"key_alias": name, **limits}, key=master)
        assert status == 200, answer
        made.append(answer["key"])
        return Client(stack, answer["key"], name)

    yield make
    stack.call("/key/delete", {"keys": made}, key=master)


def test_usage_equals_what_clients_counted(stack: Stack, client: Callable[..., Client]) -> None:
    before = settled(stack, "model")
    steady, hasty, stranger = (
        client("steady"),
        client("hasty", max_parallel_requests=1),
        Client(stack, "sk-none", "stranger"),
    )
    count = {"stream_options": {"include_usage": True}}
    for extra in ({}, ORDINARY):
        assert steady.ask("/v1/chat/completions", {**CHAT, **extra}) == 200
        assert steady.ask("/v1/chat/completions", {**CHAT, **extra, "stream": True, **count}) == 200
        assert steady.ask("/v1/messages", {**CHAT, **extra}) == 200
    tokens_in = steady.books[MODEL]["tokens_in"] // 6
    assert steady.books[MODEL]["tokens_in"] == tokens_in * 6, "the same prompt has as many tokens on each way"
    assert steady.ask("/v1/messages", {**CHAT, "stream": True}) == 200
    assert steady.ask("/v1/responses", {"model": MODEL, "input": "Hi", "max_output_tokens": 8}) == 200
    assert steady.ask("/v1/responses", {"model": MODEL, "input": "Hi", "max_output_tokens": 8, "stream": True}) == 200
    assert steady.ask("/v1/chat/completions", {**CHAT, "temperature": 9}) == 400
    assert steady.ask("/v1/messages", {**CHAT, "temperature": 9}) == 400
    assert steady.ask("/v1/chat/completions", {**CHAT, "model": NO_MODEL}) == 404
    assert stranger.ask("/v1/chat/completions", CHAT) == 401
    assert stranger.ask("/v1/messages", CHAT) == 401
    body = {**CHAT, "max_tokens": 150, "ignore_eos": True}
    statuses = Counter(crowd(stack, lambda: hasty.ask("/v1/chat/completions", body), 5, 4))
    assert statuses == {200: 1, 429: 4}
    hasty.leave_a_stream("/v1/chat/completions", LONG, tokens_in)
    hasty.leave_a_stream("/v1/messages", LONG, tokens_in)
    hasty.leave_before_an_answer("/v1/chat/completions", STORY)
    hasty.leave_before_an_answer("/v1/messages", STORY)
    assert hasty.ask("/v1/chat/completions", CHAT) == 200

    def written() -> bool:
        rows = shown(stack, "client")
        return all(rows.get(one.name, {}).get("requests", 0) >= one.total()["requests"] for one in (steady, hasty, stranger))

    wait_for(written, "usage to be written")
    keys, models, clients = shown(stack, "key"), shown(stack, "model"), shown(stack, "client")
    for one, row in (
        (steady, keys["steady"]),
        (steady, clients["steady"]),
        (hasty, keys["hasty"]),
        (hasty, clients["hasty"]),
        (stranger, clients["stranger"]),
    ):
        equals(row, one.total())
    for model in (MODEL, NO_MODEL):
        counted = sum((one.books.get(model, Counter()) for one in (steady, hasty, stranger)), Counter())
        earlier = before.get(model, {})
        row = {name: models[model][name] - earlier.get(name, 0) for name in COUNTED}
        equals(row, counted)
    for name in ("requests", "tokens_in", "tokens_out"):
        assert models["total"][name] == keys["total"][name] == sum(row[name] for row in shown(stack, "day").values()) / 2
    page = stack.root / "usage.html"
    stack.run("usage", "--html", str(page), "--since", "3h")
    assert all(name in page.read_text() for name in ("steady", "hasty", MODEL))


def equals(row: dict[str, Any], counted: Counter[str]) -> None:
    """A row of `usage` is what clients counted, to the unit."""
    assert {name: row[name] for name in COUNTED} == {name: counted[name] for name in COUNTED}


TABLES = {
    "LiteLLM_SpendLogs": "*",
    # Not what the gateway notes on its own, such as when a key was last used.
    "LiteLLM_VerificationToken": "token, key_name, key_alias, spend, models, max_parallel_requests, metadata, created_at",
}


def rows(stack: Stack) -> dict[str, list[str]]:
    """What the tables of keys and usage hold, each row as text."""
    found = {}
    with stack.database() as cursor:
        for table, columns in TABLES.items():
            cursor.execute(f'SELECT row_to_json(one)::text FROM (SELECT {columns} FROM "{table}") AS one ORDER BY 1')
            found[table] = [text for (text,) in cursor.fetchall()]
    return found


@pytest.mark.both
def test_backup_wipe_restore(stack: Stack, client: Callable[..., Client]) -> None:
    kept = client("kept", max_parallel_requests=3)
    assert kept.ask("/v1/chat/completions", CHAT) == 200
    assert kept.ask("/v1/messages", {**CHAT, "temperature": 9}) == 400
    settled(stack, "key")
    before, usage = rows(stack), shown(stack, "key", "3d")
    assert usage["kept"]["requests"] == 2
    file = stack.root / "keys and usage.backup"
    made = json.loads(stack.run("backup", str(file), "--json").stdout)
    assert {name: made["tables"][name] for name in TABLES} == {name: len(found) for name, found in before.items()}
    assert file.stat().st_mode & 0o077 == 0

    with stack.database() as cursor:
        cursor.execute('DELETE FROM "LiteLLM_SpendLogs"; DELETE FROM "LiteLLM_VerificationToken"')
    late = client("late")
    assert late.ask("/v1/chat/completions", CHAT) == 200
    engine = stack.pids()["engine"]
    restored = json.loads(stack.run("restore", str(file), "--json").stdout)

    assert rows(stack) == before
    assert shown(stack, "key", "3d") == usage
    assert stack.pids()["engine"] == engine
    assert stack.run("status").returncode == 0
    assert kept.ask("/v1/chat/completions", CHAT) == 200
    assert stack.call("/v1/chat/completions", CHAT)[0] == 200
    assert late.ask("/v1/chat/completions", CHAT) == 401
    # What there was before the restore is kept as well, with the usage that the gateway had not written yet.
    with tarfile.open(restored["before"]) as archive:
        member = archive.extractfile("manifest.json")
        assert member is not None
        tables = json.load(member)["tables"]
    assert {name: tables[name] for name in TABLES} == dict.fromkeys(TABLES, 1)


def test_a_file_that_is_no_backup_changes_nothing(stack: Stack) -> None:
    file = stack.root / "no.backup"
    file.write_bytes(b"PGDMP" + bytes(20_000))
    before, parts = rows(stack), stack.pids()
    done = stack.run("restore", str(file), check=False)
    assert done.returncode == 2
    assert "is no backup" in done.stderr
    assert stack.pids() == parts
    assert len(rows(stack)["LiteLLM_VerificationToken"]) == len(before["LiteLLM_VerificationToken"])
