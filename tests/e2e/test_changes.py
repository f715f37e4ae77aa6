"""Changing the model, and getting the change wrong."""

from __future__ import annotations

import socket

from harness import Stack

BODY = {"model": "vllm_agent", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}


def test_a_wrong_edit_leaves_the_running_service_alone(stack: Stack) -> None:
    before = stack.pids()
    fragment = stack.root / "models" / "smollm2-135m.yml"
    fragment.write_text(fragment.read_text().replace("  temperature: 0.2", "  tempurature: 0.2"))
    done = stack.run(check=False)
    assert done.returncode == 2
    assert "models/smollm2-135m.yml:18: litellm.tempurature: unknown key" in done.stderr
    assert "did you mean temperature?" in done.stderr
    assert stack.call("/v1/chat/completions", BODY)[0] == 200
    assert stack.pids() == before


def test_vllm_is_asked_before_a_running_engine_is_stopped(stack: Stack) -> None:
    before = stack.pids()
    fragment = stack.root / "models" / "smollm2-135m.yml"
    fragment.write_text(fragment.read_text().replace("--enforce-eager", "--enforce-eager --tool-call-parser glm407"))
    done = stack.run(check=False)
    assert done.returncode == 2
    assert "models/smollm2-135m.yml:5: command: glm407: no such parser" in done.stderr
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
    assert "models there are: glm47-flash, minilm, qwen3-next-coder, smollm2-135m, step-3.5-flash" in done.stderr
    assert stack.pids() == before


def test_an_embedding_model(stack: Stack) -> None:
    stack.run(MODEL="minilm")
    answer = stack.openai().embeddings.create(model="minilm", input=["a cat", "a kitten", "a lorry"])
    assert [len(item.embedding) for item in answer.data] == [384, 384, 384]

    def likeness(one: list[float], other: list[float]) -> float:
        return sum(a * b for a, b in zip(one, other, strict=True))

    cat, kitten, lorry = (item.embedding for item in answer.data)
    assert likeness(cat, kitten) > likeness(cat, lorry) + 0.2
    assert {model.id for model in stack.openai().models.list()} == {"vllm_agent", "minilm"}


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
