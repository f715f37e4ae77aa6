"""Usage is in PostgreSQL: a row a request, with the tokens the client saw."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import Stack, wait_for


def test_twenty_requests_are_twenty_rows_with_right_token_counts(stack: Stack) -> None:
    key = stack.call("/key/generate", {"key_alias": "usage test"}, key=stack.secret("LITELLM_MASTER_KEY"))[1]
    client = stack.openai(key["key"])
    seen = []
    for index in range(20):
        answer = client.chat.completions.create(
            model="smollm2-135m", max_tokens=2 + index, messages=[{"role": "user", "content": f"Say {index}."}]
        )
        assert answer.usage is not None
        seen.append((answer.usage.prompt_tokens, answer.usage.completion_tokens))
    rows: list[tuple[int, int]] = []

    def all_written() -> bool:
        with stack.database() as cursor:
            cursor.execute(
                'SELECT prompt_tokens, completion_tokens FROM "LiteLLM_SpendLogs" WHERE api_key = %s', (key["token"],)
            )
            rows[:] = cursor.fetchall()
        return len(rows) >= 20

    wait_for(all_written, "usage to be written")
    assert sorted(rows) == sorted(seen)
    stack.call("/key/delete", {"keys": [key["key"]]}, key=stack.secret("LITELLM_MASTER_KEY"))


@pytest.mark.both
def test_no_secret_is_in_what_the_stack_writes_or_shows(stack: Stack) -> None:
    secrets = {
        name: stack.secret(name) for name in ("LITELLM_MASTER_KEY", "LITELLM_SALT_KEY", "VLLM_API_KEY", "POSTGRES_PASSWORD")
    }
    for place, text in stack.written().items():
        for name, value in secrets.items():
            assert value not in text, f"{name} in {place}"
    shown = stack.run("config").stdout + stack.run("status").stdout
    processes = ""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                processes += (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
    for name, value in secrets.items():
        assert value not in shown, name
        assert value not in processes, f"{name} in a command line"
