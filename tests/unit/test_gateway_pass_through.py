"""Another version of LiteLLM costs speed, not the gateway."""

from __future__ import annotations

import logging
import sys
from types import ModuleType

import pytest

OURS = ("gateway_engine_routes", "gateway_engine_usage")


@pytest.mark.parametrize("there", [True, False])
def test_the_callback_can_always_be_loaded(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, there: bool
) -> None:
    for name in ("litellm", "litellm.integrations", "litellm.integrations.custom_logger", *OURS):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    vars(sys.modules["litellm.integrations.custom_logger"])["CustomLogger"] = type("CustomLogger", (), {})
    usage, added = object(), []
    vars(sys.modules["gateway_engine_usage"])["engine_usage"] = usage
    if there:
        vars(sys.modules["gateway_engine_routes"])["add"] = lambda: added.append(True)
    monkeypatch.delitem(sys.modules, "gateway_pass_through", raising=False)
    with caplog.at_level(logging.WARNING):
        import gateway_pass_through
    sys.modules.pop("gateway_pass_through")
    assert (gateway_pass_through.engine_routes is usage) == there
    assert added == [True] * there
    assert ("not passed through" in caplog.text) == (not there)
