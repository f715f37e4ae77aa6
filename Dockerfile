# vllm-node: a pinned vLLM and the little that the entrypoint needs besides.
# Models change without a rebuild: scripts, fragments and vars.env are mounted, not copied.
ARG VLLM_IMAGE=vllm/vllm-openai:v0.32.0
FROM ${VLLM_IMAGE}

SHELL ["/bin/bash", "-o", "pipefail", "-c"]
WORKDIR /app

# What the generator imports beyond vLLM's own packages, and the parallel weight loader; versions and hashes as locked.
COPY scripts/requirements/image.txt /tmp/requirements.txt
RUN python3 -m pip install --no-cache-dir --no-deps --require-hashes -r /tmp/requirements.txt \
    && rm /tmp/requirements.txt

# The generated files go to a volume; the folder has to be there and belong to whoever runs the engine.
RUN mkdir -p /app/generated_configs

ENTRYPOINT ["/app/scripts/entrypoint.sh"]
