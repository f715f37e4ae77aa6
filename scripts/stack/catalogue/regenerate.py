"""Write the lists of names beside this file, from the real LiteLLM and the real vLLM.

    GATEWAY_ENV/bin/python scripts/stack/catalogue/regenerate.py litellm > scripts/stack/catalogue/litellm_params.txt
    ENGINE_ENV/bin/python  scripts/stack/catalogue/regenerate.py vllm    > scripts/stack/catalogue/vllm_request_params.txt

A test runs both and compares, so that a new version of either cannot leave these lists behind.
"""

from __future__ import annotations

import sys


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


if __name__ == "__main__":
    names = {"litellm": litellm_params, "vllm": vllm_request_params}[sys.argv[1]]()
    sys.stdout.write("\n".join(sorted(name for name in names if name[0] != "_" and name != "self")) + "\n")
