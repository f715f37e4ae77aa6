"""What is served is recorded, a model that does not load gives way to the one before, and any release can come back."""

from __future__ import annotations

import json
import re
from typing import Any

from harness import Stack

STEPS = ["starting Python and vLLM", "loading the model", "loading the model's weights", "opening its port"]
BODY = {"model": "vllm_agent", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
# As it would be written to stretch a model, with a key that does not: check only warns.
LONG = """--max-model-len 65536 --hf-overrides '{"use_cache": true}'"""


def releases(stack: Stack) -> list[dict[str, Any]]:
    return list(json.loads(stack.run("releases", "--json").stdout))


def served(stack: Stack) -> set[str]:
    return {model.id for model in stack.openai().models.list()}


def add_a_model_that_does_not_load(stack: Stack) -> None:
    """Its command is right; that nothing of --hf-overrides stretches its context only shows when it loads."""
    good = (stack.root / "models" / "smollm2-135m.yml").read_text()
    (stack.root / "models" / "too-long.yml").write_text(good.replace("--max-model-len 8192", LONG))


def test_a_model_that_does_not_load_gives_way_to_the_one_before(stack: Stack) -> None:
    add_a_model_that_does_not_load(stack)
    before = releases(stack)
    database = stack.pids()["database"]
    done = stack.run(check=False, MODEL="too-long")
    assert done.returncode == 1
    assert "models/too-long.yml:9: " in done.stderr, "the line of --max-model-len"
    assert "--max-model-len" in done.stderr.split("models/too-long.yml:9: ")[1]
    assert "smollm2-135m is served again" in done.stderr
    assert "MODEL: smollm2-135m -> too-long" in done.stderr
    check_progress(*done.stderr.split("comes back"))
    assert served(stack) == {"vllm_agent", "smollm2-135m"}
    assert stack.call("/v1/chat/completions", BODY)[0] == 200
    assert stack.pids()["database"] == database
    after = releases(stack)
    assert [one["state"] for one in after[len(before) :]] == ["failed"]
    assert "models/too-long.yml:9" in after[-1]["reason"]
    assert [one["current"] for one in after] == [one["current"] for one in before] + [False]
    # And what is served is what it was, not what stood in the file last.
    assert stack.run("status").returncode == 0


def check_progress(failing: str, coming_back: str) -> None:
    """The steps of a model that is unknown and fails, and of one that has been started before."""
    assert "how long this takes is not known" in failing
    failed = r"^error: models/too-long.yml:9: failed while starting Python and vLLM after [\d.]+ s: "
    assert re.search(failed, coming_back, re.M), coming_back
    assert re.search(r"^note: this took .* s last time$", coming_back, re.M)
    assert re.search(r"^engine: [a-z].*; about .* s left$", coming_back, re.M)
    done = re.findall(r"^engine: ([a-z].*), done in .* s$", coming_back, re.M)
    assert [step for step in done if step in STEPS] == STEPS
    assert re.search(r"^in all: ready after .* s", coming_back, re.M)
    assert all(one.isprintable() or one == "\n" for one in failing + coming_back)


def test_an_earlier_release_comes_back_as_it_was(stack: Stack) -> None:
    """By a change that concerns only the gateway: the engine takes most of a minute to start."""
    first = releases(stack)[-1] if releases(stack)[-1]["current"] else next(r for r in releases(stack) if r["current"])
    engine = stack.pids()["engine"]
    fragment = stack.root / "models" / "smollm2-135m.yml"
    fragment.write_text(fragment.read_text().replace("  top_p: 0.9", "  top_p: 0.9\n  num_retries: 5"))
    stack.run()
    assert "num_retries: 5" in stack.generated("config.yaml")

    done = stack.run("rollback")
    assert re.search(r"litellm\.num_retries: 5 -> \d", done.stderr), done.stderr
    assert "num_retries: 5" not in stack.generated("config.yaml")
    assert stack.call("/v1/chat/completions", BODY)[0] == 200
    # The edited file is as it was left, and counts again at the next `up`.
    assert "num_retries: 5" in fragment.read_text()
    newest = releases(stack)[-1]
    assert (newest["state"], newest["repeats"], newest["current"]) == ("good", first["number"], True)

    stack.run("rollback", str(newest["number"] - 1))
    assert "num_retries: 5" in stack.generated("config.yaml")
    done = stack.run("rollback", "999", check=False)
    assert done.returncode == 2
    assert "no known-good release 999" in done.stderr
    assert "num_retries: 5" in stack.generated("config.yaml")
    assert stack.pids()["engine"] == engine


def test_releases_are_a_table(stack: Stack) -> None:
    lines = stack.run("releases").stdout.splitlines()
    assert lines[0].split()[:4] == ["release", "accepted", "model", "state"]
    assert sum("(current)" in line for line in lines) == 1
