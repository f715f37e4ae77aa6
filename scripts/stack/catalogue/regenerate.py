"""Write the lists of names beside this file, from the real LiteLLM and the real vLLM.

    GATEWAY_ENV/bin/python scripts/stack/catalogue/regenerate.py litellm > scripts/stack/catalogue/litellm_params.txt
    ENGINE_ENV/bin/python  scripts/stack/catalogue/regenerate.py vllm    > scripts/stack/catalogue/vllm_request_params.txt
    ENGINE_ENV/bin/python  scripts/stack/catalogue/regenerate.py hf      > scripts/stack/catalogue/hf_config_keys.txt
    ENGINE_ENV/bin/python  scripts/stack/catalogue/regenerate.py engine  > scripts/stack/catalogue/vllm_engine.json

A test runs all and compares, so that a new version of either cannot leave these lists behind.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def litellm_params() -> set[str]:
    """Names LiteLLM 1.108.7 accepts in `litellm_params`."""
    from litellm.constants import OPENAI_CHAT_COMPLETION_PARAMS
    from litellm.types.router import LiteLLM_Params
    from litellm.types.utils import all_litellm_params

    return {*LiteLLM_Params.model_fields, *OPENAI_CHAT_COMPLETION_PARAMS, *all_litellm_params, "extra_body"}


def vllm_request_params() -> set[str]:
    """Names vLLM 0.32.0 accepts in a request, on any of the routes the gateway uses."""
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
    from vllm.entrypoints.openai.completion.protocol import CompletionRequest
    from vllm.entrypoints.openai.responses.protocol import ResponsesRequest
    from vllm.entrypoints.pooling.embed.protocol import EmbeddingChatRequest, EmbeddingCompletionRequest

    requests = (ChatCompletionRequest, CompletionRequest, ResponsesRequest, EmbeddingCompletionRequest, EmbeddingChatRequest)
    return {name for request in requests for name in request.model_fields}


def hf_keys() -> set[str]:
    """Keys that --hf-overrides may have: those that some model's configuration has."""
    from stack.catalogue.vllm_names import hf_keys as found

    return found()


def engine() -> str:
    """Flags, keys and environment of vLLM 0.32.0: JSON with one entry a line, so that a change can be read."""
    from vllm.version import __version__

    from stack.catalogue import vllm_env, vllm_names

    found = vllm_names.Engine()
    flags = found.flags()
    tables: dict[str, Mapping[str, Any]] = {"flags": flags, "env": vllm_env.environment()}
    classes = found.classes()
    parts = [f'"version": {json.dumps(__version__.partition("+")[0])}']
    parts += [f'"generation": {json.dumps(vllm_names.generation())}']
    parts += [f'"{name}": {_lines(table, " ")}' for name, table in tables.items()]
    inner = ",\n".join(f' "{name}": {_lines(table, "  ")}' for name, table in classes.items())
    return "{\n" + ",\n".join([*parts, f'"classes": {{\n{inner}\n}}']) + "\n}\n"


def _lines(table: Mapping[str, Any], indent: str) -> str:
    rows = [f"{indent}{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in table.items()]
    return "{\n" + ",\n".join(rows) + f"\n{indent[1:]}}}"


def main(which: str) -> None:
    """Print one of the lists."""
    if which == "engine":
        sys.stdout.write(engine())
        return
    names = {"litellm": litellm_params, "vllm": vllm_request_params, "hf": hf_keys}[which]()
    sys.stdout.write("\n".join(sorted(name for name in names if name[0] != "_" and name != "self")) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
