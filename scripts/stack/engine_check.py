"""Run in the engine's environment: what vLLM itself says of `vllm serve` commands, given as JSON lists on standard input.

Prints one JSON object: for each command the problems found, an empty list if it is right.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def problems(argv: list[str], parser: Any) -> list[str]:
    """What is wrong with an argument list that begins with `vllm serve MODEL`."""
    from vllm.entrypoints.launchers.cli_args import validate_parsed_serve_args
    from vllm.reasoning import ReasoningParserManager
    from vllm.tool_parsers import ToolParserManager

    found = [
        f"{word}: not the full name of a flag"
        for word in argv[3:]
        if word.startswith("--") and word.split("=")[0].split(".")[0].replace("_", "-") not in parser._option_string_actions
    ]
    try:
        parsed = parser.parse_args(argv[2:])
        validate_parsed_serve_args(parsed)
    except (SystemExit, Exception) as error:
        return [*found, f"refused: {error}"]
    for value, manager in (
        (parsed.tool_call_parser, ToolParserManager),
        (getattr(parsed, "reasoning_parser", ""), ReasoningParserManager),
    ):
        if value and value not in manager.list_registered():
            found.append(f"{value}: no such parser")
    from vllm.model_executor.model_loader import _LOAD_FORMAT_TO_MODEL_LOADER

    if parsed.load_format not in _LOAD_FORMAT_TO_MODEL_LOADER:
        found.append(f"{parsed.load_format}: no such load format")
    return found


def refuse(message: str) -> None:
    """In place of argparse's own way, which prints the usage and ends the process."""
    raise ValueError(message)


if __name__ == "__main__":
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    serve = make_arg_parser(FlexibleArgumentParser())
    serve.error = refuse
    json.dump([problems(argv, serve) for argv in json.load(sys.stdin)], sys.stdout)
