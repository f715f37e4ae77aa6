"""The hub: reached or not, the token, access to the model, the cache."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from stack.doctor import web
from stack.doctor.finding import FAULT, NONE, OK, WARNING
from tests.unit.doctor.machines import Hub, Machine, says

TOKEN = "hf_" + "a" * 34
CONFIG = "/org/m/resolve/main/config.json"


def cache(machine: Machine, *files: str, index: tuple[str, ...] = ()) -> Path:
    """A snapshot of the model."""
    folder = machine.folder / "home/.cache/huggingface/hub/models--org--m"
    snapshot = folder / "snapshots" / "0123abc"
    snapshot.mkdir(parents=True, exist_ok=True)
    (folder / "refs").mkdir(exist_ok=True)
    (folder / "refs" / "main").write_text("0123abc")
    for name in ("config.json", *files):
        (snapshot / name).write_text("{}")
    if index:
        (snapshot / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {name: name for name in index}}))
    return snapshot


def secret(machine: Machine, value: str = TOKEN) -> None:
    machine.layout.secrets.mkdir(exist_ok=True)
    (machine.layout.secrets / "HF_TOKEN").write_text(value + "\n")


def test_hub_cannot_be_reached(machine: Machine) -> None:
    says(machine.find("hub"), FAULT, "HF_ENDPOINT", "Connection refused", cure="HF_ENDPOINT=")
    says(machine.find("model repository"), FAULT, "not in the cache", "cannot be reached", cure="offline source")


def test_being_offline_is_no_fault_with_the_weights(machine: Machine) -> None:
    cache(machine, "model.safetensors")
    says(machine.find("hub"), WARNING, "cannot be reached", "the weights are in the cache", cure="firewall")
    says(machine.find("model repository"), OK, "is in the cache")
    machine.environ["HF_HUB_OFFLINE"] = "1"
    says(machine.find("hub"), NONE, "HF_HUB_OFFLINE")
    says(machine.find("model repository"), OK, "is in the cache", "HF_HUB_OFFLINE")


def test_being_offline_is_no_fault_with_an_offline_source(machine: Machine) -> None:
    machine.environ["MODEL"] = "smollm2-135m"
    says(machine.find("hub"), WARNING, "offline source", cure="firewall")
    machine.environ["WEIGHTS_SOURCE"] = "hub"
    says(machine.find("hub"), FAULT, "cannot be reached", cure="firewall")


def test_offline_on_purpose_without_weights(machine: Machine) -> None:
    machine.environ["HF_HUB_OFFLINE"] = "1"
    says(machine.find("model repository"), FAULT, "HF_HUB_OFFLINE is set", cure="unset HF_HUB_OFFLINE")


def test_hub_is_reached(machine: Machine, hub: Hub) -> None:
    says(machine.find("hub"), OK, hub.url)
    hub.answers["/"] = (503, {}, "")
    says(machine.find("hub"), FAULT, "503", cure="wait")


def test_hub_does_not_answer(machine: Machine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        machine.environ["HF_ENDPOINT"] = f"http://127.0.0.1:{silent.getsockname()[1]}"
        machine.changes["seconds"] = 0.3
        says(machine.find("hub"), FAULT, "cannot be reached", cure="firewall")


def test_certificate_is_not_trusted(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = web.Answer(0, why="self-signed certificate in certificate chain", untrusted=True)
    monkeypatch.setattr(web, "ask", lambda *_, **__: answer)
    says(machine.find("hub"), FAULT, "not trusted", "self-signed", cure="REQUESTS_CA_BUNDLE")


def test_names_that_do_not_resolve(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.environ["HF_ENDPOINT"] = "https://hub.invalid"

    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    says(machine.find("names"), FAULT, "hub.invalid cannot be resolved", "Temporary failure", cure="/etc/resolv.conf")


def test_proxies(machine: Machine) -> None:
    says(machine.find("proxy"), NONE, "no proxy")
    machine.environ.update(https_proxy="http://me:pass%21word@proxy.example:3128", no_proxy="localhost,127.0.0.1")
    found = machine.find("proxy")
    says(found, OK, "https_proxy=http://proxy.example:3128")
    assert "pass" not in str(found)
    machine.environ["HTTPS_PROXY"] = "http://other.example:3128"
    says(machine.find("proxy"), WARNING, "https_proxy and HTTPS_PROXY differ", cure="same value")
    del machine.environ["HTTPS_PROXY"]
    machine.environ["https_proxy"] = "http://:port"
    says(machine.find("proxy"), FAULT, "not an address", cure="https_proxy=")
    machine.environ["https_proxy"] = "socks5://proxy.example:1080"
    says(machine.find("proxy"), WARNING, "SOCKS", cure="HTTP proxy")


def test_a_proxy_in_the_way_of_the_stack_itself(machine: Machine) -> None:
    machine.environ["http_proxy"] = "http://proxy.example:3128"
    says(machine.find("proxy"), WARNING, "no_proxy does not name 127.0.0.1", cure="export no_proxy=")


def test_a_proxy_that_wants_a_login(machine: Machine, hub: Hub) -> None:
    machine.environ.update(http_proxy=hub.url, HF_ENDPOINT="http://hub.example")
    hub.answers["http://hub.example"] = hub.answers["http://hub.example/"] = (407, {}, "")
    says(machine.find("hub"), FAULT, "407", "through the proxy", cure="https_proxy=")


def test_no_token(machine: Machine) -> None:
    says(machine.find("Hugging Face token"), OK, "none")
    machine.environ["HF_TOKEN"] = TOKEN
    says(machine.find("Hugging Face token"), WARNING, "in the environment only", cure="that file")


def test_token(machine: Machine, hub: Hub) -> None:
    secret(machine)
    hub.answers["/api/whoami-v2"] = (200, {}, '{"name": "alice"}')
    found = machine.find("Hugging Face token")
    says(found, OK, "secrets/HF_TOKEN, of alice")
    assert ("GET", "/api/whoami-v2", f"Bearer {TOKEN}") in hub.seen
    hub.answers["/api/whoami-v2"] = (401, {}, "")
    found += machine.find("Hugging Face token")
    says(found, FAULT, "does not accept secrets/HF_TOKEN", cure="settings/tokens")
    secret(machine, "my-own-password")
    found += machine.find("Hugging Face token")
    says(found, WARNING, "does not look like a token", cure="secrets/HF_TOKEN")
    assert TOKEN not in str(found)
    assert "my-own-password" not in str(found)


def test_the_token_does_not_follow_to_another_host(machine: Machine, hub: Hub) -> None:
    secret(machine)
    with socket.create_server(("127.0.0.1", 0)) as other:
        other.settimeout(0.2)
        hub.answers[CONFIG] = (302, {"Location": f"http://127.0.0.1:{other.getsockname()[1]}/x"}, "")
        says(machine.find("model repository"), OK, "lets it be read")
        with pytest.raises(TimeoutError):
            other.accept()


@pytest.mark.parametrize(
    ("status", "code", "has_token", "words", "cure"),
    [
        (401, "GatedRepo", False, "gated, and there is no token", "secrets/HF_TOKEN"),
        (403, "GatedRepo", True, "the token's account has no access", "ask for access at https://huggingface.co/org/m"),
        (401, "RepoNotFound", False, "does not exist, or is private", "check the name"),
        (404, "RevisionNotFound", True, "no revision", "revision:"),
        (404, "EntryNotFound", False, "no config.json", "https://huggingface.co/org/m"),
        (500, "", False, "answers 500", "try again"),
    ],
)
def test_access(machine: Machine, hub: Hub, status: int, code: str, has_token: bool, words: str, cure: str) -> None:
    if has_token:
        secret(machine)
    hub.answers[CONFIG] = (status, {"X-Error-Code": code} if code else {}, "")
    says(machine.find("model repository"), FAULT, words, cure=cure)
    cache(machine, "model.safetensors")
    says(machine.find("model repository"), WARNING, words, cure=cure)


def test_too_many_requests(machine: Machine, hub: Hub) -> None:
    hub.answers[CONFIG] = (429, {}, "")
    says(machine.find("model repository"), WARNING, "429", cure="wait")


def test_a_model_in_a_folder(machine: Machine) -> None:
    folder = machine.folder / "own"
    (machine.root / "models" / "m.yml").write_text(f"command: vllm serve {folder} --max-model-len 64\n")
    says(machine.find("model repository"), FAULT, "no config.json", cure="path")
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    says(machine.find("model repository"), OK, str(folder))


def test_cache_that_is_not_whole(machine: Machine) -> None:
    snapshot = cache(machine, "model-1.safetensors", index=("model-1.safetensors", "model-2.safetensors"))
    says(machine.find("model cache"), WARNING, "lacks model-2.safetensors", cure="next start")
    says(machine.find("model repository"), FAULT, "in part: model-2.safetensors is missing", cure="hub")
    (snapshot / "model-2.safetensors").symlink_to("../../blobs/gone")
    says(machine.find("model cache"), WARNING, "model-2.safetensors", cure="next start")
    (snapshot / "model-2.safetensors").unlink()
    (snapshot / "model-2.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n")
    says(machine.find("model cache"), WARNING, "Git LFS pointer", cure="next start")
    (snapshot / "model-2.safetensors").write_text("{}")
    says(machine.find("model cache"), OK, "is whole")
    blobs = snapshot.parents[1] / "blobs"
    blobs.mkdir()
    (blobs / "f00.incomplete").write_bytes(b"x" * 2048)
    says(machine.find("model cache"), WARNING, "2 KiB of unfinished downloads", cure="incomplete")


def test_package_index(machine: Machine) -> None:
    python = machine.layout.environments / "cli-1" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\necho 'ERROR: Could not find a version that satisfies the requirement pip' >&2\nexit 1\n")
    python.chmod(0o755)
    says(machine.find("package index"), FAULT, "Could not find a version", "engine-cpu", cure="PIP_INDEX_URL=")
    python.write_text("#!/bin/sh\necho pip\n")
    says(machine.find("package index"), OK, "answers pip")
    for name in ("cli-1", "database-1", "engine-cpu-1", "gateway-1"):
        (machine.layout.environments / name).mkdir(exist_ok=True)
        (machine.layout.environments / name / ".complete").touch()
    says(machine.find("package index"), NONE, "all environments are installed")
