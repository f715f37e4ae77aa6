"""A machine to examine: folders, and a PATH with only what a test puts there."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stack.doctor import examine
from stack.doctor.finding import FAULT, WARNING, Finding
from stack.doctor.probe import Probe
from stack.runtime.layout import Layout

NOBODY = 65534
MODEL = "org/m"
FRAGMENT = f"description: d\ncommand: vllm serve {MODEL} --max-model-len 4096\n"


@dataclass
class Machine:
    """What the checks see."""

    folder: Path
    root: Path
    environ: dict[str, str]
    changes: dict[str, Any] = field(default_factory=dict)

    @property
    def layout(self) -> Layout:
        return Layout(self.root, self.folder / "state", self.folder / "secrets", self.folder / "envs")

    def probe(self) -> Probe:
        given: dict[str, Any] = {
            "sys": self.folder / "sys",
            "dev": self.folder / "dev",
            "library": lambda name: f"lib{name}.so.1",
            "seconds": 2.0,
        }
        return Probe(self.layout, self.environ, **{**given, **self.changes})

    def find(self, check: str) -> list[Finding]:
        """What one check finds, by its name."""
        (wanted,) = [one for one in examine.CHECKS if one.name == check]
        return examine.examine(self.probe(), [wanted])

    def program(self, name: str, script: str) -> Path:
        """A program on PATH, in shell."""
        path = self.folder / "bin" / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    def docker(
        self, info: object = None, error: str = "", compose: str = "2.39.1", ps: list[dict[str, str]] | None = None
    ) -> None:
        """A Docker client that prints what real ones do."""
        (self.folder / "info.json").write_text(json.dumps(info if info is not None else {"ServerVersion": ""}) + "\n")
        (self.folder / "error").write_text(error)
        (self.folder / "ps").write_text("".join(json.dumps(one) + "\n" for one in ps or []))
        tools = "PATH=/usr/bin:/bin"
        self.program(
            "docker",
            f"""{tools}
case "$1" in
info) cat {self.folder}/info.json; cat {self.folder}/error >&2; [ ! -s {self.folder}/error ] ;;
compose) {f"echo {compose}" if compose else "echo 'unknown flag: --short' >&2; exit 125"} ;;
ps) cat {self.folder}/ps ;;
*) exit 1 ;;
esac""",
        )

    def nvidia(self, out: str = "", err: str = "", status: int = 0, apps: str = "") -> None:
        """nvidia-smi, which answers the two questions it is asked."""
        for name, text in (("smi.out", out), ("smi.err", err), ("smi.apps", apps)):
            (self.folder / name).write_text(f"{text}\n" if text else "")
        self.program(
            "nvidia-smi",
            f"""PATH=/usr/bin:/bin
case "$1" in
--query-compute-apps*) cat {self.folder}/smi.apps ;;
*) cat {self.folder}/smi.out; cat {self.folder}/smi.err >&2; exit {status} ;;
esac""",
        )

    def card(self) -> None:
        """An NVIDIA GPU on the PCI bus."""
        device = self.folder / "sys" / "bus" / "pci" / "devices" / "0000:01:00.0"
        device.mkdir(parents=True)
        (device / "vendor").write_text("0x10de\n")
        (device / "class").write_text("0x030200\n")

    def proc(self, **files: str) -> None:
        """/proc with other texts; the rest is the real one's."""
        folder = self.folder / "proc"
        folder.mkdir(exist_ok=True)
        for name, text in files.items():
            path = folder / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self.changes["proc"] = folder


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Hub:
    """A hub.

    Attributes:
        answers: path -> (status, headers, body); other paths answer 200.
        seen: (method, path, token) of each request.
    """

    url: str = ""
    answers: dict[str, tuple[int, dict[str, str], str]] = field(default_factory=dict)
    seen: list[tuple[str, str, str]] = field(default_factory=list)


def as_user(work: Callable[[], list[Finding]]) -> list[Finding]:
    """What `work` returns as a user without rights: root is never refused anything. In a process of its own."""
    if os.geteuid() != 0:
        return work()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            found = work()
            os.write(writer, json.dumps([vars(one) for one in found]).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    assert text, "the child ended without an answer"
    return [Finding(**one) for one in json.loads(text)]


def says(findings: list[Finding], level: str, *words: str, cure: str = "") -> None:
    """Assert that one finding has this level, all the words, and a cure with these."""
    shown = "\n".join(f"{one.level}: {one.what} -> {one.cure}" for one in findings)
    for one in findings:
        if one.level == level and all(word in one.what for word in words) and cure in one.cure:
            assert bool(one.cure) == (level in (WARNING, FAULT)), shown
            return
    raise AssertionError(f"no {level} with {words} and cure {cure!r} in:\n{shown}")
