"""GPUs by name, and what nvidia-smi says of this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from stack.errors import ConfigError
from stack.fit import machine
from stack.fit.machine import GIB


@pytest.mark.parametrize(
    ("text", "gib", "count", "shared"),
    [
        ("gb10", 121.69, 1, True),
        ("H100", 79.18, 1, False),
        ("4xh100", 79.18, 4, False),
        ("24GB", 23.52, 1, False),
        ("2x96gb", 94.08, 2, False),
        ("rtx-6000-pro", 94.97, 1, False),
    ],
)
def test_names(text: str, gib: float, count: int, shared: bool) -> None:
    made = machine.named(text)
    assert (round(made.memory / GIB, 2), made.count, made.shared, made.cpu) == (gib, count, shared, False)


@pytest.mark.parametrize(
    ("text", "cure"), [("h10", "did you mean h100"), ("voodoo", "names are gb10"), ("0xh100", ""), ("0GB", "")]
)
def test_no_such_gpu(text: str, cure: str) -> None:
    with pytest.raises(ConfigError) as caught:
        machine.named(text)
    assert f"--gpu {text}" in str(caught.value)
    assert cure in str(caught.value)


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program of that name, which prints the file beside it."""
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\nexec cat {tmp_path}/rows\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(machine, "_system_memory", lambda: 100 * GIB)
    return tmp_path / "rows"


def test_one_gpu(smi: Path) -> None:
    smi.write_text("NVIDIA H100 80GB HBM3, 81559\n")
    made = machine.here({})
    assert (made.name, made.memory, made.count, made.shared, made.cpu) == (
        "NVIDIA H100 80GB HBM3",
        81559 << 20,
        1,
        False,
        False,
    )


def test_several_are_as_good_as_the_smallest(smi: Path) -> None:
    smi.write_text("NVIDIA GeForce RTX 4090, 24564\nNVIDIA GeForce RTX 3060, 12288\n")
    assert (machine.here({}).count, machine.here({}).memory) == (2, 12288 << 20)
    one = machine.here({"CUDA_VISIBLE_DEVICES": "0"})
    assert (one.count, one.memory, one.name) == (1, 24564 << 20, "NVIDIA GeForce RTX 4090")
    assert machine.here({"CUDA_VISIBLE_DEVICES": ""}).cpu


def test_a_gb10_shares_the_systems_memory(smi: Path) -> None:
    smi.write_text("NVIDIA GB10, [N/A]\n")
    made = machine.here({})
    assert (made.memory, made.shared, made.cpu) == (100 * GIB, True, False)


@pytest.mark.parametrize("content", ["", "No devices were found\n"])
def test_no_gpu(smi: Path, content: str) -> None:
    smi.write_text(content)
    made = machine.here({})
    assert (made.cpu, made.memory, made.shared) == (True, 100 * GIB, True)


def test_a_build_for_the_cpu_asks_no_gpu(smi: Path) -> None:
    smi.write_text("NVIDIA H100 80GB HBM3, 81559\n")
    assert machine.here({}, "cpu").cpu
