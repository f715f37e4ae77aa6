"""scripts/chat_app.py: without a login the page answers to nobody who comes by another site."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "chat_app.py"


async def page(scope: Any, receive: Any, send: Any) -> None:
    """In Open WebUI's place."""
    await send({"type": "the page"})


def load(monkeypatch: pytest.MonkeyPatch, login: str) -> Any:
    """The module, as it is with or without a login."""
    main = types.ModuleType("open_webui.main")
    main.app = page  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "open_webui", types.ModuleType("open_webui"))
    monkeypatch.setitem(sys.modules, "open_webui.main", main)
    monkeypatch.setenv("CHAT_ADDRESS", "127.0.0.5")
    monkeypatch.setenv("CHAT_LOGIN", login)
    spec = importlib.util.spec_from_file_location("chat_app", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def ask(app: Any, kind: str = "http", **headers: str) -> list[dict[str, Any]]:
    """What it sends for a request."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": kind, "headers": [(name.encode(), value.encode()) for name, value in headers.items()]}
    asyncio.run(app(scope, receive, send))
    return sent


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize(
    ("headers", "own"),
    [
        ({"host": "127.0.0.1:3000"}, True),
        ({"host": "localhost:3000", "origin": "http://localhost:3000"}, True),
        ({"host": "[::1]:3000"}, True),
        ({"host": "127.0.0.5:3000", "origin": "http://127.0.0.5:3000"}, True),
        ({"host": "127.0.0.1:3000", "origin": "https://evil.example"}, False),
        ({"host": "127.0.0.1:3000", "origin": "null"}, False),
        ({"host": "evil.example:3000"}, False),
        ({"host": "127.0.0.1.evil.example"}, False),
        ({"host": "evil.example@127.0.0.1", "origin": "http://[bad"}, False),
        ({}, False),
    ],
)
def test_only_its_own_addresses(monkeypatch: pytest.MonkeyPatch, kind: str, headers: dict[str, str], own: bool) -> None:
    sent = ask(load(monkeypatch, "false").app, kind, **headers)
    if own:
        assert sent == [{"type": "the page"}]
    elif kind == "http":
        assert sent[0]["status"] == 403
        assert b"its own address only" in sent[1]["body"]
    else:
        assert sent == [{"type": "websocket.close", "code": 1008}]


def test_it_may_start_and_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(load(monkeypatch, "false").app({"type": "lifespan"}, None, send))
    assert sent == [{"type": "the page"}]


def test_with_a_login_any_name_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ask(load(monkeypatch, "true").app, host="chat.example") == [{"type": "the page"}]
