"""Why a model did not load: each way to fail, from the engine's log to place, what and cure.

The logs under engine_logs/ were recorded from vLLM 0.32.0 on a CPU (the hub being a local server) and shortened: of each
traceback only the innermost frame, paths, ports and process numbers replaced. What needs a GPU is written from the source.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from stack import diagnosis, fragment, log_errors

LOGS = Path(__file__).parent / "engine_logs"
Make = Callable[..., fragment.Fragment]
TEXT = """\
command: |
  vllm serve org/model \\
    --max-model-len 131072 \\
    --gpu-memory-utilization=0.99 \\
    --max-num-seqs 256 \\
    --tensor_parallel_size 8 \\
    --quantization fp8 \\
    # --kv-cache-dtype auto would do
    --kv-cache-dtype fp8 \\
    --attention-backend FLASHINFER \\
    --dtype bfloat16 \\
    --load-format runai_streamer \\
    --tool-call-parser nope \\
    --enable-magic
env:
  VLLM_CPU_KVCACHE_SPACE: "1"
revision: nope
"""

# Name of the log, and what is made of it.
RECORDED = [
    (
        "bad-parser",
        'models/m.yml:13: vLLM has no such parser: "invalid tool call parser: nope"\n'
        "  set one that it lists: ./runMe.sh logs engine",
    ),
    (
        "bad-token",
        'secrets/HF_TOKEN: the hub does not accept the token: "Invalid credentials in Authorization header"\n'
        "  put a valid token into secrets/HF_TOKEN, or none",
    ),
    (
        "context-kv-cache",
        'models/m.yml:3: the context does not fit into the KV cache: "To serve at least one request with the model\'s max seq len (131072), (2.81 GiB KV cache is needed, which is larger than the available KV cache memory (1.0 GiB). Based on the available memory, the estimated maximum model length is 46464"\n'
        "  set --max-model-len 46464 or less, or give the cache more: --gpu-memory-utilization, on a CPU env.VLLM_CPU_KVCACHE_SPACE",
    ),
    (
        "context-over-models",
        "models/m.yml:3: the context is longer than the model's: \"User-specified max_model_len (16384) is greater than the derived max_model_len (max_position_embeddings=8192.0 or model_max_length=None in model's config.json)\"\n"
        "  set --max-model-len 8192 or less",
    ),
    (
        "disk-full",
        'HF_HOME: the disk is full: "No space left on device"\n'
        "  free some of it, or move HF_HOME to a larger one: vars.local.env",
    ),
    (
        "engine-killed",
        'models/m.yml:16: a process of the engine ended without a word, most likely because the machine is out of memory: "Engine core initialization failed. See root cause above. Failed core proc(s): {}"\n'
        "  serve a smaller or quantised model, on a CPU lower env.VLLM_CPU_KVCACHE_SPACE; `free -h` shows what there is",
    ),
    (
        "gated-token",
        'secrets/HF_TOKEN: the token\'s account has no access to this gated model: "Cannot access gated repo for url http://127.0.0.1:8080/org/gated/resolve/main/config.json"\n'
        "  ask for access at https://huggingface.co/org/model with that account",
    ),
    (
        "gated",
        'secrets/HF_TOKEN: the model is gated, and there is no token: "Cannot access gated repo for url http://127.0.0.1:8080/org/gated/resolve/main/config.json"\n'
        "  ask for access at https://huggingface.co/org/model, then put the token of an account that may read it into secrets/HF_TOKEN",
    ),
    (
        "hub-broken",
        "models/m.yml:2: the hub cannot be reached (Server error '503 Service Unavailable' for url 'http://127.0.0.1:8080/org/broken/resolve/main/config.json'): \"We couldn't connect to 'http://127.0.0.1:8080' to load the files\"\n"
        "  see to the network, the proxy and HF_ENDPOINT, or serve a folder: vllm serve /FOLDER",
    ),
    (
        "hub-dns",
        "models/m.yml:2: the hub cannot be reached ([Errno -2] Name or service not known): \"We couldn't connect to 'http://hub.invalid' to load the files\"\n"
        "  see to the network, the proxy and HF_ENDPOINT, or serve a folder: vllm serve /FOLDER",
    ),
    (
        "hub-offline",
        'models/m.yml:2: the model is not in the cache, and HF_HUB_OFFLINE forbids fetching it: "Cannot find an appropriate cached snapshot folder for the specified revision on the local disk and outgoing traffic has been disabled"\n'
        "  unset HF_HUB_OFFLINE once, or serve a folder: vllm serve /FOLDER",
    ),
    (
        "hub-refused",
        "models/m.yml:2: the hub cannot be reached ([Errno 111] Connection refused): \"We couldn't connect to 'http://127.0.0.1:9' to load the files\"\n"
        "  see to the network, the proxy and HF_ENDPOINT, or serve a folder: vllm serve /FOLDER",
    ),
    (
        "invalid-choice",
        "models/m.yml:9: vLLM refuses a flag's value: \"argument --kv-cache-dtype: invalid choice: 'fp7' (choose from 'auto', 'bfloat16', 'float16', 'fp8', 'fp8_ds_mla', 'fp8_e4m3', 'fp8_e5m2', 'fp8_inc', 'fp8_per_token_head', 'int4_per_token_head', 'int8_per_token_head', 'nvfp4', 'nvfp4_4over6', 'nvfp4_ds_mla', 'turboquant_3bit_nc', …\"\n"
        "  correct it, or take the flag out",
    ),
    (
        "load-format-of-gpus",
        "models/m.yml:12: this way to read the weights needs a GPU: \"Invalid device string: 'cuda:cpu'\"\n"
        "  take --load-format out",
    ),
    (
        "memory-kv-space",
        'models/m.yml:16: the machine has too little memory free for the KV cache: "Available memory on node 0 (18.41/21.84 GiB) on kv cache allocation is less than requested memory for kv (400.0 GiB)"\n'
        "  set env.VLLM_CPU_KVCACHE_SPACE to fewer than 18.41 GiB, or end other programs",
    ),
    (
        "memory-none-for-cache",
        'models/m.yml:4: the weights leave no memory for the KV cache: "No available memory for the cache blocks"\n'
        "  raise --gpu-memory-utilization, on a CPU env.VLLM_CPU_KVCACHE_SPACE; or lower --max-num-seqs, spread it over GPUs with --tensor-parallel-size, or serve a smaller or quantised model",
    ),
    (
        "memory-utilization",
        'models/m.yml:4: the machine has too little memory free: "Available memory on node 0 (18.73/21.84 GiB) on startup is less than desired CPU memory utilization (0.99, 21.62 GiB)"\n'
        "  end other programs, or set --gpu-memory-utilization, which counts on a CPU too, to 0.85 or less",
    ),
    (
        "missing-config",
        "models/m.yml:2: there is no config.json: \"Invalid repository ID or local directory specified: '/models/noconfig'\"\n"
        "  look into the folder or repository",
    ),
    (
        "missing-folder-online",
        "models/m.yml:2: there is no such folder: \"Repo id must be in the form 'repo_name' or 'namespace/repo_name': '/models/nothing'\"\n"
        "  correct the path; a container sees only what is mounted into it",
    ),
    (
        "missing-folder",
        "models/m.yml:2: there is no such folder: \"Repo id must be in the form 'repo_name' or 'namespace/repo_name': '/models/nothing'\"\n"
        "  correct the path; a container sees only what is mounted into it",
    ),
    (
        "missing-module",
        "models/m.yml:12: what reads the weights in that way is not installed: \"No module named 'runai_model_streamer'\"\n"
        "  take --load-format out",
    ),
    (
        "missing-tokenizer",
        'models/m.yml:2: there is no tokenizer: "Couldn\'t instantiate the backend tokenizer from one of"\n'
        "  look into the folder or repository: vLLM reads tokenizer.json",
    ),
    (
        "missing-weights",
        'models/m.yml:2: there are no weights: "Cannot find any model weights with `/models/noweights`"\n'
        "  look into the folder or repository: vLLM reads *.safetensors",
    ),
    (
        "no-kernel",
        'models/m.yml:7: this build of vLLM has no kernel for that on this hardware: "_C::static_scaled_fp8_quant() expected at most 0 argument(s)"\n'
        "  take the quantization, KV cache type or backend out that the command asks for, or serve other weights",
    ),
    (
        "port-in-use",
        'ENGINE_PORT: the port is taken: "[Errno 98] Address already in use"\n'
        "  end what listens there (ss -ltnp), or set another: ENGINE_PORT",
    ),
    (
        "quantization-other",
        'models/m.yml:7: the model is not quantised in that way: "Cannot find the config file for modelopt_fp4"\n'
        "  take --quantization out: config.json tells it",
    ),
    (
        "quantization-unknown",
        'models/m.yml:7: vLLM has no such quantization: "Unknown quantization method: bitsandbytes"\n'
        "  serve weights in another format, or set another --quantization",
    ),
    (
        "remote-code",
        'models/m.yml:2: the model brings Python code of its own: "The repository /models/remote contains custom code which must be executed"\n'
        "  if you trust its author, add --trust-remote-code",
    ),
    (
        "repo-missing-token",
        'models/m.yml:2: there is no such repository for this token: "org/missing is not a local folder and is not a valid model identifier"\n'
        "  correct its name, or put the token of an account that may read it into secrets/HF_TOKEN",
    ),
    (
        "repo-missing",
        'models/m.yml:2: there is no such repository, or it is private: "org/missing is not a local folder and is not a valid model identifier"\n'
        "  correct its name, or put the token of an account that may read it into secrets/HF_TOKEN",
    ),
    (
        "repo-name",
        "models/m.yml:2: that is no name of a repository: \"Repo id must be in the form 'repo_name' or 'namespace/repo_name': 'org/smol/x'\"\n"
        "  write it as ORGANISATION/MODEL, or the path of a folder from / on",
    ),
    (
        "revision-missing",
        'models/m.yml:17: the repository has no such revision: "nope is not a valid git identifier"\n'
        "  set the commit, tag or branch that https://huggingface.co/org/model shows",
    ),
    (
        "tensor-parallel-odd",
        'models/m.yml:6: the model cannot be split so: "Total number of attention heads (9) must be divisible by tensor parallel size (8)"\n'
        "  set --tensor-parallel-size to a divisor of 9",
    ),
    (
        "too-few-numa-nodes",
        'models/m.yml:6: the CPU has too few NUMA nodes to split the model over: "Not enough allowed NUMA nodes to bind threads of 3 local CPUWorkers. Allowed NUMA nodes are [0]"\n'
        "  take --tensor-parallel-size out, or set it to their number",
    ),
    (
        "unauthorised",
        "models/m.yml:2: the hub does not let the model be read: \"Client error '401 Unauthorized' for url 'http://127.0.0.1:8080/org/missing/resolve/main/config.json'\"\n"
        "  correct its name, or put the token of an account that may read it into secrets/HF_TOKEN",
    ),
    (
        "unknown-architecture",
        "models/m.yml:2: this vLLM does not know the model's architecture: \"Model architectures ['FooForCausalLM'] are not supported for now\"\n"
        "  serve another model, or set image: to a newer vLLM, if that knows it",
    ),
    (
        "unknown-model-type",
        "models/m.yml:2: this vLLM's Transformers does not know the model's type: \"The checkpoint you are trying to load has model type `foo` but Transformers does not recognize this architecture\"\n"
        "  serve another model, or set image: to a newer vLLM, if that knows it",
    ),
    (
        "unrecognised",
        'models/m.yml:14: vLLM does not know a flag: "unrecognized arguments: --enable-magic"\n'
        "  correct it or take it out: `vllm serve --help=all` lists the flags",
    ),
    (
        "value-not-a-number",
        "models/m.yml:3: vLLM refuses a flag's value: \"argument --max-model-len: invalid human_readable_int_or_auto value: 'many'\"\n"
        "  correct it, or take the flag out",
    ),
    (
        "value-out-of-range",
        'models/m.yml:4: vLLM refuses a flag\'s value: "gpu_memory_utilization: Input should be less than or equal to 1"\n'
        "  correct it, or take the flag out",
    ),
    (
        "weights-cut-off",
        'models/m.yml:2: a file with weights is cut off or only a Git LFS pointer: "Error while deserializing header: incomplete metadata, file not fully covered"\n'
        "  delete it and fetch it again",
    ),
    (
        "weights-lfs-pointer",
        'models/m.yml:2: a file with weights is cut off or only a Git LFS pointer: "MemoryError (in parse_safetensors_file_metadata)"\n'
        "  delete it and fetch it again",
    ),
    (
        "worker-killed",
        'models/m.yml:16: a process of the engine ended without a word, most likely because the machine is out of memory: "Engine core initialization failed. See root cause above. Failed core proc(s): {}"\n'
        "  serve a smaller or quantised model, on a CPU lower env.VLLM_CPU_KVCACHE_SPACE; `free -h` shows what there is",
    ),
]

# Where the message stands (file and line in vLLM 0.32.0, unless said), as it would read, and what is made of it.
WRITTEN = [
    (
        "vllm/v1/worker/utils.py:763",
        "ValueError: Free memory on device cuda:0 (12.34/79.1 GiB) on startup is less than desired GPU memory utilization (0.99, 78.31 GiB). Decrease GPU memory utilization or reduce GPU memory used by other processes.",
        'models/m.yml:4: something else uses the GPU\'s memory: "Free memory on device cuda:0 (12.34/79.1 GiB) on startup is less than desired GPU memory utilization (0.99, 78.31 GiB)"\n'
        "  end it (nvidia-smi), or set --gpu-memory-utilization to 0.15 or less",
    ),
    (
        "torch: c10/cuda/CUDACachingAllocator.cpp",
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.50 GiB. GPU 0 has a total capacity of 79.10 GiB of which 1.03 GiB is free. Process 4711 has 78.06 GiB memory in use. Of the allocated memory 76.90 GiB is allocated by PyTorch, and 204.05 MiB is reserved by PyTorch but unallocated.",
        'models/m.yml:4: the GPU is out of memory: "CUDA out of memory. Tried to allocate 1.50 GiB. GPU 0 has a total capacity of 79.10 GiB of which 1.03 GiB is free"\n'
        "  end what else uses it (nvidia-smi), lower --gpu-memory-utilization, lower --max-num-seqs, spread it over GPUs with --tensor-parallel-size, or serve a smaller or quantised model",
    ),
    (
        "vllm/v1/worker/gpu_model_runner.py:5991",
        "RuntimeError: CUDA out of memory occurred when warming up sampler with 256 dummy requests. Please try lowering `max_num_seqs` or `gpu_memory_utilization` when initializing the engine.",
        'models/m.yml:5: the GPU\'s memory does not suffice for so many requests at once: "CUDA out of memory occurred when warming up sampler with 256 dummy requests"\n'
        "  lower --max-num-seqs or --gpu-memory-utilization",
    ),
    (
        "vllm/v1/core/kv_cache_utils.py:1030 without an estimate",
        "ValueError: To serve at least one request with the model's max seq len (131072), (16.0 GiB KV cache is needed, which is larger than the available KV cache memory (0.01 GiB). Try increasing `gpu_memory_utilization` (which also controls CPU memory on the CPU backend) or decreasing `max_model_len` when initializing the engine.",
        'models/m.yml:3: not even a short context fits into the KV cache: "To serve at least one request with the model\'s max seq len (131072), (16.0 GiB KV cache is needed, which is larger than the available KV cache memory (0.01 GiB)"\n'
        "  lower --max-model-len, or give the cache more: --gpu-memory-utilization, on a CPU env.VLLM_CPU_KVCACHE_SPACE",
    ),
    (
        "vllm before 0.9: v0 worker",
        "ValueError: The model's max seq len (131072) is larger than the maximum number of tokens that can be stored in KV cache (46464). Try increasing `gpu_memory_utilization` or decreasing `max_model_len` when initializing the engine.",
        'models/m.yml:3: the context does not fit into the KV cache: "max seq len (131072) is larger than the maximum number of tokens that can be stored in KV cache (46464)"\n'
        "  set --max-model-len 46464 or less, or give the cache more: --gpu-memory-utilization, on a CPU env.VLLM_CPU_KVCACHE_SPACE",
    ),
    (
        "vllm/config/parallel.py:1053",
        "pydantic_core._pydantic_core.ValidationError: 1 validation error for ParallelConfig\n  Value error, World size (8) is larger than the number of available GPUs (2) in this node. If this is intentional and you are using:\n- ray, set '--distributed-executor-backend ray'.\n- multiprocessing, set '--nnodes' appropriately. [type=value_error, input_value=ArgsKwargs(()), input_type=ArgsKwargs]",
        'models/m.yml:6: the command wants more GPUs than there are: "World size (8) is larger than the number of available GPUs (2) in this node"\n'
        "  tensor, pipeline and data parallel size, multiplied, may be 2 at most",
    ),
    (
        "vllm/v1/worker/gpu_worker.py:493",
        "AssertionError: DP adjusted local rank 3 is out of bounds for 1 devices.",
        'models/m.yml:6: the command wants more GPUs than there are: "DP adjusted local rank 3 is out of bounds for 1 devices"\n'
        "  tensor, pipeline and data parallel size, multiplied, may be what nvidia-smi shows at most",
    ),
    (
        "vllm/config/vllm.py:903",
        "ValueError: The quantization method fp8 is not supported for the current GPU. Minimum capability: 75. Current capability: 70.",
        'models/m.yml:7: this GPU cannot compute with that quantization: "The quantization method fp8 is not supported for the current GPU. Minimum capability: 75. Current capability: 70"\n'
        "  serve weights in another format, or set another --quantization",
    ),
    (
        "vllm/config/model.py:1446",
        "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig\n  Value error, Quantization method specified in the model config (awq) does not match the quantization method specified in the `quantization` argument (fp8). [type=value_error, input_value=ArgsKwargs(()), input_type=ArgsKwargs]",
        'models/m.yml:7: the model is not quantised in that way: "Quantization method specified in the model config (awq) does not match the quantization method specified in the `quantization` argument (fp8)"\n'
        "  take --quantization out: config.json tells it",
    ),
    (
        "vllm/config/vllm.py:910",
        "ValueError: torch.bfloat16 is not supported for quantization method awq. Supported dtypes: [torch.float16]",
        'models/m.yml:11: the quantization does not go with the dtype: "torch.bfloat16 is not supported for quantization method awq. Supported dtypes: [torch.float16]"\n'
        "  set --dtype to one of those",
    ),
    (
        "vllm/platforms/cuda.py:442",
        "ValueError: Selected backend AttentionBackendEnum.FLASHINFER is not valid for this configuration. Reason: ['compute capability not supported']",
        "models/m.yml:10: this hardware or model does not go with that attention backend: \"Selected backend AttentionBackendEnum.FLASHINFER is not valid for this configuration. Reason: ['compute capability not supported']\"\n"
        "  take --attention-backend out: vLLM chooses one",
    ),
    (
        "vllm/platforms/cuda.py:442, vllm/v1/attention/backend.py:304",
        "ValueError: Selected backend AttentionBackendEnum.FLASHINFER is not valid for this configuration. Reason: ['kv_cache_dtype not supported']",
        "models/m.yml:9: no attention backend of this hardware takes that KV cache: \"Selected backend AttentionBackendEnum.FLASHINFER is not valid for this configuration. Reason: ['kv_cache_dtype not supported']\"\n"
        "  set --kv-cache-dtype auto",
    ),
    (
        "vllm/platforms/cuda.py:471",
        "ValueError: No valid attention backend found for cuda with AttentionSelectorConfig(head_size=80, dtype=torch.bfloat16, kv_cache_dtype=auto, block_size=16). Reasons: {FLASH_ATTN: [head_size not supported]}.",
        'models/m.yml:10: no attention backend takes this model on this hardware: "No valid attention backend found for cuda with AttentionSelectorConfig(head_size=80, dtype=torch.bfloat16, kv_cache_dtype=auto, block_size=16). Reasons: {FLASH_ATTN: [head_size not supported]}."\n'
        "  serve another model, or take those flags out",
    ),
    (
        "vllm/platforms/cuda.py:649",
        "ValueError: Bfloat16 is only supported on GPUs with compute capability of at least 8.0. Your Tesla T4 GPU has compute capability 7.5. You can use float16 instead by explicitly setting the `dtype` flag in CLI, for example: --dtype=half.",
        'models/m.yml:11: this GPU cannot compute in bfloat16: "Bfloat16 is only supported on GPUs with compute capability of at least 8.0"\n'
        "  set --dtype half",
    ),
    (
        "CUDA: cudaErrorNoKernelImageForDevice",
        "torch.AcceleratorError: CUDA error: no kernel image is available for execution on the device",
        'models/m.yml:7: this build of vLLM has no kernel for that on this hardware: "no kernel image is available for execution on the device"\n'
        "  take the quantization, KV cache type or backend out that the command asks for, or serve other weights",
    ),
    (
        "vllm/config/device.py:56",
        "RuntimeError: Failed to infer device type, please set the environment variable `VLLM_LOGGING_LEVEL=DEBUG` to turn on verbose logging to help debug the issue.",
        'engine: vLLM sees no GPU: "Failed to infer device type"\n'
        "  see whether nvidia-smi does, in the container too; to do without natively: ENGINE_BUILD=cpu",
    ),
    (
        "torch: torch/csrc/cuda, c10/cuda/CUDAFunctions.cpp",
        "RuntimeError: The NVIDIA driver on your system is too old (found version 11040). Please update your GPU driver by downloading and installing a new version from the URL: http://www.nvidia.com/Download/index.aspx",
        'engine: the GPU\'s driver is too old: "The NVIDIA driver on your system is too old (found version 11040)"\n'
        "  update the NVIDIA driver (nvidia-smi shows it), or set image: to a vLLM for the CUDA it has",
    ),
    (
        "CUDA: cudaErrorNoDevice, c10/cuda/CUDAFunctions.cpp",
        "RuntimeError: No CUDA GPUs are available",
        'engine: vLLM sees no GPU: "No CUDA GPUs are available"\n'
        "  see whether nvidia-smi does, in the container too; to do without natively: ENGINE_BUILD=cpu",
    ),
    (
        "dlopen",
        "ImportError: libnuma.so.1: cannot open shared object file: No such file or directory",
        'models/m.yml:2: a part that this needs is not installed: "libnuma.so.1: cannot open shared object file"\n'
        "  take out the flag that asks for it, or set image: to one that has it",
    ),
    (
        "vllm/model_executor/models/registry.py:1191",
        "ValueError: Model architecture MotifForCausalLM was supported in vLLM until v0.10.2, and is not supported anymore. Please use an older version of vLLM if you want to use this model architecture.",
        'models/m.yml:2: this vLLM no longer knows the model\'s architecture: "Model architecture MotifForCausalLM was supported in vLLM until v0.10.2"\n'
        "  serve another model, or set image: vllm/vllm-openai:v0.10.2",
    ),
    (
        "huggingface_hub/utils/_http.py:974",
        "huggingface_hub.errors.HfHubHTTPError: \n\n429 Too Many Requests: you have reached your 'api' rate limit.\nRetry after 12 seconds\nUrl: https://huggingface.co/api/models/org/model.",
        "secrets/HF_TOKEN: the hub lets nobody ask so often: \"429 Too Many Requests: you have reached your 'api' rate limit. Retry after 12 seconds\"\n"
        "  wait, or put a token into secrets/HF_TOKEN",
    ),
    (
        "transformers/utils/hub.py:471",
        "OSError: org/model does not appear to have a file named tokenizer.json. Checkout 'https://huggingface.co/org/model/tree/main' for available files.",
        'models/m.yml:2: a file is missing: "org/model does not appear to have a file named tokenizer.json"\n'
        "  look into the folder or repository",
    ),
    (
        "vllm/renderers/chat_utils.py:1479",
        "vllm.exceptions.VLLMValidationError: The supplied chat template string (/templates/a.jinja) appears path-like, but doesn't exist! Tried: /templates/a.jinja and /opt/engine/chat_templates/a.jinja",
        'models/m.yml:1: there is no such chat template: "The supplied chat template string (/templates/a.jinja) appears path-like, but doesn\'t exist"\n'
        "  correct the path; a container sees only what is mounted",
    ),
    (
        "vllm/v1/engine/utils.py:1431",
        "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {'EngineCore_DP0': -9}",
        "models/m.yml:2: a process was killed, most likely because the machine is out of memory: \"'EngineCore_DP0': -9\"\n"
        "  serve a smaller or quantised model, on a CPU lower env.VLLM_CPU_KVCACHE_SPACE; `free -h` shows what there is",
    ),
    (
        "vllm/v1/engine/utils.py:1431 on a processor without AVX2",
        "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {'EngineCore': -4}",
        "engine: the processor lacks instructions that this build of vLLM uses: \"'EngineCore': -4\"\n"
        "  serve on a newer machine",
    ),
]


def _log(name: str) -> str:
    return (LOGS / f"{name}.log").read_text("utf-8")


def _in_the_engine(error: str) -> str:
    """An exception as the engine's process logs it; the API server, which gave up for it, comes after."""
    said = "(EngineCore pid=101) ERROR 11-24 11:25:09 [core.py:1510] "
    lines = ["EngineCore failed to start.", "Traceback (most recent call last):", '  File "a.py", line 1, in f', "    f()"]
    wrapper = "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {'EngineCore': 1}"
    return "\n".join([*(said + line for line in [*lines, *error.split("\n")]), lines[1], lines[2], wrapper])


@pytest.mark.parametrize(("name", "problem"), RECORDED, ids=[name for name, _ in RECORDED])
def test_recorded(make_fragment: Make, name: str, problem: str) -> None:
    token = name.endswith("-token")
    assert str(diagnosis.diagnose(_log(name), make_fragment(TEXT), exit_code=1, has_token=token)) == f"error: {problem}"


@pytest.mark.parametrize(("source", "error", "problem"), WRITTEN, ids=[source for source, _, _ in WRITTEN])
def test_written_from_the_source(make_fragment: Make, source: str, error: str, problem: str) -> None:
    assert str(diagnosis.explain(_in_the_engine(error), make_fragment(TEXT))) == f"error: {problem}"


def test_every_log_is_expected() -> None:
    assert {path.stem for path in LOGS.glob("*.log")} == {name for name, _ in RECORDED} | {"healthy"}


def test_a_healthy_start_gives_no_diagnosis(make_fragment: Make) -> None:
    log = _log("healthy")
    assert "Application startup complete" in log
    for part in (log, log[: log.index("Application startup")]):
        assert log_errors.chains(part) == []
        assert diagnosis.explain(part, make_fragment(TEXT)) is None


def test_only_the_last_start_counts(make_fragment: Make) -> None:
    made = make_fragment(TEXT)
    assert diagnosis.explain(_log("gated") + _log("healthy"), made) is None
    assert diagnosis.explain(_log("healthy") + _log("gated"), made) == diagnosis.explain(_log("gated"), made)


def test_killed(make_fragment: Make) -> None:
    log, made = _log("healthy").split("INFO:")[0], make_fragment(TEXT)
    known = diagnosis.diagnose(log, made, oom_killed=True)
    assert known.place == "models/m.yml:16"
    assert known.what == "the kernel killed the engine: the machine, or the container's share, is out of memory"
    assert known.cure.startswith("serve a smaller or quantised model")
    for status in (137, -9):
        guess = diagnosis.diagnose(log, make_fragment("command: vllm serve m\n"), exit_code=status)
        assert guess.place == "models/m.yml:1"
        assert guess.what == "the engine was killed, most likely because the machine is out of memory"
    assert str(diagnosis.diagnose(log, made, exit_code=3)) == (
        "error: engine: ended with status 3 and says no error\n  see ./runMe.sh logs engine"
    )


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("command: vllm serve m --max-model-len 9\n", "1"),
        ("command: |\n  vllm serve m \\\n\n    --max_model_len=9\n", "4"),
        ("command: >-\n  vllm serve m\n  --max-model-len 9\n", "2"),
        ("command: |\n  vllm serve m # --max-model-len 9\n  --max-model-len-x 9\n  --dtype auto\n", "1"),
        ("description: d\ncommand: |\n  vllm serve m\n", "2"),
    ],
    ids=["one-line", "underscores", "folded", "in-a-comment", "not-there"],
)
def test_the_line_of_a_flag(make_fragment: Make, text: str, place: str) -> None:
    found = diagnosis.explain(_log("context-over-models"), make_fragment(text))
    assert found is not None
    assert found.place == f"models/m.yml:{place}"


def test_workers_that_talk_at_once(make_fragment: Make) -> None:
    one, two = (f"(Worker_TP{n} pid=10{n}) ERROR 11-24 11:25:09 [multiproc_executor.py:953] " for n in (1, 2))
    log = [one + "Traceback (most recent call last):", two + "Traceback (most recent call last):"]
    log += [one + "    frame", two + "    frame", "\x1b[31m" + two + "RuntimeError: NCCL error: unhandled\x1b[0m"]
    log += [one + "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.00 GiB.", two + "more about NCCL"]
    assert log_errors.chains("\n".join(log)) == [
        ("RuntimeError: NCCL error: unhandled\nmore about NCCL",),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.00 GiB.",),
    ]
    found = diagnosis.explain("\n".join(log), make_fragment())
    assert found is not None
    assert found.what == 'the GPU is out of memory: "CUDA out of memory"'


def test_anything_else_is_quoted(make_fragment: Make) -> None:
    found = diagnosis.explain(_in_the_engine("foo.BarError: it\nbroke " + "x " * 200), make_fragment())
    assert found is not None
    assert (found.place, found.cure) == ("engine", "see ./runMe.sh logs engine")
    assert found.what.startswith('vLLM failed: "foo.BarError: it broke x x')
    assert found.what.endswith(' x …"')


def test_the_end_of_a_log_that_is_cut_off_in_a_traceback(make_fragment: Make) -> None:
    log = _log("missing-weights")
    rest = log[log.index("Traceback") + 40 :]
    assert diagnosis.explain(rest, make_fragment(TEXT)) == diagnosis.explain(log, make_fragment(TEXT))


def test_the_rank_before_each_line_of_a_traceback(make_fragment: Make) -> None:
    lines = ["Traceback (most recent call last):", '  File "a.py", line 1, in load', "    f()", "AssertionError"]
    assert log_errors.chains("\n".join(f"[rank0]: {line}" for line in lines)) == [("AssertionError (in load)",)]
