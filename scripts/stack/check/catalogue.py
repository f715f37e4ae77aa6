"""What vLLM and the models' configurations know, as generated from the real programs (catalogue/regenerate.py)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).resolve().parents[1] / "catalogue"
Entry = Mapping[str, Any]


@cache
def engine() -> Mapping[str, Any]:
    """The whole catalogue: `version`, `generation`, `flags`, `env` and `classes`; see catalogue/vllm_names.py."""
    found: dict[str, Any] = json.loads((_FOLDER / "vllm_engine.json").read_text("utf-8"))
    return found


def version() -> str:
    """The version of vLLM that the catalogue is of, such as `0.32.0`."""
    return str(engine()["version"])


def flags() -> Mapping[str, Entry]:
    """Flags of `vllm serve` by their first long name."""
    found: Mapping[str, Entry] = engine()["flags"]
    return found


@cache
def names() -> Mapping[str, str]:
    """Every way to write a flag, with dashes, and which flag that is."""
    found = {}
    for name, entry in flags().items():
        found[name] = name
        found.update(dict.fromkeys(entry.get("also", ()), name))
        if entry["value"] == "flag":
            found[f"--no-{name[2:]}"] = name
            # argparse makes the opposite of each long name.
            found.update({f"--no-{also[2:]}": name for also in entry.get("also", ()) if also.startswith("--")})
    return found


def classes() -> Mapping[str, Mapping[str, Entry]]:
    """Keys of the JSON objects that flags take, by the class that reads them."""
    found: Mapping[str, Mapping[str, Entry]] = engine()["classes"]
    return found


def env() -> Mapping[str, Entry]:
    """Environment variables that vLLM reads."""
    found: Mapping[str, Entry] = engine()["env"]
    return found


@cache
def hf_config_keys() -> frozenset[str]:
    """Keys that the configuration of some model has."""
    return frozenset((_FOLDER / "hf_config_keys.txt").read_text("utf-8").split())


@cache
def request_params() -> frozenset[str]:
    """Names that vLLM takes in a request."""
    return frozenset((_FOLDER / "vllm_request_params.txt").read_text("utf-8").split())
