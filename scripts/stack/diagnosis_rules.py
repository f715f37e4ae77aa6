"""The ways in which vLLM fails to load a model, as a table. The messages are those of vLLM 0.32.0 and its libraries."""

from __future__ import annotations

from stack.diagnosis_rule import Rule

# fmt: off
_SIZES = r"\((?P<free>[\d.]+)/(?P<total>[\d.]+) GiB\)"
_MORE_CACHE = "or give the cache more: --gpu-memory-utilization, on a CPU env.VLLM_CPU_KVCACHE_SPACE"
_SMALLER = "lower --max-num-seqs, spread it over GPUs with --tensor-parallel-size, or serve a smaller or quantised model"
HOST_MEMORY = "serve a smaller or quantised model, on a CPU lower env.VLLM_CPU_KVCACHE_SPACE; `free -h` shows what there is"
_TP = "--tensor-parallel-size -tp"
_GPUS = f"{_TP} --data-parallel-size -dp --pipeline-parallel-size -pp"
_OTHER_FORMAT = "serve weights in another format, or set another --quantization"
_NEWER = "serve another model, or set image: to a newer vLLM, if that knows it"
_TOKEN = "put the token of an account that may read it into secrets/HF_TOKEN"  # noqa: S105 (what to do about one)
_ACCESS = "ask for access at https://huggingface.co/{model}"
_FOLDER = "or serve a folder: vllm serve /FOLDER"
_DRIVER = "update the NVIDIA driver (nvidia-smi shows it), or set image: to a vLLM for the CUDA it has"

# The first rule that fits any of the log's errors wins. What fails late in a start therefore stands before what fails
# early (it was got past), and the telling before the general.
RULES = (
    # Memory
    Rule(r"CUDA out of memory occurred when warming up \w+ with \d+ dummy requests",
         "the GPU's memory does not suffice for so many requests at once",
         "lower --max-num-seqs or --gpu-memory-utilization", "--max-num-seqs"),
    Rule(r"(CUDA|HIP) (error: )?out of memory(\. Tried to allocate .*?is free)?",
         "the GPU is out of memory",
         f"end what else uses it (nvidia-smi), lower --gpu-memory-utilization, {_SMALLER}", "--gpu-memory-utilization"),
    Rule(rf"Free memory on device \S+ {_SIZES} on startup is less than desired GPU memory utilization \([^)]*\)",
         "something else uses the GPU's memory",
         "end it (nvidia-smi), or set --gpu-memory-utilization to {share} or less", "--gpu-memory-utilization"),
    Rule(rf"Available memory on node \d+ {_SIZES} on startup is less than desired CPU memory utilization \([^)]*\)",
         "the machine has too little memory free",
         "end other programs, or set --gpu-memory-utilization, which counts on a CPU too, to {share} or less",
         "--gpu-memory-utilization"),
    Rule(rf"Available memory on node \d+ {_SIZES} on kv cache allocation is less than requested memory for kv \([^)]*\)",
         "the machine has too little memory free for the KV cache",
         "set env.VLLM_CPU_KVCACHE_SPACE to fewer than {free} GiB, or end other programs",
         "env.VLLM_CPU_KVCACHE_SPACE --kv-cache-memory-bytes --gpu-memory-utilization"),
    Rule(r"No available memory for the cache blocks",
         "the weights leave no memory for the KV cache",
         f"raise --gpu-memory-utilization, on a CPU env.VLLM_CPU_KVCACHE_SPACE; or {_SMALLER}",
         "--gpu-memory-utilization env.VLLM_CPU_KVCACHE_SPACE"),
    Rule(r"To serve at least one request with the models?'s max seq len.*?estimated maximum model length is (?P<fits>\d+)",
         "the context does not fit into the KV cache",
         f"set --max-model-len {{fits}} or less, {_MORE_CACHE}", "--max-model-len"),
    Rule(r"To serve at least one request with the models?'s max seq len \(.*?available KV cache memory \([^)]*\)",
         "not even a short context fits into the KV cache",
         f"lower --max-model-len, {_MORE_CACHE}", "--max-model-len"),
    Rule(r"max seq len \(\d+\) is larger than the maximum number of tokens that can be stored in KV cache \((?P<fits>\d+)\)",
         "the context does not fit into the KV cache",  # before vLLM 0.9; an image: may be that old
         f"set --max-model-len {{fits}} or less, {_MORE_CACHE}", "--max-model-len"),
    Rule(r"DefaultCPUAllocator: can't allocate memory[^.]*|Cannot allocate memory|\bMemoryError\b(?! \(in parse_safe)",
         "the machine is out of memory", HOST_MEMORY, "model"),

    # Weights
    Rule(r"No space left on device",
         "the disk is full", "free some of it, or move HF_HOME to a larger one: vars.local.env", "HF_HOME"),
    Rule(r"Cannot find any (safetensors )?model weights with `[^`]*`",
         "there are no weights", "look into the folder or repository: vLLM reads *.safetensors", "model"),
    Rule(r"Error while deserializing header: .*|MemoryError \(in parse_safetensors_file_metadata\)",
         "a file with weights is cut off or only a Git LFS pointer", "delete it and fetch it again", "model"),

    # Hardware and build
    Rule(r"World size \(\d+\) is larger than the number of available GPUs \((?P<gpus>\d+)\) in this node",
         "the command wants more GPUs than there are",
         "tensor, pipeline and data parallel size, multiplied, may be {gpus} at most", _GPUS),
    Rule(r"local_world_size \(\d+\) exceeds assigned_physical_gpu_ids count \(\d+\)|DP adjusted local rank \d+ is out of "
         r"bounds for \d+ devices|Error computing device indices for \w+: .*?\)",
         "the command wants more GPUs than there are",
         "tensor, pipeline and data parallel size, multiplied, may be what nvidia-smi shows at most", _GPUS),
    Rule(r"Total number of attention heads \((?P<heads>\d+)\) must be divisible by tensor parallel size \(\d+\)",
         "the model cannot be split so", "set --tensor-parallel-size to a divisor of {heads}", _TP),
    Rule(r"Not enough allowed NUMA nodes to bind threads of \d+ local CPUWorkers\. Allowed NUMA nodes are \[[^]]*\]",
         "the CPU has too few NUMA nodes to split the model over",
         "take --tensor-parallel-size out, or set it to their number", _GPUS),
    Rule(r"The quantization method \S+ is not supported for the current GPU\. Minimum capability: \d+\. Current [^.]*",
         "this GPU cannot compute with that quantization", _OTHER_FORMAT, "--quantization -q model"),
    Rule(r"\S+ quantization is currently not supported in \w+",
         "this hardware cannot compute with that quantization", _OTHER_FORMAT, "--quantization -q model"),
    Rule(r"Unknown quantization method: [\w-]+",
         "vLLM has no such quantization", _OTHER_FORMAT, "--quantization -q model"),
    Rule(r"Quantization method specified in the model config .*? argument \([\w-]+\)|Cannot find the config file for [\w-]+",
         "the model is not quantised in that way", "take --quantization out: config.json tells it", "--quantization -q"),
    Rule(r"\S+ is not supported for quantization method \S+\. Supported dtypes: \[[^]]*\]",
         "the quantization does not go with the dtype", "set --dtype to one of those", "--dtype --quantization -q model"),
    Rule(r"(Selected backend \S+ is not valid|No valid attention backend found) .*?kv_cache_dtype not supported[^]}]*[]}]+",
         "no attention backend of this hardware takes that KV cache", "set --kv-cache-dtype auto", "--kv-cache-dtype"),
    Rule(r"Selected backend \S+ is not valid for this configuration\. Reason: \[.*?\]",
         "this hardware or model does not go with that attention backend", "take --attention-backend out: vLLM chooses one",
         "--attention-backend env.VLLM_ATTENTION_BACKEND"),
    Rule(r"No valid attention backend found for .*",
         "no attention backend takes this model on this hardware", "serve another model, or take those flags out",
         "--attention-backend --kv-cache-dtype --block-size model"),
    Rule(r"Bfloat16 is only supported on GPUs with compute capability of at least 8\.0",
         "this GPU cannot compute in bfloat16", "set --dtype half", "--dtype"),
    Rule(r"_\w*C\w*::\w+\(\) expected at most 0 argument\(s\)|'_OpNamespace' '\w+' object has no attribute '\w+'"
         r"|no kernel image is available for execution on the device",
         "this build of vLLM has no kernel for that on this hardware",
         "take the quantization, KV cache type or backend out that the command asks for, or serve other weights",
         "--quantization -q --kv-cache-dtype --attention-backend model"),
    Rule(r"Invalid device string: 'cuda:cpu'",
         "this way to read the weights needs a GPU", "take --load-format out", "--load-format"),
    Rule(r"The NVIDIA driver on your system is too old \(found version \d+\)|CUDA driver version is insufficient for CUDA "
         r"runtime version|unsupported display driver / cuda driver combination|forward compatibility was attempted",
         "the GPU's driver is too old", _DRIVER, "engine"),
    Rule(r"No CUDA GPUs are available|Found no NVIDIA driver on your system|Failed to infer device type"
         r"|Torch not compiled with CUDA enabled|libcuda\.so\.1: cannot open shared object file",
         "vLLM sees no GPU", "see whether nvidia-smi does, in the container too; to do without natively: ENGINE_BUILD=cpu",
         "engine"),
    Rule(r"'\w+': -4\b|exit code: -4\b",
         "the processor lacks instructions that this build of vLLM uses", "serve on a newer machine", "engine"),

    # The model
    Rule(r"User-specified max_model_len \(\d+\) is greater than the derived max_model_len \(\w+=(?P<most>\d+).*?\)",
         "the context is longer than the model's", "set --max-model-len {most} or less", "--max-model-len"),
    Rule(r"The repository \S+ contains custom code which must be executed|requires you to execute (the configuration|custom)"
         r"|Failed to load the model config\. If the model is a custom model",
         "the model brings Python code of its own", "if you trust its author, add --trust-remote-code", "model"),
    Rule(r"Model architecture \S+ was supported in vLLM until (?P<last>v[\d.]+\d)",
         "this vLLM no longer knows the model's architecture", "serve another model, or set image: vllm/vllm-openai:{last}",
         "image model"),
    Rule(r"Model architectures \[[^]]*\] are not supported for now|Model architecture \S+ is not supported in-tree anymore",
         "this vLLM does not know the model's architecture", _NEWER, "image model"),
    Rule(r"The checkpoint .*? has model type `[^`]+` but Transformers does not recognize this architecture",
         "this vLLM's Transformers does not know the model's type", _NEWER, "image model"),
    Rule(r"Unrecognized model in \S+ Should have a `model_type` key in its config\.json",
         "config.json names no type of model", "look into the folder or repository", "model"),

    # The hub
    Rule(r"403 Client Error.*?(?P<quote>Cannot access gated repo for url \S+)\.",
         "the token's account has no access to this gated model", f"{_ACCESS} with that account", "secrets/HF_TOKEN"),
    Rule(r"401 Client Error.*?(?P<quote>Cannot access gated repo for url \S+)\.",
         "the model is gated, and the token is not accepted", f"{_TOKEN}; {_ACCESS}", "secrets/HF_TOKEN", True),
    Rule(r"401 Client Error.*?(?P<quote>Cannot access gated repo for url \S+)\.",
         "the model is gated, and there is no token", f"{_ACCESS}, then {_TOKEN}", "secrets/HF_TOKEN", False),
    Rule(r"401 Unauthorized.*?(?P<quote>Invalid credentials in Authorization header)",
         "the hub does not accept the token", "put a valid token into secrets/HF_TOKEN, or none", "secrets/HF_TOKEN"),
    Rule(r"Repository Not Found for url: \S+(?=\.)|\S+ is not a local folder and is not a valid model identifier",
         "there is no such repository for this token", f"correct its name, or {_TOKEN}", "model", True),
    Rule(r"Repository Not Found for url: \S+(?=\.)|\S+ is not a local folder and is not a valid model identifier",
         "there is no such repository, or it is private", f"correct its name, or {_TOKEN}", "model", False),
    Rule(r"Client error '40[13] \w+' for url '[^']*'",
         "the hub does not let the model be read", f"correct its name, or {_TOKEN}", "model"),
    Rule(r"Revision Not Found for url: \S+(?=\.)|\S+ is not a valid git identifier",
         "the repository has no such revision", "set the commit, tag or branch that https://huggingface.co/{model} shows",
         "--revision revision --tokenizer-revision --code-revision model"),
    Rule(r"429 Too Many Requests.*?(?= Url:|$)",
         "the hub lets nobody ask so often", "wait, or put a token into secrets/HF_TOKEN", "secrets/HF_TOKEN"),
    Rule(r"Repo id must .*?: '[~.]?/[^']*'",
         "there is no such folder", "correct the path; a container sees only what is mounted into it", "model"),
    Rule(r"Repo id must .*?: '[^']*'",
         "that is no name of a repository", "write it as ORGANISATION/MODEL, or the path of a folder from / on", "model"),
    Rule(r"Cannot find (an appropriate|the requested) .*? outgoing traffic has been disabled|offline mode is enabled",
         "the model is not in the cache, and HF_HUB_OFFLINE forbids fetching it", f"unset HF_HUB_OFFLINE once, {_FOLDER}",
         "env.HF_HUB_OFFLINE model"),
    Rule(r"We couldn't connect to '\S+' to load the files|An error happened while trying to locate the files? on the Hub"
         r"|httpx2?\.(Connect|Read|Write|Pool|RemoteProtocol)\w+",
         "the hub cannot be reached ({reason})", f"see to the network, the proxy and HF_ENDPOINT, {_FOLDER}",
         "env.HF_ENDPOINT model"),
    Rule(r"\S+ does not appear to have (a file|files) named .*?(?=\. )"
         r"|\[Errno 2\] No such file or directory: '[^']+\.(json|jinja|txt|model|safetensors|bin|gguf)'",
         "a file is missing", "look into the folder or repository", "model"),
    Rule(r"Couldn't instantiate the backend tokenizer from one of",
         "there is no tokenizer", "look into the folder or repository: vLLM reads tokenizer.json", "--tokenizer model"),
    Rule(r"Invalid repository ID or local directory specified: '[^']*'",
         "there is no config.json", "look into the folder or repository", "model"),

    # The command and its surroundings
    Rule(r"error: (?P<quote>unrecognized arguments: (?P<flag>--[\w.-]+).*)",
         "vLLM does not know a flag", "correct it or take it out: `vllm serve --help=all` lists the flags", "{flag}"),
    Rule(r"error: (?P<quote>argument (-\w+/)?(?P<flag>--[\w-]+).*?: .*)",
         "vLLM refuses a flag's value", "correct it, or take the flag out", "{flag}"),
    Rule(r"Error: (?P<quote>(?P<flag>--[\w-]+) requires (?P<other>--[\w-]+))",
         "a flag needs another one", "give {other} too, or take {flag} out", "{flag}"),
    Rule(r"The supplied chat template .*? appears path-like, but doesn't exist",
         "there is no such chat template", "correct the path; a container sees only what is mounted", "--chat-template"),
    Rule(r"invalid tool call parser: \S+",
         "vLLM has no such parser", "set one that it lists: ./runMe.sh logs engine", "--tool-call-parser"),
    Rule(r"invalid reasoning parser: \S+",
         "vLLM has no such parser", "set one that it lists: ./runMe.sh logs engine", "--reasoning-parser"),
    Rule(r"^(?P<flag>[a-z][a-z_]+): Input should be .*",
         "vLLM refuses a flag's value", "correct it, or take the flag out", "--{flag}"),
    Rule(r"\[Errno 98\] .*|EADDRINUSE",
         "the port is taken", "end what listens there (ss -ltnp), or set another: ENGINE_PORT", "ENGINE_PORT"),
    Rule(r"No module named '(fastsafetensors|runai_model_streamer|tensorizer|instanttensor)[\w.]*'"
         r"|Please install vllm\[(fastsafetensors|runai|tensorizer|instanttensor)\] for \w+ support",
         "what reads the weights in that way is not installed", "take --load-format out", "--load-format"),
    Rule(r"No module named '[\w.]+'|Please install vllm\[\w+\] for \w+ support|\S+: cannot open shared object file",
         "a part that this needs is not installed", "take out the flag that asks for it, or set image: to one that has it",
         "model"),

    # Last, as a worker that has failed for another reason is killed too
    Rule(r"'\w+': -9\b|exit code: -9\b",
         "a process was killed, most likely because the machine is out of memory", HOST_MEMORY, "model"),
)
# fmt: on
