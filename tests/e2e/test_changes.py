"""Changing the model, and getting the change wrong."""

from __future__ import annotations

import socket

from harness import QUESTION, Stack

BODY = {"model": "vllm_agent", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}


def test_a_wrong_edit_leaves_the_running_service_alone(stack: Stack) -> None:
    before = stack.pids()
    fragment = stack.root / "models" / "smollm2-135m.yml"
    fragment.write_text(fragment.read_text().replace("  temperature: 0.2", "  tempurature: 0.2"))
    done = stack.run(check=False)
    assert done.returncode == 2
    assert "models/smollm2-135m.yml:19: litellm.tempurature: unknown key" in done.stderr
    assert "did you mean temperature?" in done.stderr
    assert stack.call("/v1/chat/completions", BODY)[0] == 200
    assert stack.pids() == before


def test_a_command_that_vllm_would_refuse_stops_nothing(stack: Stack) -> None:
    """One found by our own catalogue, and one that only vLLM itself knows to be wrong."""
    before = stack.pids()
    fragment = stack.root / "models" / "smollm2-135m.yml"
    right = fragment.read_text()
    line = right.splitlines().index("    --enforce-eager \\") + 1
    fragment.write_text(right.replace("--enforce-eager", "--enforce-eager --tool-call-parser glm407"))
    done = stack.run(check=False)
    assert done.returncode == 2
    assert f"models/smollm2-135m.yml:{line}: command: --tool-call-parser: " in done.stderr
    assert "glm47" in done.stderr, "what was meant"
    fragment.write_text(right.replace("--enforce-eager", "--enforce-eager --lora-modules a"))
    done = stack.run(check=False)
    assert done.returncode == 2
    assert "lora-modules" in done.stderr
    assert stack.call("/v1/chat/completions", BODY)[0] == 200
    assert stack.pids() == before


def test_up_again_without_a_change_touches_nothing(stack: Stack) -> None:
    before = stack.pids()
    stack.run()
    assert stack.pids() == before


def test_an_unknown_model_changes_nothing(stack: Stack) -> None:
    before = stack.pids()
    done = stack.run(check=False, MODEL="smollm")
    assert done.returncode == 2
    assert "did you mean smollm2-135m?" in done.stderr
    names = sorted(path.stem for path in (stack.root / "models").glob("*.yml"))
    assert len(names) >= 5
    assert f"models there are: {', '.join(names)}" in done.stderr
    assert stack.pids() == before


def test_an_embedding_model_and_back(stack: Stack) -> None:
    stack.run(MODEL="minilm")
    answer = stack.openai().embeddings.create(model="minilm", input=["a cat", "a kitten", "a lorry"])
    assert [len(item.embedding) for item in answer.data] == [384, 384, 384]

    def likeness(one: list[float], other: list[float]) -> float:
        return sum(a * b for a, b in zip(one, other, strict=True))

    cat, kitten, lorry = (item.embedding for item in answer.data)
    assert likeness(cat, kitten) > likeness(cat, lorry) + 0.2
    assert {model.id for model in stack.openai().models.list()} == {"vllm_agent", "minilm"}

    done = stack.run("rollback")
    assert "MODEL: minilm -> smollm2-135m" in done.stderr
    chat = stack.openai().chat.completions.create(
        model="smollm2-135m", temperature=0, messages=[{"role": "user", "content": QUESTION}]
    )
    assert "Paris" in (chat.choices[0].message.content or "")


def test_a_taken_port_is_named_before_anything_starts(stack: Stack) -> None:
    before = stack.pids()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = stack.run(check=False, LITELLM_PORT=str(port))
    assert done.returncode == 2
    assert f"LITELLM_PORT={port}: port {port} on 127.0.0.1 is taken by another program" in done.stderr
    assert stack.pids() == before
