"""`./runMe.sh explain`: origins, meanings, differences. UPDATE_GOLDEN=1 writes the golden files anew."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from stack import cli, plan
from stack.check import catalogue
from stack.explain import compare, meaning, rows
from stack.releases import GOOD, Releases

REPOSITORY = Path(__file__).resolve().parents[2]
GOLDEN = REPOSITORY / "tests" / "golden" / "explain"


@pytest.fixture(autouse=True)
def chosen(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line looks at the test's own folder."""
    for name, value in {"STACK_ROOT": str(root), "HOME": "/home/somebody", "COLUMNS": "200"}.items():
        monkeypatch.setenv(name, value)


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = cli.main(["explain", *words])
    out, err = capsys.readouterr()
    return status, "\n".join(line.rstrip() for line in out.splitlines()) + "\n", err


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("glm47-flash", ["glm47-flash"]),
        ("minilm", ["minilm"]),
        ("one-flag", ["glm47-flash", "--max-model-len"]),
        ("one-parameter", ["glm47-flash", "max_tokens"]),
        ("one-setting", ["glm47-flash", "ENGINE_PORT"]),
        ("set", ["smollm2-135m", "--set", "LITELLM_TEMPERATURE=0.1", "--set", "env.VLLM_LOGGING_LEVEL=DEBUG"]),
        ("diff", ["smollm2-135m", "--diff", "glm47-flash"]),
    ],
)
def test_golden(root: Path, capsys: pytest.CaptureFixture[str], name: str, words: list[str]) -> None:
    status, out, err = said(capsys, *words)
    assert (status, err) == (0, "")
    file = GOLDEN / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(out)
    assert out == file.read_text()


def test_every_argument_of_the_command_is_explained(root: Path) -> None:
    for file in (root / "models").glob("*.yml"):
        made = plan.make(root, {}, [], file.stem)
        found = rows.of(made)
        flags = [word.partition("=")[0] for word in made.engine_argv if word.startswith("--")]
        assert [row.key for row in found if row.section == rows.COMMAND] == ["MODEL", *flags]
        assert [row.key for row in found if row.section == rows.COMMAND and not row.help] == []
        assert [row.key for row in found if row.section == rows.LITELLM and not row.help] == []
        text = file.read_text().splitlines()
        for row in found:
            name, _, line = row.origin.partition(":")
            if name == f"models/{file.name}" and row.section == rows.COMMAND and row.key != "MODEL":
                assert row.key in text[int(line) - 1], row


def test_what_is_described_is_vllms(root: Path) -> None:
    """Each line names a flag or variable that there is, in order, and fits a table."""
    lines = Path(meaning.__file__).with_name("vllm.txt").read_text().splitlines()
    named = [line.partition(": ") for line in lines if not line.startswith("#")]
    names = [name for name, _, _ in named]
    assert names == sorted(set(names))
    assert [name for name in names if name not in {*catalogue.flags(), *catalogue.engine()["env"]}] == []
    assert [name for name, _, text in named if not 0 < len(text) <= 115 or text.endswith(".")] == []


def test_every_variable_of_a_shipped_fragment_is_explained(root: Path) -> None:
    for file in (root / "models").glob("*.yml"):
        found = rows.of(plan.make(root, {}, [], file.stem))
        unknown = {row.key for row in found if row.section == rows.ENV and not row.help}
        assert unknown <= {"NCCL_ENABLE_SO_RCLO"}, "NCCL does not know that one: see vars.env"


def test_the_fragment_says_more_than_the_stack(root: Path) -> None:
    (root / "models" / "own.yml").write_text(
        "command: |\n  vllm serve a/b \\\n    --port 1 \\\n    --shutdown_timeout=7 \\\n    --max-model-len 10\nlitellm: {max_tokens: 5}\n"
    )
    found = {row.key: row for row in rows.of(plan.make(root, {}, [], "own"))}
    port = found["--port"]
    assert (port.value, port.origin.partition(",")[0]) == ("8000", "ENGINE_PORT")
    assert ("models/own.yml:3", "1") in port.overrode
    assert (found["--shutdown-timeout"].value, found["--shutdown-timeout"].origin) == ("7", "models/own.yml:4")
    assert found["--shutdown-timeout"].overrode[0][1] == "20"
    assert found["max_tokens"].origin == "models/own.yml:6"


def test_a_limit_above_the_context_says_what_cut_it(root: Path) -> None:
    (root / "models" / "own.yml").write_text("command: vllm serve a/b --max-model-len 1000\n")
    found = {row.key: row for row in rows.of(plan.make(root, {}, [], "own"))}
    assert (found["max_tokens"].value, found["max_tokens"].origin) == ("1000", "the context of 1000")
    assert found["max_tokens"].overrode[0] == ("vars.env:18", "131072")


def test_a_secret_is_not_shown(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "models" / "own.yml").write_text(
        "command: vllm serve a/b --max-model-len 1000 --hf-token hf_geheim1 --tokenizer c/d\n"
        "env: {MY_API_KEY: geheim2}\nlitellm: {extra_headers: {Authorization: geheim3}}\n"
    )
    for words in (["own"], ["own", "--json"], ["own", "--diff", "minilm"], ["own", "--hf-token"]):
        status, out, err = said(capsys, *words)
        assert status == 0
        assert "geheim" not in out + err
        assert "(not shown)" in out
    assert "c/d" in said(capsys, "own")[1]


def test_a_flag_that_is_not_used(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = said(capsys, "minilm", "kv-cache-dtype")
    assert status == 0
    assert "--kv-cache-dtype" in out
    assert "not set: auto" in out
    assert "command: in models/minilm.yml" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["minilm", "kv-cache-dtipe"], "did you mean --kv-cache-dtype?"),
        (["nope"], "no model 'nope'"),
        (["running"], "nothing has run yet"),
        (["release:7"], "no such release"),
        (["minilm", "--diff", "smolm2"], "did you mean smollm2-135m"),
    ],
)
def test_mistakes(root: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    status, out, err = said(capsys, *words)
    assert (status, out) == (2, "\n")
    assert message in err


def test_differences_from_what_runs_and_between_releases(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    known = Releases(root / ".state" / "releases")
    for sets in (["LITELLM_TOP_K=20"], ["LITELLM_TOP_K=30", "MAX_REQUEST_SIZE=1M"]):
        made = plan.make(root, {}, sets, "smollm2-135m")
        release = known.propose(root, {"MODEL": "smollm2-135m"}, sets, made, "native")
        known.activate(release)
        known.mark(release, GOOD)
    between = json.loads(said(capsys, "release:1", "--diff", "release:2", "--json")[1])
    changed = {one["key"]: (one["before"]["value"], one["after"]["value"]) for one in between["differences"]}
    assert changed.pop("--override-generation-config")
    assert changed == {"top_k": ("20", "30"), "MAX_REQUEST_SIZE": ("33554432", "1048576")}
    assert between["restarts"] == ["the engine", "the gateway"]
    (root / "models" / "smollm2-135m.yml").write_text(
        (root / "models" / "smollm2-135m.yml").read_text().replace("--max-num-seqs 16", "--max-num-seqs 8")
    )
    status, out, _ = said(
        capsys, "smollm2-135m", "--diff", "running", "--set", "LITELLM_TOP_K=30", "--set", "MAX_REQUEST_SIZE=1M"
    )
    assert status == 0
    assert "--max-num-seqs" in out
    assert "top_k" not in out
    assert "the engine starts anew" in out
    assert said(capsys, "running", "--diff", "release:2")[1] == "running and release:2 do not differ\n"


def test_the_order_of_differences_is_that_of_the_sections(root: Path) -> None:
    found = compare.differences(
        plan.make(root, {}, [], "minilm"), plan.make(root, {"LITELLM_PORT": "4001"}, [], "glm47-flash")
    )
    order = [list(rows.TITLES).index(one.section) for one in found]
    assert order == sorted(order)
    assert found[-1].key == "LITELLM_PORT"


def test_what_is_said_is_a_sentence(root: Path) -> None:
    flags: dict[str, Any] = dict(catalogue.engine()["flags"])
    said_of = {flag: meaning.of_flag(flag) for flag in flags}
    assert not [flag for flag, text in said_of.items() if len(text) > 115 or "\n" in text]
