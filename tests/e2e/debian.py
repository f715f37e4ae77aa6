"""Programs from packages of Debian 13, unpacked into a folder: nothing is installed, and nothing started."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
SUITE = "trixie"


def unpack(folder: Path, *packages: str) -> Path:
    """The folder with the packages' programs; skips the test where Debian's packages cannot be had."""
    programs = folder / "usr" / "bin"
    if programs.is_dir():
        return programs
    if not shutil.which("apt-get") or not KEYRING.exists():
        pytest.skip(f"this is no Debian, from whose packages {', '.join(packages)} are taken")
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    for name in ("lists", "cache"):
        (part / "apt" / name / "partial").mkdir(parents=True)
    mirror = _run(["apt-get", "indextargets", "--format", "$(REPO_URI)", "Origin: Debian"], part).split()[:1]
    if not mirror:
        pytest.skip("this machine knows no mirror of Debian")
    source = part / "apt" / "sources.list"
    source.write_text(f"deb [signed-by={KEYRING}] {mirror[0]} {SUITE} main\n")
    options = {
        "Dir::Etc::SourceList": source,
        "Dir::Etc::SourceParts": "-",
        "Dir::State::Lists": part / "apt" / "lists",
        "Dir::Cache": part / "apt" / "cache",
        "APT::Sandbox::User": "root",
    }
    apt = ["apt-get", *(word for key, value in options.items() for word in ("-o", f"{key}={value}"))]
    try:
        _run([*apt, "update"], part)
        _run([*apt, "download", *packages], part)
        for package in part.glob("*.deb"):
            _run(["dpkg-deb", "-x", str(package), str(part)], part)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"Debian's packages {', '.join(packages)} cannot be had: {error}")
    shutil.rmtree(part / "apt")
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)
    return programs


def _run(argv: list[str], folder: Path) -> str:
    return subprocess.run(argv, cwd=folder, check=True, capture_output=True, text=True, timeout=120).stdout
