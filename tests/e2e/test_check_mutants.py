"""Each name in the shipped fragments misspelt in turn: what the real vLLM would reject or ignore, `check` has to find."""

from __future__ import annotations

import os
import random
import subprocess

import pytest

from harness import REPOSITORY
from stack import check, engine, fragment, sources, yaml_source
from stack.errors import ConfigError
from stack.fragment import Fragment, known_params
from stack.runtime import install
from stack.runtime.layout import Layout
from stack.runtime.report import Silent

pytestmark = pytest.mark.only("native", reason="asks the native environment, not a stack")
LAYOUT = Layout.from_environ({"ENVS_DIR": os.environ.get("ENVS_DIR", "")})
MORE = """\
command: |
  vllm serve org/m --dtype bfloat16 --kv-cache-dtype fp8 --attention-backend FLASHINFER --moe-backend triton \
    --tensor-parallel-size 1 --pipeline-parallel-size 1 --max-num-batched-tokens 8192 --block-size 16 --seed 1 \
    --quantization fp8 --tokenizer-mode auto --scheduling-policy priority --stream-interval 2 --async-scheduling \
    --enable-expert-parallel --cpu-offload-gb 1 --trust-remote-code --enable-chunked-prefill --load-format safetensors \
    --compilation-config '{"mode": 3, "cudagraph_mode": "FULL"}' \
    --speculative-config '{"method": "ngram", "num_speculative_tokens": 2}'
"""


def misspelt(word: str, dice: random.Random) -> list[str]:
    """A letter left out, doubled, changed, and two exchanged; never the word itself."""
    at = dice.randrange(3 if word.startswith("--") else 0, len(word) - 1)
    found = [
        word[:at] + word[at + 1 :],
        word[: at + 1] + word[at:],
        word[:at] + ("z" if word[at] != "z" else "y") + word[at + 1 :],
        word[:at] + word[at + 1] + word[at] + word[at + 2 :],
    ]
    return [one for one in dict.fromkeys(found) if one != word]


def fragments() -> list[Fragment]:
    shipped = [fragment.parse(sources.read_fragment(REPOSITORY, name)) for name in sources.model_names(REPOSITORY)]
    return [*shipped, fragment.parse(yaml_source.load(MORE, "models/more.yml"))]


def finds(argv: list[str]) -> bool:
    """Whether check finds an error in a command."""
    text = "command: |\n  " + " ".join("'" + word + "'" for word in argv) + "\n"
    try:
        one = fragment.parse(yaml_source.load(text, "models/m.yml"))
    except ConfigError:
        return True
    return any(problem.level == "error" for problem in check.problems(one))


def test_vllm_rejects_nothing_that_check_lets_through() -> None:
    dice = random.Random(1)
    mutants: list[list[str]] = []
    for one in fragments():
        argv = one.argv()
        for index in range(3, len(argv)):
            word = argv[index]
            named = word.startswith("--") or (argv[index - 1].startswith("--") and word.isidentifier())
            for other in misspelt(word, dice) if named and len(word) > 3 else ():
                mutants.append([*argv[:index], other, *argv[index + 1 :]])
    mutants = [list(one) for one in dict.fromkeys(map(tuple, mutants))]
    assert len(mutants) >= 200
    python = install.ensure(LAYOUT, "engine-cpu", Silent()) / "bin" / "python"
    right = [one.argv() for one in fragments()]
    refused = engine.check([*right, *mutants], python)
    assert refused[: len(right)] == [[] for _ in right], "what is shipped is right"
    rejected = [argv for argv, found in zip(mutants, refused[len(right) :], strict=True) if found]
    assert len(rejected) >= 200, "vLLM was asked"
    missed = [argv for argv in rejected if not finds(argv)]
    print(f"{len(mutants)} mutants, vLLM rejects {len(rejected)}, check misses {len(missed)} of them")
    assert missed == []
    assert [argv for argv in right if finds(argv)] == []


def test_vllm_reads_no_variable_that_check_calls_unknown() -> None:
    """Against the names in vllm/envs.py itself."""
    python = install.ensure(LAYOUT, "engine-cpu", Silent()) / "bin" / "python"
    code = "import vllm.envs as e; print(*e.environment_variables)"
    known = subprocess.run([str(python), "-c", code], capture_output=True, text=True, timeout=120).stdout.split()
    names = [name for name in known if name.startswith("VLLM_")]
    assert len(names) > 200
    dice = random.Random(2)

    def complains(name: str) -> bool:
        text = f"command: vllm serve org/m\nenv: {{{name}: '1'}}\n"
        try:
            found = check.problems(fragment.parse(yaml_source.load(text, "models/m.yml")))
        except ConfigError:  # the stack's own, such as VLLM_API_KEY
            return False
        return any(word in problem.what for problem in found for word in ("unknown", "does not read"))

    assert [name for name in names if complains(name)] == []
    wrong = [
        other for name in names[::5] for other in misspelt(name, dice) if other not in known and other.startswith("VLLM_")
    ]
    assert [
        name
        for name in wrong
        if not check.problems(
            fragment.parse(yaml_source.load(f"command: vllm serve org/m\nenv: {{{name}: '1'}}\n", "models/m.yml"))
        )
    ] == []


def test_no_misspelt_variable_or_parameter_of_a_shipped_fragment_passes() -> None:
    """vLLM and LiteLLM would ignore them without a word; those that are another known name are not misspelt."""
    dice = random.Random(3)
    tried, missed = 0, []
    for one in fragments():
        for section in ("env", "litellm"):
            for name in getattr(one, section):
                for other in misspelt(name, dice):
                    text = f"command: vllm serve org/m\n{section}: {{{other}: {getattr(one, section)[name]!r}}}\n"
                    tried += 1
                    if other in known_params() or check.of_document(yaml_source.load(text, one.document.name)):
                        continue
                    missed.append((one.name, other))
    print(f"{tried} misspelt variables and parameters, check misses {len(missed)}")
    assert tried >= 200
    assert missed == []
