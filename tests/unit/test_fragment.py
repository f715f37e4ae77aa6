"""The schema of models/NAME.yml: what it takes, and every problem with place and cure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from stack import fragment, sources
from stack.errors import ConfigError
from stack.sources import Entry

MODELS = Path(__file__).resolve().parents[2] / "models"
OK = "command: vllm serve m\n"
SHA = "a" * 64
Make = Callable[..., fragment.Fragment]


def test_everything_a_fragment_may_have(make_fragment: Make) -> None:
    made = make_fragment(
        "description: a model\n"
        "command: |\n  vllm serve org/m \\\n    --dtype bfloat16\n"
        'env:\n  NCCL_DEBUG: INFO\n  VLLM_X: 1\n  Y: "2"\n'
        "litellm:\n  temperature: 0.3\n  min_p: 0.05\n  extra_body: {cache_salt: x}\n"
        "aliases: [gpt-4o, org/x:1]\ncontext: 8K\nimage: vllm/vllm-openai:v1\nrevision: abc/def\n"
        f"weights: {{pypi: a-b==1.0, sha256: {SHA}, path: a/b.gguf}}\n"
    )
    assert made.model_dump() == {
        "command": "vllm serve org/m \\\n  --dtype bfloat16\n",
        "env": {"NCCL_DEBUG": "INFO", "VLLM_X": 1, "Y": "2"},
        "litellm": {"temperature": 0.3, "min_p": 0.05, "extra_body": {"cache_salt": "x"}},
        "description": "a model",
        "aliases": ["gpt-4o", "org/x:1"],
        "context": 8192,
        "image": "vllm/vllm-openai:v1",
        "revision": "abc/def",
        "weights": {"pypi": "a-b==1.0", "sha256": SHA, "path": "a/b.gguf"},
    }
    assert (made.name, made.argv()) == ("m", ["vllm", "serve", "org/m", "--dtype", "bfloat16"])


def test_entries_have_places(make_fragment: Make) -> None:
    made = make_fragment(
        "command: |\n  vllm serve m --override-generation-config '{\"top_k\": 20}'\nenv:\n  A: b\nlitellm:\n  top_p: 0.5\n"
    )
    assert made.entry("env", "A") == Entry("b", "models/m.yml:4")
    assert made.entry("litellm", "top_p") == Entry(0.5, "models/m.yml:6")
    assert made.entry("litellm", "top_k") == Entry(20, "models/m.yml:1")
    assert made.entry("env", "top_k") is None
    assert made.entry("litellm", "temperature") is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (OK + "comand: x\n", "models/m.yml:2: comand: unknown key\n  did you mean command?"),
        (
            OK + "xyz: 1\n",
            "models/m.yml:2: xyz: unknown key\n"
            "  keys there are: command, env, litellm, description, aliases, context, image, revision, weights",
        ),
        ("env: {}\n", "models/m.yml: command: missing\n  add it: command: |, then the `vllm serve` command, indented"),
        ("command: [vllm]\n", "models/m.yml:1: command: expected text, got a list\n  put it in quotes"),
        ("command:\n", "models/m.yml:1: command: expected text, got nothing\n  put it in quotes"),
        (OK + "description: 3\n", "models/m.yml:2: description: expected text, got a number\n  put it in quotes"),
        (OK + "env: text\n", "models/m.yml:2: env: expected keys with values, got text"),
        (OK + "litellm:\n", "models/m.yml:2: litellm: expected keys with values, got nothing"),
        (OK + "litellm:\n- temperature: 1\n", "models/m.yml:2: litellm: expected keys with values, got a list"),
        (
            OK + "env:\n  A: true\n",
            'models/m.yml:3: env.A: expected text, got true/false\n  put it in quotes, for example "1"',
        ),
        (OK + "env:\n  A: [1]\n", 'models/m.yml:3: env.A: expected text, got a list\n  put it in quotes, for example "1"'),
        (OK + "env:\n  a-b: x\n", "models/m.yml:3: env.a-b: is not a name for an environment variable"),
        (OK + 'env:\n  "A\\n": x\n', "models/m.yml:3: env.A\n: is not a name for an environment variable"),
        (
            OK + "env:\n  HF_TOKEN: hf_x\n",
            "models/m.yml:3: env.HF_TOKEN: is not to be set here\n  put the token into the file secrets/HF_TOKEN",
        ),
        (
            OK + "env:\n  VLLM_API_KEY: x\n",
            "models/m.yml:3: env.VLLM_API_KEY: is not to be set here\n"
            "  the stack makes the engine's key itself: secrets/VLLM_API_KEY",
        ),
        (
            OK + "litellm:\n  tempurature: 1\n",
            "models/m.yml:3: litellm.tempurature: unknown key\n  did you mean temperature?",
        ),
        (
            OK + "litellm:\n  qqqqqqqq: 1\n",
            "models/m.yml:3: litellm.qqqqqqqq: unknown key\n  put a parameter only the engine knows under litellm.extra_body",
        ),
        (
            OK + "litellm:\n  api_base: http://x\n",
            "models/m.yml:3: litellm.api_base: is the stack's to set\n  leave it out: it follows from the fragment",
        ),
        (OK + "litellm:\n  top_p:\n", "models/m.yml:3: litellm.top_p: has no value\n  give it one or leave the line out"),
        (OK + "litellm:\n  min_p: .nan\n", "models/m.yml:3: litellm.min_p: expected a finite number, got 'nan'"),
        (OK + "litellm:\n  min_p: -.inf\n", "models/m.yml:3: litellm.min_p: expected a finite number, got '-inf'"),
        (OK + "context: 128Q\n", "models/m.yml:2: context: expected a size such as 8192 or 128K, got '128Q'"),
        (OK + "revision: a b\n", "models/m.yml:2: revision: String should match pattern '^[A-Za-z0-9._/-]+$'"),
        (OK + "weights: x\n", "models/m.yml:2: weights: expected keys with values, got text"),
        (
            OK + f"weights: {{pypi: a==1, sha256: {SHA}, path: ../../etc}}\n",
            "models/m.yml:2: weights.path: String should match pattern "
            "'^[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*$'",
        ),
        (
            OK + "aliases: [claude-*]\n",
            "models/m.yml:2: aliases: 'claude-*' is not a model's name: letters, digits and . _ : / -",
        ),
        (OK + "aliases: [a, a]\n", "models/m.yml:2: aliases: a name twice, or vllm_agent, which every model has"),
        (OK + "aliases: a\n", "models/m.yml:2: aliases: expected a list, got text"),
        (
            OK + f"weights:\n  pipy: a==1\n  pypi: a==1\n  sha256: {SHA}\n  path: a\n",
            "models/m.yml:3: weights.pipy: unknown key\n  did you mean pypi?",
        ),
        (
            "command: |\n  vllm serve m --override-generation-config '{\"top_k\": 1}'\nlitellm:\n  top_k: 2\n",
            "models/m.yml:4: litellm.top_k: also set by --override-generation-config in the command\n  set it in one of the two places",
        ),
    ],
    ids=lambda value: value.splitlines()[0][:60] if value.startswith("models") else "",
)
def test_problem(make_fragment: Make, text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_fragment(text)
    assert [str(found) for found in caught.value.problems] == [f"error: {problem}"]


def test_all_problems_at_once(make_fragment: Make) -> None:
    with pytest.raises(ConfigError) as caught:
        make_fragment("command: |\n  vllm serve m; rm x\n  `id`\nenvv: {}\nenv:\n  A: true\nlitellm:\n  topp: 1\n")
    assert [(problem.place, problem.what) for problem in caught.value.problems] == [
        ("models/m.yml:4", "envv: unknown key"),
        ("models/m.yml:6", "env.A: expected text, got true/false"),
        ("models/m.yml:8", "litellm.topp: unknown key"),
        ("models/m.yml:2", "command: has ';', a shell operator"),
        ("models/m.yml:3", "command: has '`', which only a shell would expand"),
        ("models/m.yml:3", "command: has '`', which only a shell would expand"),
    ]


@pytest.mark.parametrize("name", sorted(path.stem for path in MODELS.glob("*.yml")))
def test_shipped_fragments_are_valid_and_described(name: str) -> None:
    made = fragment.parse(sources.read_fragment(MODELS.parent, name))
    assert made.name == name
    assert made.description


def test_shipped_fragments_are_those_of_the_founding_document() -> None:
    assert {path.stem for path in MODELS.glob("*.yml")} >= {"glm47-flash", "step-3.5-flash", "qwen3-next-coder"}
