"""`./runMe.sh new`: what is read, what is written. A local server stands in for the hub."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from stack import cli, fragment, yaml_source
from stack.new import compose, hub, traits
from stack.new.compose import Machine
from stack.new.hub import Repository

GPU = Machine(gpu=True)
TODAY = date(2026, 11, 26)
QWEN = {"model_type": "qwen3_moe", "architectures": ["Qwen3MoeForCausalLM"], "max_position_embeddings": 262144}
TEMPLATE = "{% if tools %}<tools>{% endif %}{{ messages }}"
SAMPLING = {"do_sample": True, "temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.05, "eos_token_id": 1}


@dataclass
class Hub:
    """A hub: path to body, the requests it got, and a status for whoever has not the token."""

    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    seen: list[tuple[str, str]] = field(default_factory=list)
    redirect: str = ""

    def add(self, name: str, files: dict[str, Any], weights: int = 0, token: str = "") -> None:
        listed = [{"rfilename": file, "size": 1} for file in files] + [{"rfilename": "model.safetensors", "size": weights}]
        about = {"sha": "c0ffee", "siblings": listed}
        self.files[f"/api/models/{name}"] = json.dumps(about).encode()
        for file, content in files.items():
            text = content if isinstance(content, str) else json.dumps(content)
            self.files[f"/{name}/resolve/c0ffee/{file}"] = text.encode()
        if token:
            self.tokens[name] = token


@pytest.fixture
def served() -> Iterator[Hub]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            given = self.headers.get("Authorization", "")
            found.seen.append((path, given))
            needed = [token for name, token in found.tokens.items() if name in path]
            body = found.files.get(path)
            status = 401 if needed and given != f"Bearer {needed[0]}" else 200 if body is not None else 404
            if found.redirect and status == 200 and "resolve" in path:
                self.send_response(302)
                self.send_header("Location", found.redirect + path)
                self.end_headers()
                return
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body or b"" if status == 200 else b"")

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Hub(f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield found
    server.shutdown()
    server.server_close()


@pytest.fixture
def stack(root: Path, served: Hub, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in {
        "STACK_ROOT": str(root),
        "HF_HOME": str(root / "hf"),
        "HF_ENDPOINT": served.url,
        "SECRETS_DIR": str(root / "secrets"),
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return root


def made(root: Path, name: str) -> fragment.Fragment:
    return fragment.parse(yaml_source.load((root / "models" / f"{name}.yml").read_text(), f"models/{name}.yml"))


def written(repository: Repository, machine: Machine = GPU) -> dict[str, Any]:
    known = traits.of(repository)
    text = compose.fragment(repository, known, machine, TODAY)
    fragment.parse(yaml_source.load(text, "models/m.yml"))
    return {"text": text, "flags": " ".join(fragment.parse(yaml_source.load(text, "models/m.yml")).argv()[3:])}


def test_from_the_hub(stack: Path, served: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    files = {"config.json": QWEN, "generation_config.json": SAMPLING, "chat_template.jinja": TEMPLATE}
    served.add("Qwen/Qwen3-Coder-30B-A3B-Instruct", files, weights=61_000_000_000)
    assert cli.main(["new", "coder", "Qwen/Qwen3-Coder-30B-A3B-Instruct"]) == 0
    out = capsys.readouterr().out
    one = made(stack, "coder")
    assert one.argv() == [
        *("vllm", "serve", "Qwen/Qwen3-Coder-30B-A3B-Instruct"),
        *("--max-model-len", "262144", "--max-num-seqs", "16", "--gpu-memory-utilization", "0.85"),
        *("--enable-auto-tool-choice", "--tool-call-parser", "qwen3_coder"),
    ]
    assert one.litellm == {"temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.05}
    assert one.revision == "c0ffee"
    assert one.description == "Qwen3-Coder-30B-A3B-Instruct, 61.0 GB of weights"
    assert "wrote models/coder.yml" in out
    assert "MODEL=coder ./runMe.sh" in out
    assert {given for _, given in served.seen} == {""}


def test_a_gated_repository(stack: Path, served: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    served.add("org/gated", {"config.json": QWEN}, token="hf_secret")
    assert cli.main(["new", "gated", "org/gated"]) == 2
    error = capsys.readouterr().err
    assert "is gated, private or not there" in error
    assert "secrets/HF_TOKEN" in error
    assert not (stack / "models" / "gated.yml").exists()
    (stack / "secrets").mkdir()
    (stack / "secrets" / "HF_TOKEN").write_text("hf_other\n")
    assert cli.main(["new", "gated", "org/gated"]) == 2
    assert "may not be read with the token" in capsys.readouterr().err
    (stack / "secrets" / "HF_TOKEN").write_text("hf_secret\n")
    assert cli.main(["new", "gated", "org/gated"]) == 0
    captured = capsys.readouterr()
    assert "hf_secret" not in captured.out + captured.err + (stack / "models" / "gated.yml").read_text()


def test_the_token_goes_to_no_other_host(stack: Path, served: Hub) -> None:
    """Large files lie elsewhere, and the hub sends clients there."""
    served.add("org/m", {"config.json": QWEN})
    elsewhere: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            elsewhere.append(self.headers.get("Authorization", ""))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(QWEN).encode())

        def log_message(self, *_: Any) -> None:
            pass

    other = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=other.serve_forever, args=(0.01,), daemon=True).start()
    served.redirect = f"http://127.0.0.1:{other.server_port}"
    found = hub.read("org/m", stack / "hf", {"HF_ENDPOINT": served.url}, "hf_secret")
    other.shutdown()
    other.server_close()
    assert found.get("config.json") == QWEN
    assert elsewhere == [""]
    assert ("/api/models/org/m", "Bearer hf_secret") in served.seen


def test_a_repository_that_is_not_there(stack: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["new", "nothing", "org/nothing"]) == 2
    assert "has no such repository" in capsys.readouterr().err
    assert not (stack / "models" / "nothing.yml").exists()


def test_from_the_hubs_cache_when_it_cannot_be_reached(stack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    folder = stack / "hf" / "hub" / "models--org--m"
    for commit in ("old", "new"):
        (folder / "snapshots" / commit).mkdir(parents=True)
        (folder / "snapshots" / commit / "config.json").write_text(json.dumps({**QWEN, "max_position_embeddings": 1000}))
        (folder / "snapshots" / commit / "model.safetensors").write_bytes(b"x" * 1000)
    os.utime(folder / "snapshots" / "new" / "config.json", (1, 1))
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("new")
    assert cli.main(["new", "cached", "org/m"]) == 0
    one = made(stack, "cached")
    assert one.revision == "new"
    assert "--max-model-len 1000" in " ".join(one.argv())


def test_from_a_folder(stack: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = stack / "my model"
    folder.mkdir()
    monkeypatch.chdir(stack)
    assert cli.main(["new", "mine", "./my model"]) == 2
    assert "has no config.json" in capsys.readouterr().err
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": 8192, "model_type": "llama"}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))
    (folder / "model.safetensors").write_bytes(b"x")
    assert cli.main(["new", "mine", "./my model", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["source"], said["traits"]["tools"]) == ("folder", False)
    assert made(stack, "mine").argv()[2] == str(folder.resolve())
    assert made(stack, "mine").revision is None


def test_what_is_there_is_not_overwritten(stack: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (stack / "models" / "minilm.yml").read_bytes()
    assert cli.main(["new", "minilm", "org/m"]) == 2
    assert "models/minilm.yml: is there already" in capsys.readouterr().err
    assert (stack / "models" / "minilm.yml").read_bytes() == before


@pytest.mark.parametrize(("name", "repository"), [("../x", "org/m"), ("x", "m"), ("x", "a/b/c"), ("x", "a/-"), ("", "a/b")])
def test_names_that_are_none(stack: Path, capsys: pytest.CaptureFixture[str], name: str, repository: str) -> None:
    before = sorted((stack / "models").iterdir())
    assert cli.main(["new", name, repository]) == 2
    assert "error: new" in capsys.readouterr().err
    assert sorted((stack / "models").iterdir()) == before


def test_a_name_alone_when_nothing_can_be_reached(stack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert cli.main(["new", "later", "Qwen/Qwen3-8B"]) == 0
    text = (stack / "models" / "later.yml").read_text()
    assert "its name alone" in text
    assert "context is not known" in text
    assert "--reasoning-parser qwen3" in text


def test_a_broken_file_is_named(stack: Path, served: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    served.add("org/broken", {"config.json": "{not json"})
    assert cli.main(["new", "broken", "org/broken"]) == 2
    assert "org/broken/config.json: cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "config", "tool", "reasoning"),
    [
        ("zai-org/GLM-4.7-Flash", {"model_type": "glm4_moe_lite"}, "glm47", "glm45"),
        ("zai-org/GLM-4.6", {"model_type": "glm4_moe"}, "glm45", "glm45"),
        ("openai/gpt-oss-20b", {"model_type": "gpt_oss"}, "openai", "openai_gptoss"),
        ("Qwen/Qwen3-8B", {"model_type": "qwen3"}, "hermes", "qwen3"),
        ("Qwen/Qwen3-4B-Instruct-2507", {"model_type": "qwen3"}, "hermes", ""),
        ("Qwen/Qwen3-Coder-Next-FP8", {"model_type": "qwen3_next"}, "qwen3_coder", ""),
        (
            "Qwen/Qwen3.6-35B-A3B",
            {"model_type": "qwen3_5_moe", "text_config": {"model_type": "qwen3_5_moe_text"}},
            "qwen3_coder",
            "qwen3",
        ),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", {"model_type": "qwen2"}, "", "deepseek_r1"),
        ("Qwen/Qwen2.5-7B-Instruct", {"model_type": "qwen2"}, "hermes", ""),
        ("meta-llama/Llama-3.1-8B-Instruct", {"model_type": "llama"}, "llama3_json", ""),
        ("mistralai/Mistral-Small-3.2-24B-Instruct-2506", {"model_type": "mistral3"}, "mistral", ""),
        ("google/gemma-4-26b-a4b-it", {"model_type": "gemma4"}, "gemma4", "gemma4"),
        ("someone/unknown", {"model_type": "brand_new"}, "", ""),
        ("openai/gpt-oss-120b", {}, "openai", "openai_gptoss"),
        ("zai-org/GLM-4.7-Flash", {}, "glm47", "glm45"),
        ("someone/unknown", {}, "", ""),
    ],
)
def test_parsers_by_family(name: str, config: dict[str, Any], tool: str, reasoning: str) -> None:
    files = {"config.json": config, "chat_template.jinja": TEMPLATE} if config else {}
    known = traits.of(Repository(name, "hub" if config else "", files))
    assert (known.tool_parser, known.reasoning_parser) == (tool, reasoning)


def test_every_family_names_parsers_that_vllm_has() -> None:
    catalogue = json.loads((Path(traits.__file__).parents[1] / "catalogue" / "vllm_engine.json").read_text())["flags"]
    for row in traits.families():
        assert row.get("tool", "hermes") in catalogue["--tool-call-parser"]["known"], row
        assert row.get("reasoning", "qwen3") in catalogue["--reasoning-parser"]["known"], row
        assert set(row) <= {"type", "name", "tool", "reasoning", "template"}, row
        assert "tool" in row or "reasoning" in row, row


def test_an_embedding_model() -> None:
    files = {"config.json": {"architectures": ["BertModel"], "max_position_embeddings": 512}, "modules.json": []}
    result = written(Repository("org/e", "hub", {**files, "sentence_bert_config.json": {"max_seq_length": 256}}))
    assert result["flags"] == "--runner pooling --max-model-len 256"
    assert "litellm:" not in result["text"]


def test_a_model_that_sees_has_its_context_inside() -> None:
    config = {"model_type": "qwen3_5", "vision_config": {}, "text_config": {"max_position_embeddings": 4096}}
    known = traits.of(Repository("org/v", "hub", {"config.json": config}))
    assert (known.context, known.sees) == (4096, True)


def test_a_small_model_without_a_gpu_runs_on_processors() -> None:
    small = Repository("org/s", "hub", {"config.json": {"max_position_embeddings": 2048}}, weights=1 << 30)
    assert "--enforce-eager" in written(small, Machine(gpu=False))["flags"]
    assert "VLLM_CPU_KVCACHE_SPACE" in written(small, Machine(gpu=False))["text"]
    for repository, machine in (
        (small, Machine(gpu=True)),
        (Repository("org/l", "hub", weights=1 << 40), Machine(gpu=False)),
    ):
        result = written(repository, machine)
        assert "--enforce-eager" not in result["flags"]
        assert "VLLM_CPU_KVCACHE_SPACE" not in result["text"]


def test_no_more_context_than_fits() -> None:
    result = written(
        Repository("org/m", "hub", {"config.json": {"max_position_embeddings": 131072}}), Machine(True, context=40000)
    )
    assert "--max-model-len 40000" in result["flags"]
    assert "The model takes 131072 tokens" in result["text"]


@pytest.mark.parametrize("name", ["org/we'ird", "/home/me/my 'model'", "/päth/#1 ${x}"])
def test_any_name_makes_a_fragment(name: str) -> None:
    text = compose.fragment(Repository(name, "folder"), traits.Traits(), GPU, TODAY)
    assert fragment.parse(yaml_source.load(text, "models/m.yml")).argv()[2] == name
    assert yaml.safe_load(text)["description"]


@pytest.mark.parametrize(
    ("files", "note"),
    [
        ({"config.json": {"auto_map": {}}}, "code of its own"),
        ({"config.json": {"model_type": "llama"}, "tokenizer_config.json": {}}, "only /v1/completions works"),
        ({"config.json": {"model_type": "llama4"}, "chat_template.jinja": TEMPLATE}, "asks for --chat-template"),
        ({"config.json": {}, "chat_template.jinja": "{{ messages }}"}, "has no place for them"),
    ],
)
def test_what_one_should_look_at(files: dict[str, Any], note: str) -> None:
    assert note in written(Repository("org/m", "hub", files))["text"].replace("\n# ", " ")
