"""What is served is recorded, a model that does not load gives way to the one before, and any release can come back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from harness import QUESTION, Stack

BODY = {"model": "vllm_agent", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}


def releases(stack: Stack) -> list[dict[str, Any]]:
    return list(json.loads(stack.run("releases", "--json").stdout))


def served(stack: Stack) -> set[str]:
    return {model.id for model in stack.openai().models.list()}


def add_a_model_that_does_not_load(stack: Stack) -> None:
    """Its command is right; that its context is longer than the model's only shows when it loads."""
    good = (stack.root / "models" / "smollm2-135m.yml").read_text()
    (stack.root / "models" / "too-long.yml").write_text(good.replace("--max-model-len 8192", "--max-model-len 65536"))


def test_a_model_that_does_not_load_gives_way_to_the_one_before(stack: Stack) -> None:
    add_a_model_that_does_not_load(stack)
    before = releases(stack)
    database = stack.pids()["database"]
    done = stack.run(check=False, MODEL="too-long")
    assert done.returncode == 1
    assert "models/too-long.yml:8: " in done.stderr, "the line of --max-model-len"
    assert "--max-model-len" in done.stderr.split("models/too-long.yml:8: ")[1]
    assert "smollm2-135m is served again" in done.stderr
    assert "MODEL: smollm2-135m -> too-long" in done.stderr
    assert served(stack) == {"vllm_agent", "smollm2-135m"}
    assert stack.call("/v1/chat/completions", BODY)[0] == 200
    assert stack.pids()["database"] == database
    after = releases(stack)
    assert [one["state"] for one in after[len(before) :]] == ["failed"]
    assert "models/too-long.yml:8" in after[-1]["reason"]
    assert [one["current"] for one in after] == [one["current"] for one in before] + [False]
    # And what is served is what it was, not what stood in the file last.
    assert stack.run("status").returncode == 0


def test_an_earlier_release_comes_back_as_it_was(stack: Stack) -> None:
    first = releases(stack)[-1] if releases(stack)[-1]["current"] else next(r for r in releases(stack) if r["current"])
    fragment = stack.root / "models" / "smollm2-135m.yml"
    fragment.write_text(fragment.read_text().replace("temperature: 0.2", "temperature: 0.9"))
    stack.run()
    assert "temperature: 0.9" in stack.generated("config.yaml")

    done = stack.run("rollback")
    assert "litellm.temperature: 0.9 -> 0.2" in done.stderr
    assert "temperature: 0.2" in stack.generated("config.yaml")
    assert stack.call("/v1/chat/completions", BODY)[0] == 200
    # The edited file is as it was left, and counts again at the next `up`.
    assert "temperature: 0.9" in fragment.read_text()
    newest = releases(stack)[-1]
    assert (newest["state"], newest["repeats"], newest["current"]) == ("good", first["number"], True)

    stack.run("rollback", str(newest["number"] - 1))
    assert "temperature: 0.9" in stack.generated("config.yaml")
    done = stack.run("rollback", "999", check=False)
    assert done.returncode == 2
    assert "no known-good release 999" in done.stderr
    assert "temperature: 0.9" in stack.generated("config.yaml")


@pytest.mark.only("docker", reason="both runtimes share deploy.py, which the test above drives natively as well")
def test_rolling_back_to_another_model(stack: Stack) -> None:
    stack.run(MODEL="minilm")
    assert served(stack) == {"vllm_agent", "minilm"}
    done = stack.run("rollback")
    assert "MODEL: minilm -> smollm2-135m" in done.stderr
    answer = stack.openai().chat.completions.create(
        model="smollm2-135m", temperature=0, messages=[{"role": "user", "content": QUESTION}]
    )
    assert "Paris" in (answer.choices[0].message.content or "")


def test_releases_are_a_table(stack: Stack) -> None:
    lines = stack.run("releases").stdout.splitlines()
    assert lines[0].split()[:4] == ["release", "accepted", "model", "state"]
    assert sum("(current)" in line for line in lines) == 1
