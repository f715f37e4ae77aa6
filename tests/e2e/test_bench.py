"""`./runMe.sh bench` on the running stack, by the real load generator."""

from __future__ import annotations

import json

import pytest

from harness import Stack

pytestmark = [pytest.mark.last, pytest.mark.only("native", reason="what it measures has a name and a port in both runtimes")]


def test_both_sides_are_measured(stack: Stack) -> None:
    done = stack.run("bench", "--concurrency", "2", "--requests", "4", "--output-tokens", "8", "--json")
    data = json.loads(done.stdout)
    assert [(row["side"], row["errors"]) for row in data["rows"]] == [("direct", 0), ("gateway", 0)]
    assert data["ratio_gateway_direct"]["2"] > 0
    assert all(data["versions"][name] for name in ("vllm", "litellm"))
    written = done.stdout + done.stderr
    assert all(stack.secret(name) not in written for name in ("VLLM_API_KEY", "LITELLM_MASTER_KEY"))
