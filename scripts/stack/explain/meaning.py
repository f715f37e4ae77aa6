"""One line on what each flag, variable and parameter does."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from stack.check.catalogue import engine
from stack.settings import BY_KEY, BY_PARAM

MODEL = "the Hugging Face repository, or a folder with the model's files"
# LiteLLM describes its parameters in no place a program could read; these are the ones that fragments use.
_PARAMETERS: Mapping[str, str] = {
    "model": "LiteLLM's provider and the name the engine knows the model by",
    "api_base": "where the gateway finds the engine",
    "api_key": "the engine's key",
    "max_tokens": "default output limit in tokens",
    "max_output_tokens": "the same limit by the name it has on /v1/responses",
    "min_p": "default min-p: tokens less likely than this share of the likeliest one are left out",
    "presence_penalty": "default penalty for tokens that have occurred at all",
    "frequency_penalty": "default penalty for tokens by how often they have occurred",
    "stop": "texts at which an answer ends",
    "seed": "default seed of sampling",
    "n": "how many answers a request gets",
    "logprobs": "return the tokens' log probabilities",
    "reasoning_effort": "how much a reasoning model thinks before it answers",
    "thinking": "Anthropic's way of asking for reasoning",
    "chat_template_kwargs": "values for the model's chat template, such as enable_thinking",
    "extra_body": "fields added to each request as they are; a request cannot override them",
    "extra_headers": "headers added to each request to the engine",
    "response_format": "default form of an answer, such as a JSON schema",
    "stream_timeout": "seconds until a stream that does not begin is given up",
    "max_retries": "retries by the client library inside the gateway",
    "rpm": "requests a minute that the router plans with",
    "tpm": "tokens a minute that the router plans with",
    "weight": "share of requests among deployments of one name",
    "order": "priority among deployments of one name",
    "tags": "tags for routing and usage records",
    "input_cost_per_token": "price of an input token in US dollars, for usage records",
    "output_cost_per_token": "price of an output token in US dollars, for usage records",
    "drop_params": "leave out request parameters the engine does not know, instead of an error",
    "allowed_openai_params": "request parameters that pass although LiteLLM does not list them",
    "stream_interval": "tokens that a streamed piece carries",
    "truncate_prompt_tokens": "cut prompts to their last so many tokens",
    "skip_special_tokens": "leave special tokens out of the text",
    "repetition_detection": "end an answer that repeats itself",
}
_VARIABLES: Mapping[str, str] = {
    "NCCL_DEBUG": "how much NCCL logs: VERSION, WARN, INFO or TRACE",
    "NCCL_SOCKET_IFNAME": "network interfaces NCCL uses between machines",
    "NCCL_IB_DISABLE": "1: NCCL does not use InfiniBand or RoCE",
    "NCCL_IB_HCA": "InfiniBand or RoCE adapters NCCL uses",
    "NCCL_P2P_DISABLE": "1: NCCL copies between GPUs through the machine's memory",
    "NCCL_P2P_LEVEL": "how far apart two GPUs may be for NCCL to copy between them directly",
    "NCCL_SHM_DISABLE": "1: NCCL does not use shared memory",
    "NCCL_CUMEM_ENABLE": "1: NCCL allocates by CUDA's virtual memory functions",
    "NCCL_NVLS_ENABLE": "1: NCCL uses NVLink SHARP where the switches have it",
    "CUDA_VISIBLE_DEVICES": "the GPUs the engine sees",
    "PYTORCH_CUDA_ALLOC_CONF": "settings of PyTorch's GPU memory allocator",
    "PYTORCH_ALLOC_CONF": "settings of PyTorch's memory allocator",
    "OMP_NUM_THREADS": "threads of CPU kernels",
    "HF_HUB_OFFLINE": "1: nothing is asked of the Hugging Face hub",
    "HF_ENDPOINT": "address of the Hugging Face hub or a mirror",
    "TORCH_CUDA_ARCH_LIST": "GPU architectures for which kernels are compiled",
    "TIKTOKEN_ENCODINGS_BASE": "folder of vocabularies for the gpt-oss models",
}


def of_flag(flag: str) -> str:
    """What a flag of `vllm serve` does; empty for one that is seldom set."""
    known = described()
    return known.get(flag) or known.get(flag.replace("--no-", "--", 1), "")


def default_of(flag: str) -> str:
    """The default of a flag in vLLM as text, or empty if it has none."""
    default = _flag(flag).get("default")
    return "" if default is None else "true" if default is True else "false" if default is False else str(default)


def of_variable(name: str) -> str:
    """What a variable of the engine's environment does."""
    if name in _VARIABLES:
        return _VARIABLES[name]
    if name in BY_KEY:
        return BY_KEY[name].help
    return described().get(name, "")


def of_parameter(name: str) -> str:
    """What a LiteLLM parameter does."""
    return _PARAMETERS.get(name) or (BY_PARAM[name].help if name in BY_PARAM else "")


@cache
def described() -> Mapping[str, str]:
    """The flags and variables that vllm.txt describes."""
    lines = Path(__file__).with_name("vllm.txt").read_text("utf-8").splitlines()
    return dict(line.split(": ", 1) for line in lines if line and not line.startswith("#"))


def names() -> set[str]:
    """Every flag and variable that vLLM has, and every parameter described here."""
    return {*engine()["flags"], *engine().get("env", {}), *_PARAMETERS, *_VARIABLES}


@cache
def _flag(flag: str) -> Mapping[str, Any]:
    flags: Mapping[str, Mapping[str, Any]] = engine()["flags"]
    return flags.get(flag) or flags.get(flag.replace("--no-", "--", 1), {})


def variables() -> set[str]:
    """Every variable of the engine's environment that vLLM has or that is described here."""
    return {*engine().get("env", {}), *_VARIABLES}
