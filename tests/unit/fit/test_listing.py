"""The table of models, on the command line and in docs/models.md. UPDATE_DOCS=1 writes the latter."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from stack import cli
from stack.fit import facts, listing, machine

REPOSITORY = Path(__file__).resolve().parents[3]
PAGE = REPOSITORY / "docs" / "models.md"
BEGIN, END = "<!-- models: written by tests/unit/fit/test_listing.py -->\n", "<!-- end -->\n"


def test_the_page_has_every_model() -> None:
    page = PAGE.read_text()
    head, rest = page.split(BEGIN)
    made = head + BEGIN + listing.document(REPOSITORY) + END + rest.split(END)[1]
    if os.environ.get("UPDATE_DOCS"):
        PAGE.write_text(made)
        page = made
    assert page == made


def test_every_shipped_model_is_known() -> None:
    rows = listing.rows(REPOSITORY, [machine.named("gb10")], Path("/nonexistent"))
    assert len(rows) >= 15
    assert [row.name for row in rows if not row.weights or not row.context or row.fits() is None] == []


@pytest.fixture
def at(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for key, value in {"STACK_ROOT": root, "STATE_DIR": tmp_path / "state", "HF_HOME": tmp_path / "hf"}.items():
        monkeypatch.setenv(key, str(value))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setattr(machine, "here", lambda environ, build="auto": machine.named("4090"))
    return root


def test_models(at: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (at / "models" / "wrong.yml").write_text("command: vllm serve m\ntypo: 1\n")
    (at / "models" / "other.yml").write_text("description: d\ncommand: vllm serve org/other --max-model-len 4096\n")
    cached = tmp_path / "hf" / "hub" / "models--openai--gpt-oss-20b" / "snapshots" / "0"
    cached.mkdir(parents=True)
    for name in ("config.json", "model-00000-of-00002.safetensors"):
        (cached / name).write_text("{}")
    assert cli.main(["models", "--json"]) == 2
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert "typo: unknown key" in rows["wrong"]["error"]
    assert (rows["other"]["weights"], rows["other"]["fits"], rows["other"]["context"]) == (None, None, 4096)
    shown = rows["gpt-oss-20b"]
    assert (shown["weights"], shown["context"], shown["fits"], shown["cached"]) == (13761264768, 131072, True, True)
    assert (shown["tools"], shown["reasoning"]) == ("openai", "openai_gptoss")
    assert (rows["gpt-oss-120b"]["fits"], rows["gpt-oss-120b"]["cached"]) == (False, False)
    assert rows["gpt-oss-120b"]["why"].startswith("the weights take 64.4 GiB")
    assert cli.main(["models"]) == 2
    lines = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines()}
    assert lines["gpt-oss-20b"][1:8] == ["12.8", "GiB", "131,072", "yes", "openai", "openai_gptoss", "yes"]
    assert lines["gpt-oss-120b"][1:5] == ["64.4", "GiB", "131,072", "no"]
    assert lines["other"][1:4] == ["?", "4,096", "?"]


def test_facts_are_complete() -> None:
    """Each entry can be read, and none names another one that is not there."""
    for name in facts.recorded():
        known = facts.of(name)
        assert known is not None
        assert known.weights > 1_000_000
        assert known.architecture
        assert known.context >= 512
